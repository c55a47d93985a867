"""Wall-clock seconds of a block, the device idle at both ends."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(slots=True)
class Elapsed:
    """What the clock shows; NaN until the block has ended, so that half a measurement is none."""

    seconds: float = math.nan


def wait_for(device: torch.device) -> None:
    """Block until all queued work is done; a CPU has no queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def clock(device: torch.device) -> Iterator[Elapsed]:
    """Time a block. Without the waits a CUDA block's time is that of launching kernels, not of running them."""
    elapsed = Elapsed()
    wait_for(device)
    start = time.perf_counter()
    yield elapsed
    wait_for(device)
    elapsed.seconds = time.perf_counter() - start
