"""What the ranks of a job have in common: their software, their clocks and the results folder."""

import platform
import time
from pathlib import Path
from uuid import uuid4

import torch

from bench.environment.circumstances import current_commit
from bench.environment.files import hold_lock, make_folders
from bench.environment.machine import describe_processors, package_versions
from bench.environment.rank_info import torchrun_env
from bench.record import RankState
from bench.train.distributed import all_gather_objects, barrier, world_group

VISIBLE_SECONDS = 10.0  # maximum wait for a file of rank 0; NFS shows new ones after 3 s by default


def read_rank_states(
    results: Path, device: torch.device, bytes_per_second: float | None, network_bytes_per_second: float | None
) -> tuple[RankState, ...]:
    """Return the states of all ranks, with the bandwidths that each measured.

    Rank 0 writes a file to the results folder and holds a lock on it, while the others look for both.
    """
    group, rank_info = world_group(), torchrun_env()
    barrier(group)
    now = time.time()
    clocks = all_gather_objects(now, group)
    visible_after: float | None = 0.0
    is_locked_out = True
    shared = results / all_gather_objects(f".shared-{uuid4().hex}", group)[0]
    if rank_info.rank == 0:
        make_folders(results)
        with shared.open("xb") as file, hold_lock(file):
            barrier(group)
            barrier(group)
        shared.unlink()
    else:
        barrier(group)
        visible_after = _wait_until_visible(shared)
        is_locked_out = visible_after is not None and _is_locked_out(shared)
        barrier(group)
    own = RankState(
        node=f"{platform.node()}, node {rank_info.rank // rank_info.local_world_size}",
        processors=describe_processors(device),
        packages=package_versions(device),
        commit=current_commit(),
        clock_ahead_seconds=now - clocks[0],
        visible_after_seconds=visible_after,
        is_locked_out=is_locked_out,
        bytes_per_second=bytes_per_second,
        network_bytes_per_second=network_bytes_per_second,
    )
    return tuple(all_gather_objects(own, group))


def _wait_until_visible(path: Path) -> float | None:
    """Return the seconds until a file of another node is in its folder; None if it does not appear."""
    start = time.monotonic()
    while (seconds := time.monotonic() - start) < VISIBLE_SECONDS:
        if path.exists():
            return seconds
        time.sleep(0.05)
    return None


def _is_locked_out(path: Path) -> bool:
    try:
        with path.open("r+b") as file, hold_lock(file):
            return False
    except BlockingIOError:
        return True
