"""The cores that this process may use, and the time for which others kept it from them, by the kernel's counters."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

TASKS = Path("/proc/self/task")


def read_core_wait_seconds() -> float | None:
    """Return the total seconds for which this process's threads waited for a core or the host took the core away.

    The first sum is exact: each thread's time on a run queue, in nanoseconds. The second is of the cores that this
    process may use, in ticks of 10 ms. None where the kernel has no such counter. Source: the second field of
    /proc/PID/task/TID/schedstat, Documentation/scheduler/sched-stats.rst of Linux.
    """
    waits = []  # by thread, in nanoseconds
    for path in TASKS.glob("*/schedstat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            waits.append(int(path.read_text().split()[1]))
    if not waits:  # another system, or a kernel without CONFIG_SCHED_INFO
        return None
    return sum(waits) / 1e9 + read_stolen_seconds_of_allowed_cores()


def read_stolen_seconds_of_allowed_cores() -> float:
    """Return the CPU time that other virtual machines of the host took from these cores."""
    return sum(float(times.steal) for times in read_cpu_times_of_allowed_cores())


def read_cpu_times_of_allowed_cores() -> list[Any]:
    """Return psutil's CPU times of each core that this process may use; all where processes cannot be bound."""
    cores = psutil.cpu_times(percpu=True)
    if not hasattr(os, "sched_getaffinity"):
        return list(cores)
    allowed = os.sched_getaffinity(0)
    return [cores[core] for core in allowed if core < len(cores)]
