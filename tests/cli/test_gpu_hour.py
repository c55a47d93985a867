"""The hour on a simulated GPU: what is there by when, and what is left when the time ends."""

from pathlib import Path

import msgspec
import pytest

from bench.cli.main import dispatch
from bench.orchestration.gpu_steps import STEPS, STEPS_FILE, StepResult, StepResults
from bench.record import comparisons, read_records
from tests.cli.simulated_gpu import SimulatedGpu
from tests.documents import Document

ON_ONE_GPU = [step for step in STEPS["cuda"] if step.min_gpus == 1]


def run(results: Path, *options: str) -> int:
    return dispatch(["gpu", "--results", str(results), *options])


def found(results: Path) -> dict[str, StepResult]:
    return {one.step: one for one in msgspec.json.decode((results / STEPS_FILE).read_bytes(), type=StepResults).steps}


@pytest.mark.parametrize("run_seconds", [70.0, 45.0])
def test_hour_brings_a_verdict_on_b16_within_25_minutes_and_kills_nothing(
    run_seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = SimulatedGpu(run_seconds)
    machine.install(monkeypatch)
    begun = machine.now
    run(tmp_path)
    assert machine.killed == []
    assert machine.now <= begun + 3600 + 90
    ended = found(tmp_path)
    assert [*ended] == [step.name for step in ON_ONE_GPU]
    done = [name for name, one in ended.items() if one.status == "ok"]
    assert done == [*ended][: len(done)]  # in order
    assert {one.status for one in ended.values()} <= {"ok", "unfinished", "skipped"}
    starts = {name: when for name, (_, when) in zip(ended, machine.started, strict=False)}
    assert starts["l14"] - begun <= 25 * 60
    document = Document((tmp_path / "b16.html").read_text())
    assert "catlip-vit-b16" in document.words()
    assert "5 rounds" in document.words()
