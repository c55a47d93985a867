"""Processes that part from one which has imported all: groups, as those of a torchrun, and single runs."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from bench.orchestration.runner import Runner
from bench.orchestration.worker import Request, carry_out

T = TypeVar("T")
# Imported once, before the processes part.
PRELOAD = [
    "open_clip.loss",
    "torch.nn.parallel",
    "bench.train.loop",
    "bench.orchestration.worker",
    "bench.measure.memory",
]
LONGEST_SECONDS = 300


def in_ranks(work: Callable[..., T], ranks: int, folder: Path, *arguments: Any) -> list[T]:
    """Return what `work(rank, ranks, *arguments)` returns in each of so many processes, joined by gloo."""
    mp.get_context("forkserver").set_forkserver_preload(PRELOAD)
    given = (work, ranks, str(folder), arguments)
    running = mp.start_processes(_joined, given, ranks, join=False, start_method="forkserver")
    deadline = time.monotonic() + LONGEST_SECONDS
    while not running.join(timeout=1):
        if time.monotonic() > deadline:
            for process in running.processes:
                process.kill()
            raise TimeoutError(f"{work.__name__} hangs")
    return [torch.load(folder / f"{rank}.pt") for rank in range(ranks)]


def _joined(rank: int, work: Callable[..., Any], ranks: int, folder: str, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo"}
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    torch.save(work(rank, ranks, *arguments), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


class Parting(Runner):
    """Carries out each run in a process of its own, without the seconds that a fresh one imports for."""

    def _start(self, request: Request, *_: Any, **__: Any) -> str:
        context = mp.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        process = context.Process(target=_carried_out, args=(request,))
        process.start()
        process.join()
        return f"ended with exit code {process.exitcode}" if process.exitcode else ""


def _carried_out(request: Request) -> None:
    torch.set_num_threads(1)
    carry_out(request)
