"""Which of the processes that torchrun started this is. No torch."""

import os
from dataclasses import dataclass
from functools import cache

FROM_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class Place:
    """A process's number among all, and among those of its machine; alone it is the first of one."""

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0
    local_ranks: int = 1


@cache
def place() -> Place:
    """Read what torchrun set; ValueError where it set half of it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Place()
    if missing := [name for name in FROM_TORCHRUN if name not in os.environ]:
        raise ValueError(f"WORLD_SIZE is set and {', '.join(missing)} not: start several processes with torchrun")
    return Place(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")))


def restarts() -> int:
    """Tell how often torchrun has started these processes anew, for one of them failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
