"""Processes that keep a core busy are named, and their cores are left to them; bursts do not count."""

import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from bench.environment import busy_processes
from bench.environment.busy_processes import (
    BusyProcess,
    count_undisturbed_threads,
    find_busy_processes,
)


@pytest.fixture
def other_process() -> Iterator[subprocess.Popen[bytes]]:
    """A process of another program, which waits."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell all processes")
@pytest.mark.parametrize(("loads", "names"), [([0.0, 1.0, 0.98], ["sleep"]), ([0.0, 1.0, 0.5], [])])
def test_process_that_is_busy_every_second_is_named(
    other_process: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
    loads: list[float],
    names: list[str],
) -> None:
    remaining_loads = iter(loads)  # cores since the last call; the first call begins the watch

    def busy_cores(process: psutil.Process) -> float:
        return next(remaining_loads) if process.pid == other_process.pid else 0.0

    monkeypatch.setattr(busy_processes, "_busy_cores_since_last_call", busy_cores)
    monkeypatch.setattr(busy_processes.time, "sleep", lambda _: None)
    assert [process.name for process in find_busy_processes(seconds=2)] == names


@pytest.mark.parametrize(
    ("num_cores", "busy_cores", "threads"),
    [(2, [], 2), (2, [1.0], 1), (8, [0.97, 2.1], 5), (2, [2.0], 1)],
)
def test_busy_cores_are_left_and_a_thread_remains(
    num_cores: int, busy_cores: list[float], threads: int
) -> None:
    processes = [BusyProcess("loop", cores) for cores in busy_cores]
    assert count_undisturbed_threads(num_cores, processes) == threads
