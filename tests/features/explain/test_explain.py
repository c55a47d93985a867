"""The verb, every run of it real: configurations are built, timed and judged, and an injected factor is found."""

import json
import shlex
import time
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.console.console import OK
from bench.features.explain.ladder import PADDING, TEXT_TOWER, ExperimentLadder
from bench.records.record import Speed, read_records
from tests.processes import InProcess

SETTINGS = shlex.split(
    "--set batch_size=8 --set subset=random:96 --set images_seen=96 --set warmup_images=0"
    " --set untimed_steps=1 --set timed_windows=2 --set steps_per_window=1"
)
TITLE = "From clip-tiny"


@pytest.fixture
def explain(own_results: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the verb on a folder of its own; return exit code and figures."""
    monkeypatch.setattr("bench.orchestration.preflight.Runner", InProcess)
    # Other tests run beside this one, and sleep takes no time but by the clocks of the runs.
    monkeypatch.setattr("bench.measure.speed.measure_or_estimate_lost_cores", lambda *_: 0.0)
    clock, slept = time.perf_counter, [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + sum(slept))
    monkeypatch.setattr(time, "sleep", slept.append)

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        figures = own_results / "figures.json"
        options = ["--results", str(own_results), "--json", str(figures)]
        code = main(["explain", *arguments, *SETTINGS, *options])
        return code, json.loads(figures.read_text()) if figures.exists() else {}

    return run


@pytest.mark.slow
def test_every_configuration_runs_and_an_injected_factor_is_attributed_to_itself(
    explain: Any, own_results: Path
) -> None:
    """It sleeps thirty-two times as long as it works: a busy machine makes no run that much slower than another."""
    words = (
        "catlip-tiny --baseline clip-tiny --extra-baseline-settings injected_slowdown=32 --rounds 2"
    )
    arguments = shlex.split(words)
    code, figures = explain(*arguments)
    table = next(
        table for title, table in figures.items() if "against" in title or title.startswith(TITLE)
    )
    rows = {row["cause"]: row for row in table["rows"]}
    assert rows["injected_slowdown"]["forward + backward"][0] > 2
    assert rows["injected_slowdown"]["whole step"][0] > 2
    of_sleep = rows["injected_slowdown"]["forward + backward"][0]
    assert all(rows[cause]["forward + backward"][0] < of_sleep for cause in (PADDING, TEXT_TOWER))
    assert rows["whole ratio"]["forward + backward"][0] > 2
    assert rows[PADDING]["FLOP-predicted"] > 1.05
    assert rows["injected_slowdown"]["FLOP-predicted"] == pytest.approx(1)
    assert code == OK
    records = read_records(own_results)
    ladders = [one.measured for one in records if isinstance(one.measured, ExperimentLadder)]
    speeds = [one for one in records if isinstance(one.measured, Speed)]
    assert len(ladders) == 1
    assert len(speeds) == 2 * len(ladders[0].rungs)
    again, same = explain(*arguments, "--resume")
    assert (again, same) == (code, figures)
    assert len(read_records(own_results)) == len(records)
    assert explain(*arguments[:3], "--resume")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["clip-tiny", "--baseline", "catlip-tiny"], "from a text tower to none, not back"),
        (["catlip-tiny", "--baseline", "clip-tinny"], "did you mean 'clip-tiny'"),
        (["catlip-tiny", "--baseline", "clip-tiny", "--rounds", "1"], "--rounds must be from 2"),
        (
            [
                "catlip-tiny",
                "--baseline",
                "clip-tiny",
                "--extra-baseline-settings",
                "random_image_sizes=[40,48]",
            ],
            "uncovered",
        ),
    ],
)
def test_unexplainable_pair_is_refused_in_one_line(
    arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *arguments, "--results", str(tmp_path)]) == 2
    assert text in capsys.readouterr().err
