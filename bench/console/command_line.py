"""The words of the command line that started this program. No torch here."""

import os
import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import psutil

from bench.console.console import PROGRAM
from bench.environment.rank_info import torchrun_env


def parent_command_line() -> list[str]:
    """Return the command line of the parent process; empty if there is none, as in a container."""
    try:
        return [*psutil.Process(os.getppid()).cmdline()]
    except psutil.Error:
        return []


def program_command_line(parent: Sequence[str]) -> list[str]:
    """Return the words of a command line that start this program: one process of it, or all of several.

    `parent` is the command line of the parent process. Where it is torchrun, its options are returned.
    """
    if torchrun_env().world_size == 1:
        return shlex.split(PROGRAM)
    names, pairs = [Path(word).name for word in parent], [*pairwise(parent)]
    first = next(
        (at for at, name in enumerate(names) if name in ("torchrun", "torch.distributed.run")),
        len(pairs),
    )
    if ("-m", "bench") in pairs[first:]:
        return ["torchrun", *parent[first + 1 : pairs.index(("-m", "bench"), first)], "-m", "bench"]
    return ["torchrun", "--nproc-per-node", str(torchrun_env().local_world_size), "-m", "bench"]
