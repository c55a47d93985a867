"""A page of 500 runs can be sent: under 2 MB, built without a deep-learning framework."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bench.environment.circumstances import CHECKOUT
from bench.experiment.config import change
from bench.records.record import Record
from reports.page import page

Make = dict[str, Callable[..., Any]]
LARGEST = 2_000_000  # bytes
CODE = (
    "import sys; from bench.__main__ import main; assert main(['report', 'build', sys.argv[1]]) == 0; "
    "print(*({'torch', 'open_clip', 'timm', 'sklearn'} & set(sys.modules)), file=sys.stderr)"
)


def renamed(record: Record, number: int) -> Record:
    """The same run of an experiment with another learning rate, under a name of its own."""
    assert record.experiment is not None
    name = f"{record.experiment.name}[learning_rate={number}e-5]"
    experiment = change(record.experiment, name=name, learning_rate=1e-5 * number)
    return replace(record, experiment=experiment)


def test_an_experiment_takes_less_than_an_80th_of_2_mb(make: Make) -> None:
    """Five rounds, memory and a training, with a chart of its own: 80 of them are 500 runs."""
    runs = [
        *(make["speed"]("catlip-tiny", number) for number in range(5)),
        make["memory"]("catlip-tiny"),
    ]
    runs.append(make["training"]("catlip-tiny", 0))

    def size(count: int) -> int:
        records = [renamed(one, number) for number in range(1, 1 + count) for one in runs]
        return len(page("many", records).encode())

    one, twenty = size(1), size(20)
    assert one + 79 * (twenty - one) / 19 < LARGEST


def test_a_page_of_many_rounds_and_seeds_is_under_2_mb_and_drawn_without_torch_or_warnings(
    make: Make, tmp_path: Path
) -> None:
    """Four experiments: 60 rounds, 13 seeds."""
    records = make["whole"](rounds=60, seeds=13)
    assert len(records) >= 498
    results = make["written"](records, tmp_path)
    command = [sys.executable, "-W", "error", "-c", CODE, str(results)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stderr == "\n"  # no frameworks
    assert (results / "index.html").stat().st_size < LARGEST
