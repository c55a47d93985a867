"""The script of the first hour on a GPU, with an interpreter that records its arguments in place of Python."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.main import parse_command_line
from bench.cli.measure import MeasureSpeedAndMemory
from bench.cli.options import find_experiment_with_settings
from bench.experiment.config import require_comparable_experiments

SCRIPT = Path(__file__).parents[2] / "docs" / "gpu" / "first_hour.sh"
RECORDING_PYTHON = """#!/bin/sh
printf '%s\\0' "$@" >> "$RESULTS/calls"
echo end >> "$RESULTS/calls"
case "$*" in *"$FAILS"*) exit 1;; esac
"""


def run(
    results: Path,
    *steps: str,
    fails: str = "nothing",
    scale: str = "",
    python_script: str = RECORDING_PYTHON,
) -> tuple[int, list[list[str]]]:
    """Run the script; return its exit code and the arguments of each call of Python."""
    results.mkdir(exist_ok=True)
    (results / "calls").write_text("")
    python = results / "python"
    python.write_text(python_script)
    python.chmod(0o755)
    settings = {"PYTHON": python, "RESULTS": results, "FAILS": fails, "SCALE": scale}
    environment = os.environ | {name: str(value) for name, value in settings.items()}
    ended = subprocess.run([SCRIPT, *steps], env=environment, capture_output=True, check=False)
    calls = (results / "calls").read_text().split("\0end\n")
    return ended.returncode, [call.split("\0") for call in calls[:-1]]


def test_step_that_fails_is_run_again_and_one_that_ended_well_is_not(tmp_path: Path) -> None:
    code, calls = run(tmp_path, fails="train")
    assert code == 3
    assert len(calls) == 11
    code, calls = run(tmp_path, fails="train")
    assert code == 3
    assert [call[2] for call in calls] == ["train"]
    assert run(tmp_path)[0] == 0
    assert run(tmp_path) == (0, [])


def test_failed_compilation_stops_the_other_steps(tmp_path: Path) -> None:
    code, calls = run(tmp_path, fails="torch.compile")
    assert (code, len(calls)) == (3, 2)


def test_unknown_step_is_refused(tmp_path: Path) -> None:
    assert run(tmp_path, "b16", "b61") == (2, [])


def test_interrupt_ends_the_script_after_python_has_ended(tmp_path: Path) -> None:
    interrupting = RECORDING_PYTHON.replace("exit 1", "kill -INT $(ps -o ppid= -p $PPID); exit 130")
    code, calls = run(tmp_path, fails="l14", python_script=interrupting)
    assert code == 130
    assert calls[-1][2] == "measure"


def test_step_with_records_is_resumed_and_its_page_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "b16").mkdir()
    (tmp_path / "b16" / "record.json").touch()
    _, (measure, page) = run(tmp_path, "b16")
    assert measure[-1] == "--resume"
    assert page[2:4] == ["report", "build"]


@pytest.mark.parametrize("scale", ["", "tiny"])
def test_every_command_line_is_accepted(scale: str, tmp_path: Path) -> None:
    _, calls = run(tmp_path, scale=scale)
    commands = [call[2:] for call in calls if call[:2] == ["-m", "bench"]]
    assert len(commands) == 8
    for words in commands:
        command = parse_command_line(words)
        if isinstance(command, MeasureSpeedAndMemory):
            require_comparable_experiments(
                find_experiment_with_settings(name, command.settings) for name in command.names
            )


@pytest.mark.exhaustive
def test_cheap_steps_run_on_a_cpu(tmp_path: Path) -> None:
    environment = os.environ | {
        "SCALE": "tiny",
        "RESULTS": str(tmp_path),
        "PYTHON": sys.executable,
    }
    steps = shlex.split("doctor compile b16 shards b16-shards")
    ended = subprocess.run(
        [SCRIPT, *steps], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "catlip-tiny" in (tmp_path / "b16.html").read_text()
