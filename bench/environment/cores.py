"""The cores that this process may use, and the loader workers that they allow. No torch here."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
IMAGES_PER_CORE = 970.0  # images/s that one core loads, of JPEGs of 35 KiB; source: docs/data.md
MAX_WORKERS = 32  # of a process whose images/s are not known: each holds two batches in memory


@dataclass(frozen=True, slots=True)
class LoaderWorkers:
    """The number of processes that load shards for one training process, and the reason for it."""

    count: int  # 0: the training process loads
    reason: str


def available_cores() -> int:
    """Return the number of cores this process may use: its CPU affinity, or a container's quota if it is smaller."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = CGROUP_QUOTA.read_text().split() if CGROUP_QUOTA.is_file() else ["max"]
    return bound if quota[0] == "max" else max(1, min(bound, int(quota[0]) // int(quota[1])))


def choose_workers(
    cores: int, ranks: int, images_per_second: float | None, images_per_core: float = IMAGES_PER_CORE
) -> LoaderWorkers:
    """Return the workers of each of `ranks` training processes that share `cores` cores.

    They are as many as `images_per_second` of one process need at `images_per_core` of one core, and at most the cores
    of a process without the one that trains. Without expected images/s (None) they are all of these cores, at most
    `MAX_WORKERS`. There is at least one.
    """
    spare = max(1, cores // ranks - 1)
    share = f"{cores} cores, {ranks} training process{'es' if ranks > 1 else ''}"
    if images_per_second is None:
        return LoaderWorkers(min(spare, MAX_WORKERS), f"{share}; the images/s of this GPU are not known")
    needed = images_per_second / images_per_core
    expected = (
        f"up to {images_per_second:,.0f} images/s need {needed:.1f} cores at {images_per_core:,.0f} images/s each"
    )
    return LoaderWorkers(min(spare, math.ceil(needed)), f"{share}; {expected}")
