"""The findings of `doctor` are printed one by one."""

from pathlib import Path

import pytest

from bench.__main__ import main
from bench.cli import doctor, machine_checks


def test_findings_before_the_trial_are_known_if_it_never_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hang(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "begin", hang)
    monkeypatch.setattr(machine_checks, "OBSERVED_SECONDS", 0.01)
    assert main(["doctor", "--results", str(tmp_path)]) == 130
    lines = capsys.readouterr().err.splitlines()
    for check in ("Python.h", "disk", "commit"):
        assert [line for line in lines if line.startswith(f"{check}: ")], check


def test_option_of_shards_is_refused_without_shards(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--images-per-s", "5"]) == 2
    assert (
        "--images-per-s is for --shards: add it, or leave out --images-per-s"
        in capsys.readouterr().err
    )
