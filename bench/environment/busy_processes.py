"""Other processes that keep cores busy all the time. No torch here."""

import os
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import fmean

import psutil

MIN_BUSY_CORES = 0.9  # cores that a process must keep busy in every second of the watch
WATCH_SECONDS = 30  # longer than bursts of other work usually last
BUSY_PROCESSES = "CATLIP_BENCH_BUSY_PROCESSES"  # environment variable by which runs learn of them, for their records


@dataclass(frozen=True, slots=True)
class BusyProcess:
    """A process and the cores that it kept busy, on average."""

    name: str
    busy_cores: float

    def __str__(self) -> str:
        return f"{self.name} ({100 * self.busy_cores:.0f} % of a core)"


def find_busy_processes(seconds: int = WATCH_SECONDS) -> list[BusyProcess]:
    """Return the processes on cores of this one that kept MIN_BUSY_CORES busy in each of `seconds` seconds.

    It returns as soon as no process qualifies, after one second on a quiet machine. Bursts of other work do not count.
    Where psutil lists no process, none is known.
    """
    try:
        processes = [process for process in psutil.process_iter() if process.pid != os.getpid()]
    except (IndexError, OSError):  # of a host that hides /proc/stat, or other processes
        return []
    busy = [process for process in processes if _shares_a_core(process)]
    for process in busy:
        _busy_cores_since_last_call(process)
    cores = defaultdict[psutil.Process, list[float]](list)
    for _ in range(seconds):
        time.sleep(1)
        for process in busy:
            cores[process].append(_busy_cores_since_last_call(process))
        busy = [process for process in busy if cores[process][-1] >= MIN_BUSY_CORES]
        if not busy:
            return []
    named = []
    for process in busy:
        with suppress(psutil.Error):  # it has ended meanwhile
            named.append(BusyProcess(process.name(), fmean(cores[process])))
    return named


def count_undisturbed_threads(num_usable_cores: int, processes: Sequence[BusyProcess]) -> int:
    """Return the number of threads for the cores that busy processes leave, at least 1."""
    return max(1, num_usable_cores - sum(round(process.busy_cores) for process in processes))


def _shares_a_core(process: psutil.Process) -> bool:
    """Return whether a process may run on a core of this one; one that is not bound to cores may."""
    with suppress(psutil.Error, AttributeError):  # it has ended; this system binds no processes
        return not os.sched_getaffinity(0).isdisjoint(process.cpu_affinity())
    return True


def _busy_cores_since_last_call(process: psutil.Process) -> float:
    """Return the mean number of cores that a process kept busy since the last call; 0 if it cannot be read."""
    with suppress(psutil.Error):
        return float(process.cpu_percent()) / 100
    return 0.0
