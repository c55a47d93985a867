"""The rank of this process under torchrun. No torch here."""

import os
from dataclasses import dataclass
from functools import cache

TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class RankInfo:
    """The global and the local rank of a process, and the numbers of processes."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1


@cache
def torchrun_env() -> RankInfo:
    """Read torchrun's environment variables; ValueError if some are missing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return RankInfo()
    if missing := [name for name in TORCHRUN_VARIABLES if name not in os.environ]:
        raise ValueError(f"WORLD_SIZE is set and {', '.join(missing)} not: start several processes with torchrun")
    return RankInfo(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")))


def restart_count() -> int:
    """Return how often torchrun has restarted these processes after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
