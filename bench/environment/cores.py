"""The cores that this process may use, and the loader workers that they allow. No torch here."""

import os
from dataclasses import dataclass
from pathlib import Path

from bench.tables.formats import pluralize

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
PREFETCHED = 2  # batches of each worker, where they fit into shared memory: torch's default
MAX_WORKERS = 32  # of a process, unless more are asked for: each holds batches in memory


@dataclass(frozen=True, slots=True)
class LoaderWorkers:
    """The number of processes that load shards for one training process, and the reason for it."""

    count: int  # 0: the training process loads
    reason: str
    prefetched: int = PREFETCHED  # batches of each worker that are loaded ahead


def available_cores() -> int:
    """Return the number of cores this process may use: its CPU affinity, or a container's quota if it is smaller."""
    bound = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        bound = len(os.sched_getaffinity(0))
    if not CGROUP_QUOTA.is_file():
        return bound
    quota, period = CGROUP_QUOTA.read_text().split()  # microseconds
    if quota == "max":
        return bound
    return max(1, min(bound, int(quota) // int(period)))


def loader_cores_per_rank(cores: int, ranks: int) -> int:
    """Return the cores that each of `ranks` training processes has for its loader workers, at least one."""
    return max(1, cores // ranks - 1)


def choose_workers(cores: int, ranks: int) -> LoaderWorkers:
    """Return the workers of each of `ranks` training processes on a GPU: one for each core that is left to them.

    So loading is never slower than these cores allow, whatever the sizes of the images; workers that are ahead of the
    training wait, and take no core.
    """
    shared = f"{cores} cores, {pluralize(ranks, 'training process', 'training processes')}"
    spare = loader_cores_per_rank(cores, ranks)
    if spare > MAX_WORKERS:
        return LoaderWorkers(MAX_WORKERS, f"{shared}; the most that are started unless asked for")
    return LoaderWorkers(spare, f"{shared}; all cores but that of each training process")
