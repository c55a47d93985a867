"""The cores that this process may use, and the loader workers that they allow. No torch here."""

import os
from pathlib import Path

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
MAX_WORKERS = 32  # of a process, unless more are asked for: each holds batches in memory


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


def choose_num_loader_workers(num_cores: int, num_ranks: int) -> int:
    """Return how many loader workers each of `num_ranks` training processes on a GPU starts: one per core that is left.

    It is at least one. So loading is never slower than these cores allow, whatever the sizes of the images; workers
    that are ahead of the training wait, and take no core.
    """
    return max(1, min(MAX_WORKERS, num_cores // num_ranks - 1))
