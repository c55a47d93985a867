"""What the ranks of a job have in common: their software, their clocks and the results folder."""

import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from bench.environment.circumstances import current_commit
from bench.environment.files import LISTING_SECONDS, hold_lock, make_folders
from bench.environment.machine import default_device, describe_processors, package_versions
from bench.environment.rank_info import describe_node, torchrun_env
from bench.records.record import RankState, RankStates
from bench.train.distributed import all_gather_objects, barrier


def read_rank_states(results: Path) -> RankStates:
    """Read the states of all ranks. Rank 0 writes a file to the results folder and locks it, while the others look."""
    rank_info, device = torchrun_env(), default_device()
    barrier()
    now = time.time()
    first_clock, name = all_gather_objects((now, f".shared-{uuid4().hex}"))[0]
    shared = results / name
    visible_after: float | None = 0.0
    sees_rank0_lock: bool | None = True
    if rank_info.rank == 0:
        make_folders(results)
        try:
            with shared.open("xb") as file, hold_lock(file):
                barrier()
                barrier()
        finally:
            shared.unlink(missing_ok=True)
    else:
        barrier()
        visible_after = _wait_until_listed(shared)
        sees_rank0_lock = None if visible_after is None else _is_locked_by_other_rank(shared)
        barrier()
    own = RankState(
        node=describe_node(),
        processors=describe_processors(device),
        packages=package_versions(device),
        commit=current_commit(),
        clock_ahead_seconds=now - first_clock,
        visible_after_seconds=visible_after,
        sees_rank0_lock=sees_rank0_lock,
    )
    return RankStates(ranks=tuple(all_gather_objects(own)))


def _wait_until_listed(path: Path) -> float | None:
    """Return the seconds until a file of another node is listed in its folder; None if it is not."""
    start = time.monotonic()
    while (seconds := time.monotonic() - start) < LISTING_SECONDS:
        with suppress(OSError):  # there is no such folder, or it cannot be read
            if path in path.parent.iterdir():
                return seconds
        time.sleep(0.1)
    return None


def _is_locked_by_other_rank(path: Path) -> bool | None:
    """Return whether another rank's lock keeps this one out; None where the file cannot be opened or locked."""
    try:
        with path.open("r+b") as file, hold_lock(file):
            return False
    except BlockingIOError:
        return True
    except OSError:
        return None
