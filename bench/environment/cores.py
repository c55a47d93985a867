"""The cores that this process may use, and the loader workers that they allow. No torch here."""

import os
from dataclasses import dataclass
from pathlib import Path

from bench.tables.formats import format_count_with_noun

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
PREFETCH_FACTOR = 2  # torch's default, used where the batches fit into shared memory
MAX_WORKERS = 32  # of a process, unless more are asked for: each holds batches in memory


@dataclass(frozen=True, slots=True)
class LoaderWorkerPlan:
    """How many worker processes are to load batches for a training process, why, and how far each loads ahead."""

    count: int  # 0: the training process loads
    reason: str
    prefetch_factor: int = PREFETCH_FACTOR  # batches that each worker loads ahead


def count_available_cores() -> int:
    """Return how many cores this process may use: its CPU affinity, or a container's quota if it is smaller."""
    bound = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        bound = len(os.sched_getaffinity(0))
    if not CGROUP_QUOTA.is_file():
        return bound
    quota, period = CGROUP_QUOTA.read_text().split()  # microseconds
    if quota == "max":
        return bound
    return max(1, min(bound, int(quota) // int(period)))


def count_loader_cores_per_rank(num_cores: int, num_ranks: int) -> int:
    """Return how many cores each of `num_ranks` training processes leaves to its loader workers, at least 1."""
    return max(1, num_cores // num_ranks - 1)


def choose_loader_workers(num_cores: int, num_ranks: int) -> LoaderWorkerPlan:
    """Return the loader workers for each of `num_ranks` training processes on a GPU: one for each core that is left.

    So loading is never slower than these cores allow, whatever the sizes of the images; workers that are ahead of the
    training wait, and take no core.
    """
    shared = f"{num_cores} cores, {format_count_with_noun(num_ranks, 'training process', 'training processes')}"
    spare = count_loader_cores_per_rank(num_cores, num_ranks)
    if spare > MAX_WORKERS:
        return LoaderWorkerPlan(
            MAX_WORKERS, f"{shared}; the most that are started unless asked for"
        )
    return LoaderWorkerPlan(spare, f"{shared}; all cores but that of each training process")
