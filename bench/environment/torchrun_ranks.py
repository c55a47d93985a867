"""The ranks that torchrun gives to this process. No torch here."""

import os
import platform
from dataclasses import dataclass
from functools import cache

from bench.environment.variables import RESTART_COUNT, read_integer_environment_variable

TORCHRUN_VARIABLES = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)
# Environment variable; 1 allows ranks on different machines.
MIXED_MACHINES = "CATLIP_BENCH_MIXED_MACHINES"


@dataclass(frozen=True, slots=True)
class TorchrunRanks:
    """The global and the local rank of a process, and the numbers of processes in all and on this host."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1


@cache
def read_torchrun_ranks() -> TorchrunRanks:
    """Return the ranks from torchrun's environment variables, rank 0 of 1 without them; ValueError if invalid."""
    if read_integer_environment_variable("WORLD_SIZE") in (None, 1):
        return TorchrunRanks()
    missing = [name for name in TORCHRUN_VARIABLES if name not in os.environ]
    if missing:
        raise ValueError(
            f"WORLD_SIZE is set and {', '.join(missing)} not: start several processes with torchrun"
        )
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return TorchrunRanks(*(read_integer_environment_variable(name) or 0 for name in names))


def describe_host_and_node_number() -> str:
    """Return the name of this host and the number of its node in the job, as text."""
    ranks = read_torchrun_ranks()
    # If all nodes have as many processes as this one.
    if_equal = ranks.rank // ranks.local_world_size
    return f"{platform.node()}, node {os.environ.get('GROUP_RANK', if_equal)}"  # torchrun sets it


def read_torchrun_restart_count() -> int:
    """Return how often torchrun has restarted these processes after a failure."""
    return read_integer_environment_variable(RESTART_COUNT) or 0
