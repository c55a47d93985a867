"""The verb `gpu`, with steps of a second: those that ended well are not run again, and `preflight` stops the others."""

import importlib.util
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from bench.__main__ import main
from bench.cli.main import parse_command_line
from bench.cli.measure import MeasureSpeedAndMemory
from bench.cli.options import find_experiment_with_settings
from bench.experiment.config import require_comparable_experiments
from bench.features.gpu import verb
from bench.features.gpu.verb import GpuCommand, list_gpu_commands
from bench.interfaces.verb import VERBS
from bench.records.record import Record, record_path, write_record
from tests.processes import wait_until
from tests.small import circumstances, small
from tests.speeds import speed

ROOT = Path(__file__).parents[3]
FIRST = GpuCommand("preflight", "-c 'print(1)'", 5)
COUNTS = GpuCommand(
    "counts", """-c 'import sys; open(sys.argv[1], "a").write("x")' {results}/count""", 5
)
FAILS = GpuCommand("fails", """-c 'import sys; print("a line"); sys.exit("the reason")'""", 5)
HANGING = """
import os, pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
pathlib.Path(sys.argv[1]).write_text("%d %d end" % (os.getpid(), child.pid))
child.wait()
"""
HANGS = GpuCommand("hangs", f"-c '{HANGING}' {{results}}/processes", 5)


def run(
    monkeypatch: pytest.MonkeyPatch, results: Path, steps: list[GpuCommand], *options: str
) -> int:
    monkeypatch.setattr(verb, "list_gpu_commands", lambda _: steps)
    return main(["gpu", "--results", str(results), *options])


def done(results: Path) -> set[str]:
    return {path.stem for path in results.glob("*.done")}


def has_ended(process_id: int) -> bool:
    return (
        not psutil.pid_exists(process_id)
        or psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE
    )


def test_step_that_fails_is_run_again_and_one_that_ended_well_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert run(monkeypatch, tmp_path, [FIRST, FAILS, COUNTS]) == 3
        assert done(tmp_path) == {"preflight", "counts"}
    assert (tmp_path / "count").read_text() == "x"
    assert (tmp_path / "fails.log").read_text() == 2 * "a line\nthe reason\n"
    assert "fails: failed, see " in capsys.readouterr().err
    assert run(monkeypatch, tmp_path, [FIRST, FAILS, COUNTS], "--step", "counts") == 0
    assert run(monkeypatch, tmp_path, [FIRST], "--step", "first") == 2
    failing = GpuCommand("preflight", "-c 'exit(1)'", 5)
    assert run(monkeypatch, tmp_path / "failed", [failing, COUNTS]) == 3
    assert not (tmp_path / "failed" / "count").exists()


def test_step_that_takes_too_long_is_killed_with_its_children(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    short = GpuCommand("hangs", HANGS.arguments, 0.03)
    assert run(monkeypatch, tmp_path, [FIRST, short, COUNTS]) == 3
    assert done(tmp_path) == {"preflight", "counts"}
    for process_id in (tmp_path / "processes").read_text().split()[:2]:
        wait_until(lambda process_id=process_id: has_ended(int(process_id)))


def test_step_resumes_the_comparison_of_its_folder_and_draws_its_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    step = GpuCommand("b16", "-c 'import sys; print(sys.argv[1:])' {folder}", 5)
    assert "--resume" not in step.command_line(tmp_path)
    record = Record(
        comparison="c", experiment=small("clip"), circumstances=circumstances(), measured=speed()
    )
    (tmp_path / "b16").mkdir()
    write_record(record, record_path(tmp_path / "b16", "c", "speed", "clip", 0))
    assert run(monkeypatch, tmp_path, [FIRST, step]) == 0
    assert str([str(tmp_path / "b16"), "--resume"]) in (tmp_path / "b16.log").read_text()
    assert (tmp_path / "b16.html").is_file()


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_every_command_line_is_accepted(device: verb.Device, tmp_path: Path) -> None:
    steps = list_gpu_commands(device)
    assert len({step.name for step in steps}) == len(steps)
    for step in steps:
        words = step.command_line(tmp_path)
        module = next(after for word, after in pairwise(words) if word == "-m")
        assert importlib.util.find_spec(module), step.name
        if module == "bench" and words[words.index("bench") + 1] in VERBS:
            command = parse_command_line(words[words.index("bench") + 1 :])
            if isinstance(command, MeasureSpeedAndMemory):
                require_comparable_experiments(
                    find_experiment_with_settings(name, command.settings) for name in command.names
                )


@pytest.mark.exhaustive
def test_cheap_steps_run_on_a_cpu(tmp_path: Path) -> None:
    steps = "--step preflight --step b16 --step shards --step b16-shards"
    words = f"-m bench gpu --device cpu --results {tmp_path} {steps}"
    command = [sys.executable, *shlex.split(words)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "catlip-tiny" in (tmp_path / "b16.html").read_text()
