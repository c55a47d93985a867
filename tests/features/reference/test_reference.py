"""Both sides of a comparison do the same: equal losses from equal weights, and it says so where they do not."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch
from msgspec.structs import replace

from bench.environment.circumstances import CHECKOUT
from bench.experiment.config import Experiment, change
from bench.features.reference import OPEN_CLIP, OPEN_CLIP_SIDES, OURS, WARMUP_STEPS
from bench.features.reference.records import ReferenceRun
from bench.features.reference.runs import train_side
from bench.features.reference.tables import (
    loss_comparison_table,
    reference_speed_table,
)
from bench.features.reference.timing import (
    MAX_COMPILED_WINDOWS,
    RAMP_STEPS,
    WindowTimer,
    reference_learning_rate,
)
from bench.records.record import Record
from tests.heated import heat_like_a_gpu
from tests.reports.conftest import HERE
from tests.small import small, two_blocks

CPU = torch.device("cpu")


def recorded(run: ReferenceRun, experiment: Experiment, precision: str = "fp32") -> Record:
    circumstances = replace(HERE, precision=precision)
    return Record(comparison="x", experiment=experiment, circumstances=circumstances, measured=run)


def equal_sides(records: list[Record]) -> list[str | None]:
    """Return whether the losses of each reference are equal to ours; None without ours."""
    return [row["equal"] for row in loss_comparison_table(records).rows]


def runs_of_all_sides(experiment: Experiment, results: Path) -> list[ReferenceRun]:
    return [train_side(experiment, CPU, results, side, 0) for side in OPEN_CLIP_SIDES]


def test_all_sides_have_equal_losses_of_one_step_with_each_batch(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heated sides take other numbers of steps before their windows."""
    heat_like_a_gpu(monkeypatch, 0.1)
    experiment = two_blocks("clip", clip_norm=None, steps_per_window=2, subset="random:96")
    runs = runs_of_all_sides(experiment, results)
    for run in runs:
        assert len(run.window_seconds) == experiment.timing.timed_windows
        assert len(run.losses) == WARMUP_STEPS + 2 * experiment.timing.timed_windows
        assert run.losses == pytest.approx(runs[0].losses, rel=1e-5)
    assert equal_sides([recorded(run, experiment) for run in runs]) == ["yes", "yes"]
    tokens = {run.side: run.tokens_per_caption for run in runs}
    assert tokens[OPEN_CLIP] == experiment.text.context_length > (tokens[OURS] or 0) > 3


def test_learning_rate_of_all_sides_stays_after_its_warm_up() -> None:
    """A GPU may take more steps while it is heated."""
    from open_clip_train.scheduler import const_lr

    experiment, optimizer = small("clip"), torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = const_lr(optimizer, experiment.optimizer.learning_rate, RAMP_STEPS, RAMP_STEPS)
    for step in (0, 7, RAMP_STEPS - 1, RAMP_STEPS, 3 * RAMP_STEPS):
        schedule(step)
        assert reference_learning_rate(experiment.optimizer, step) == pytest.approx(
            optimizer.param_groups[0]["lr"]
        )


def test_gpu_is_heated_by_whole_windows_before_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    heat_like_a_gpu(monkeypatch, 0.1)
    plain, heated = (
        WindowTimer(CPU, steps_per_window=3, num_windows=2, heats_gpu=False),
        WindowTimer(CPU, steps_per_window=3, num_windows=2),
    )
    assert [*plain.yield_and_time_steps()] == [*range(WARMUP_STEPS + 6)]
    taken = [*heated.yield_and_time_steps()]
    assert taken == [*range(len(taken))]
    assert len(taken) > WARMUP_STEPS + 6
    assert (len(taken) - WARMUP_STEPS) % 3 == 0
    assert len(heated.seconds) == 2


