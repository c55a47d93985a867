"""`doctor` prints its findings of the machine."""

import json
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.cli import doctor


def test_doctor_checks_the_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "OBSERVED_SECONDS", 0.01)
    figures = tmp_path / "figures.json"
    assert main(["doctor", "--json", str(figures), "--results", str(tmp_path / "none")]) == 0
    rows = {row["check"]: row for row in json.loads(figures.read_text())["This machine"]["rows"]}
    assert {"cores", "other processes", "memory", "C++ compiler", "disk"} <= rows.keys()
    assert "NVML" in rows or "GPU 0" in rows
    assert not (tmp_path / "none").exists()
    assert "disk " in capsys.readouterr().out
