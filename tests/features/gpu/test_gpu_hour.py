"""The hour on a simulated GPU: what is there by when, and what is left when the time ends."""

import re
from pathlib import Path

import msgspec
import pytest

from bench.cli.main import dispatch
from bench.console.console import REQUEUE
from bench.features.gpu.steps import STEPS, STEPS_FILE, StepResult, StepResults
from bench.features.gpu.verb import GRACE_MINUTES
from bench.records.record import comparisons, read_records
from tests.features.gpu.simulated_hour import SimulatedHour

ON_ONE_GPU = [step for step in STEPS["cuda"] if step.min_gpus == 1]


def run(results: Path, *options: str) -> int:
    return dispatch(["gpu", "--results", str(results), *options])


def words(page: Path) -> str:
    """Return the text of a page."""
    return " ".join(re.sub("<[^>]*>", " ", page.read_text()).split())


def found(results: Path) -> dict[str, StepResult]:
    return {one.step: one for one in msgspec.json.decode((results / STEPS_FILE).read_bytes(), type=StepResults).steps}


@pytest.mark.parametrize(
    ("run_seconds", "pages"),
    [(70.0, None), pytest.param(45.0, ("b16", "b16-shards"), marks=pytest.mark.minutes)],
)
def test_hour_brings_a_verdict_on_b16_within_25_minutes_and_kills_nothing(
    run_seconds: float, pages: tuple[str, ...] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = SimulatedHour(run_seconds, pages=pages)
    begun = machine.installed(monkeypatch)
    assert run(tmp_path) in (0, REQUEUE)
    assert machine.killed == []
    assert machine.now <= begun + 3600
    ended = found(tmp_path)
    assert [*ended] == [step.name for step in ON_ONE_GPU]
    hour = [*ended][: [*ended].index("b16-512")]
    assert {ended[name].status for name in hour} == {"ok"}
    assert hour[-5:] == ["l14", "l14-verdict", "b16-ladder", "shards", "b16-shards"]
    began = dict(zip(hour, (when for _, when in machine.started), strict=False))
    assert began["b16-verdict"] <= begun + 12 * 60  # and the page of one round is there
    assert began["l14"] <= begun + 25 * 60
    page = words(tmp_path / "b16.html")
    assert ", 5 runs each)" in page
    assert " faster (p " in page
    assert "waited for batches" not in page
    assert "waited for batches" in words(tmp_path / "b16-shards.html")


@pytest.mark.minutes
def test_hour_on_a_machine_half_as_fast_names_what_is_left_and_resume_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = SimulatedHour(times_slower=2.0, pages=())
    begun = machine.installed(monkeypatch)
    assert run(tmp_path) == REQUEUE
    assert machine.killed == []
    assert machine.now <= begun + 60 * (60 + GRACE_MINUTES)
    left = {name: one for name, one in found(tmp_path).items() if one.status != "ok"}
    assert "unfinished" in {one.status for one in left.values()}
    assert {one.status for one in left.values()} == {"unfinished", "skipped"}
    shown = capsys.readouterr().out
    for name, one in left.items():
        assert re.search(rf"^{name} +{one.status} ", shown, re.MULTILINE)
        assert one.last_lines
    folders = {path.parent for path in machine.runs}
    for folder in folders:
        assert (folder.with_suffix(".html")).is_file()
        assert read_records(folder, comparisons(folder)[-1])
    assert run(tmp_path, "--resume", "--minutes", "600") == 0
    assert {one.status for one in found(tmp_path).values()} == {"ok"}
    assert len({*machine.runs}) == len(machine.runs)  # none was repeated


@pytest.mark.minutes
def test_every_step_is_done_alone_in_pieces_of_eight_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = SimulatedHour(pages=())
    machine.installed(monkeypatch)
    for step in ON_ONE_GPU:
        pieces = 0
        while pieces == 0 or found(tmp_path)[step.name].status == "unfinished":
            begun, pieces = machine.now, pieces + 1
            code = run(tmp_path, "--only", step.name, "--minutes", "8", "--resume")
            assert code == (REQUEUE if found(tmp_path)[step.name].status == "unfinished" else 0)
            assert machine.now <= begun + 8 * 60, step.name
            assert pieces < 9, step.name
        assert found(tmp_path)[step.name].status == "ok", step.name
    assert machine.killed == []
    assert len({*machine.runs}) == len(machine.runs)