COMPILED = """
import sys
from functools import partial
from pathlib import Path

import msgspec
import torch

from bench.experiment.config import Experiment
from bench.features.reference import OPEN_CLIP_SIDES
from bench.features.reference.runs import train_side
from bench.profilers.counters import count_compiled_graphs
from tests import small  # and its towers

torch.compile = partial(torch.compile, backend="eager")
experiment = msgspec.json.decode(sys.argv[1], type=Experiment)
for side in OPEN_CLIP_SIDES:
    torch._dynamo.reset()  # equal steps would share their graphs
    before = count_compiled_graphs()
    run = train_side(experiment, torch.device("cpu"), Path(sys.argv[2]), side, 0)
    print(msgspec.json.encode([count_compiled_graphs() - before, run]).decode())
"""


@pytest.mark.slow
def test_step_is_compiled_on_all_sides_or_on_none(results: Path) -> None:
    """In a process whose shapes are not checked; dynamo hands its graphs to nobody."""
    experiment = two_blocks("clip", clip_norm=None, compile="on", text_padding="packed_rows")
    command = [
        sys.executable,
        "-c",
        COMPILED,
        msgspec.json.encode(experiment).decode(),
        str(results),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT)
    compiled = [
        msgspec.json.decode(line, type=tuple[int, ReferenceRun])
        for line in done.stdout.splitlines()
    ]
    eager = runs_of_all_sides(change(experiment, compile="off"), results)
    for (graphs, run), eager_run in zip(compiled, eager, strict=True):
        assert graphs > 0
        assert len(run.window_seconds) == experiment.timing.timed_windows
        assert run.losses[: len(eager_run.losses)] == pytest.approx(eager_run.losses, rel=1e-5)


def test_warm_up_lasts_until_no_new_graph_appears(monkeypatch: pytest.MonkeyPatch) -> None:
    compiling, graphs, taken = {0, 3}, list[int](), list[int]()
    monkeypatch.setattr(
        "bench.features.reference.timing.count_compiled_graphs", lambda: len(graphs)
    )
    timer = WindowTimer(CPU, steps_per_window=2, num_windows=2)
    for k in timer.yield_and_time_steps():
        taken.append(k)
        graphs += {k} & compiling
    assert taken == [*range(WARMUP_STEPS + 2 * 3)]
    assert len(timer.seconds) == 2
    always = iter(range(2 * (MAX_COMPILED_WINDOWS + 1)))
    monkeypatch.setattr(
        "bench.features.reference.timing.count_compiled_graphs", lambda: next(always)
    )
    with pytest.raises(RuntimeError, match="compiled new graphs: set text_padding=packed_rows"):
        [*WindowTimer(CPU, steps_per_window=2, num_windows=2).yield_and_time_steps()]


def test_all_sides_have_losses_of_half_precision_that_differ_by_its_rounding(results: Path) -> None:
    experiment = two_blocks(
        "clip", clip_norm=None, precision="bf16", steps_per_window=2, subset="random:96"
    )
    records = [recorded(run, experiment, "bf16") for run in runs_of_all_sides(experiment, results)]
    assert equal_sides(records) == ["yes", "yes"], loss_comparison_table(records).rows


def test_different_losses_are_reported_and_speeds_are_ratios() -> None:
    runs = []
    for round_ in range(5):
        seconds = 1 + round_ / 100
        run = ReferenceRun(
            side=OPEN_CLIP,
            round=round_,
            window_seconds=(2 * seconds,),
            losses=(1.0, 1.0),
            tokens_per_caption=None,
        )
        runs += [run, replace(run, side=OURS, window_seconds=(seconds,), losses=(1.0, 1.001))]
    records = [recorded(run, small("clip")) for run in runs]
    assert equal_sides(records) == ["no"]
    assert equal_sides([recorded(run, small("clip"), "bf16") for run in runs]) == ["yes"]
    assert equal_sides(records[::2]) == [None]
    base, ours = reference_speed_table(records, (OPEN_CLIP, OURS)).rows
    assert base["ratio"] is None
    assert (ours["ratio"], ours["verdict"]) == (pytest.approx(2), "faster")
