"""Other processes that keep cores busy all the time. No torch here."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

MIN_BUSY_CORES = 0.9  # cores that a process must keep busy in every second of the watch
WATCH_SECONDS = 30  # longer than bursts of other work usually last
BUSY_PROCESSES = "CATLIP_BENCH_BUSY_PROCESSES"  # environment variable by which runs learn of them, for their records


@dataclass(frozen=True, slots=True)
class BusyProcess:
    """A process and the cores that it kept busy, on average."""

    name: str
    cores: float

    def __str__(self) -> str:
        return f"{self.name} ({100 * self.cores:.0f} % of a core)"


def find_busy_processes(max_seconds: int = WATCH_SECONDS) -> list[BusyProcess]:
    """Return the processes that kept at least 0.9 of a core busy in each of `max_seconds` seconds.

    It returns as soon as no process qualifies, after one second on a quiet machine. Bursts of other work do not count.
    """
    start = time.monotonic()
    first = _cpu_seconds()
    previous = first
    previous_time = start
    busy = set(first)
    for _ in range(max_seconds):
        time.sleep(1)
        now = _cpu_seconds()
        seconds = time.monotonic() - previous_time
        busy = {
            pid for pid in busy & now.keys() if now[pid] - previous[pid] >= MIN_BUSY_CORES * seconds
        }
        previous = now
        previous_time += seconds
        if not busy:
            return []
    processes = []
    for pid in sorted(busy):
        try:
            name = psutil.Process(pid).name()
        except psutil.NoSuchProcess:
            continue
        processes.append(BusyProcess(name, (previous[pid] - first[pid]) / (previous_time - start)))
    return processes


def undisturbed_threads(cores: int, processes: Sequence[BusyProcess]) -> int:
    """Return the number of threads that leaves each busy process its cores; at least 1."""
    return max(1, cores - sum(round(process.cores) for process in processes))


def _cpu_seconds() -> dict[int, float]:
    """Return the CPU seconds of all processes but this one."""
    seconds = {}
    for process in psutil.process_iter(["cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None and process.pid != os.getpid():
            seconds[process.pid] = times.user + times.system
    return seconds
