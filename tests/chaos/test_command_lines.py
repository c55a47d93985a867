"""Command lines with closed and full streams, pipes for files and broken packages: an exit code and one line each."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.environment.circumstances import CHECKOUT
from bench.interfaces.extensions import ENTRY_POINT_GROUP
from tests.processes import wait_until

PACKAGES = {  # the value of an entry point, and the module that it names
    "absent": ("no.such.module", ""),
    "broken": ("broken", "raise RuntimeError('a\\n\\x1b[2J')"),
    "exits": ("exits", "raise SystemExit"),
    "taken": (
        "taken",
        """from bench.interfaces.extensions import Extension
from bench.methods.clip import Clip
EXTENSION = Extension([Clip()])""",
    ),
}

WAITS = """
import time
from dataclasses import dataclass
from bench.interfaces.extensions import Extension
from bench.interfaces.verb import LazyVerb

@dataclass
class Wait:
    def run(self):
        print("waits", flush=True)
        time.sleep(60)

EXTENSION = Extension(verbs=[LazyVerb("wait", "Wait.", Wait)])
"""


def start(folder: Path, words: str, **environment: str) -> "subprocess.Popen[str]":
    """Start a command line of a shell in a folder; files take its output, which a pipe's reader could hold up."""
    paths = os.pathsep.join([str(CHECKOUT), environment.pop("PYTHONPATH", "")])
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        return subprocess.Popen(
            f"exec {sys.executable} -m bench {words}",
            shell=True,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": paths} | environment,
            stdout=out,
            stderr=err,
            text=True,
        )


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ("list > /dev/full", 2, "error: [Errno 28] No space left on device\n"),
        ("list <&- >&- 2>&-", 0, ""),
        ("lisst 2> /dev/full", 2, ""),
        ("--extension pipe.py list", 2, "pipe.py: not a regular file\n"),
    ],
)
def test_command_line_ends_with_one_line(words: str, code: int, text: str, tmp_path: Path) -> None:
    for name in ("pipe", "pipe.py"):
        os.mkfifo(tmp_path / name)
    assert start(tmp_path, words).wait(60) == code
    error = (tmp_path / "err").read_text()
    assert text in error
    assert error.count("\n") == bool(text)


def test_packages_that_cannot_be_loaded_are_left_out_with_a_line_each(tmp_path: Path) -> None:
    for name, (value, code) in PACKAGES.items():
        (tmp_path / f"{name}.py").write_text(code)
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (folder / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{name} = {value}\n")
    assert start(tmp_path, "list", PYTHONPATH=str(tmp_path)).wait(60) == 0
    lines = (tmp_path / "err").read_text().splitlines()
    assert len(lines) == len(PACKAGES)
    assert all(line.startswith("left out: ") and line.isprintable() for line in lines)


def test_signals_at_one_instant_end_a_command_line_once(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(WAITS)
    command = start(tmp_path, "--extension waits.py wait")
    wait_until((tmp_path / "out").read_text, command)
    # Stopped meanwhile, so that none comes after its end.
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCONT):
        command.send_signal(number)
    assert command.wait(60) in (75, 130, 143)
    assert "interrupted: finished work is kept" in (tmp_path / "err").read_text()
    assert "Traceback" not in (tmp_path / "err").read_text()
