"""Child processes end with their parent, or are killed with all that they started. No torch here."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import subprocess

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PARENT = "CATLIP_BENCH_PARENT"  # environment variable with the process id of the command line that starts runs
PARENT_AT_START = os.getppid()  # of this process; it has another one later if the parent ends


def kill_multiprocessing_children() -> None:
    """Kill the processes that this one has started by multiprocessing."""
    for child in multiprocessing.active_children():
        child.kill()


def exit_with_multiprocessing_parent() -> None:
    """Let this process, a child of multiprocessing, exit when its parent ends.

    It also does if the parent is killed. A fork server is only the process that forks: `os.getppid()` stays the same
    then.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def die_with_parent(parent_pid: int) -> None:
    """Let Linux kill this process when its parent ends; on other systems nothing is done."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # it has died already
            os._exit(1)


@contextmanager
def kill_child_tree_at_block_end(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """At the end of the block, kill the child with all its descendants if it still runs, and wait for it.

    SIGTERM would let torchrun wait half a minute for stalled processes; records are complete at any time.
    """
    try:
        yield
    finally:
        if child.poll() is None:
            process = psutil.Process(child.pid)
            for running in [process, *process.children(recursive=True)]:
                with suppress(psutil.Error):  # it has ended, or belongs to another user
                    running.kill()
        child.wait()
