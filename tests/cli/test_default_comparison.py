"""What the default comparison trains on."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.cli.default import Bench
from bench.cli.default_comparison import on_data
from bench.console.console import PROGRAM
from bench.experiment.config import change
from bench.experiment.experiments import COMPARED, EXPERIMENTS
from bench.experiment.fields import SEEN_CONCEPTS

KEPT = Path(__file__).parents[1] / "records"


def test_every_method_of_the_default_comparison_trains_without_the_held_out_concepts() -> None:
    compared = [EXPERIMENTS[f"{method}-tiny"] for method in COMPARED]
    assert on_data(compared, None, None, Path()) == [
        change(one, subset=SEEN_CONCEPTS) for one in compared
    ]


def test_hint_of_an_interrupted_comparison_resumes_what_is_recorded_and_starts_again_without_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOX_CURRENT_SESSION", raising=False)
    command = Bench(data="own", results=tmp_path)
    again = f"no run is finished; start again with: {PROGRAM} --data own --results {tmp_path}"
    assert command.resume_hint == again
    record = next(KEPT.rglob("*.speed.*.json"))
    shutil.copy(record, tmp_path / "20200101T000000-default.speed.x.json")
    assert command.resume_hint == again
    shutil.copy(record, tmp_path / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-default.speed.x.json")
    assert command.resume_hint.endswith(
        f"resume with: {PROGRAM} --resume --data own --results {tmp_path}"
    )
    monkeypatch.setenv("NOX_CURRENT_SESSION", "bench")
    assert "resume with: nox -s bench -- --resume --data own" in command.resume_hint
