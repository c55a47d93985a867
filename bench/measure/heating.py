"""Steps before the first window that heat a GPU: a cold one has clocks that it does not keep."""

import time
from collections.abc import Iterator

import torch

from bench.profilers.clock import synchronize
from bench.train.distributed import all_reduce_max

HEATING_SECONDS = {"cuda": 20.0}  # a CPU is not heated


def yield_until_device_is_hot(device: torch.device) -> Iterator[None]:
    """Yield, for steps of the caller, until any rank has heated its device for 20 s; yield nothing on a CPU.

    All ranks yield equally often, so that they take the same steps.
    """
    heating_seconds = HEATING_SECONDS.get(device.type)
    if heating_seconds is None:
        return
    start = time.perf_counter()
    elapsed = 0.0
    while elapsed < heating_seconds:
        yield
        synchronize(device)
        (elapsed,) = all_reduce_max([time.perf_counter() - start])
