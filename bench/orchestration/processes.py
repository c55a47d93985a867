"""Child processes that end with this process, or at a deadline, together with all that they started."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil

from bench.environment.circumstances import CHECKOUT

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int) -> None:
    """End this process when its parent ends, because its result is not needed then; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has died already
            os._exit(1)


@contextmanager
def kill_at_end(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Kill a child that still runs when the block ends, with all its descendants.

    SIGTERM would let torchrun wait half a minute for stalled processes; records are complete at any time.
    """
    try:
        yield
    finally:
        if child.poll() is None:
            _kill_process_tree(psutil.Process(child.pid))
        child.wait()


def run_command(words: Sequence[str], output: Path, seconds: float, settings: Mapping[str, str]) -> int | None:
    """Run a command in the checkout and append what it prints to a file; return its exit code.

    It is killed with its descendants after so many seconds, which returns None, and when this call is interrupted; if
    this process is killed, the command ends too. `settings` are environment variables.
    """
    with output.open("ab") as file:
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=CHECKOUT,
            env=os.environ | settings,
            process_group=0,  # Ctrl-C reaches this process alone
            preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - this process has one thread
        )
        with kill_at_end(child), suppress(subprocess.TimeoutExpired):
            return child.wait(seconds)
    return None


def _kill_process_tree(process: psutil.Process) -> None:
    """Kill a process and its descendants in all groups, each stopped first so that it starts no other."""
    process.suspend()
    for child in process.children():
        with suppress(psutil.NoSuchProcess):
            _kill_process_tree(child)
    process.kill()
