"""Wall-clock seconds of a block, with the device idle at both ends."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(slots=True)
class Elapsed:
    seconds: float = math.nan  # until the block has ended without an error


def synchronize(device: torch.device) -> None:
    """Block until all queued work is done; a CPU has no queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def clock(device: torch.device) -> Iterator[Elapsed]:
    """Time a block. Without the two waits a CUDA block's time is that of launching its kernels."""
    elapsed = Elapsed()
    synchronize(device)
    start = time.perf_counter()
    yield elapsed
    synchronize(device)
    elapsed.seconds = time.perf_counter() - start
