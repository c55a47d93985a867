"""Wall-clock seconds of a block or of modules' forwards, with the device idle at both ends."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn


@dataclass(slots=True)
class Elapsed:
    """The wall-clock seconds of a block that `time_synchronized_block` times."""

    seconds: float = math.nan  # until the block has ended without an error


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done all queued work; a CPU has no queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def time_synchronized_block(device: torch.device) -> Iterator[Elapsed]:
    """Time a block from an idle device to an idle device, because CUDA kernels are launched without waiting."""
    elapsed = Elapsed()
    synchronize(device)
    start = time.perf_counter()
    yield elapsed
    synchronize(device)
    elapsed.seconds = time.perf_counter() - start


@contextmanager
def time_forward_of_each_module(
    modules: Mapping[str, nn.Module], device: torch.device
) -> Iterator[dict[str, float]]:
    """Yield a dict in which the seconds of each module's forwards in the block add up, by the names of `modules`.

    It waits for the device around each forward, so that a timed window must not contain it.
    """
    seconds = dict.fromkeys(modules, 0.0)

    def start(name: str, *_: object) -> None:
        synchronize(device)
        seconds[name] -= time.perf_counter()

    def stop(name: str, *_: object) -> None:
        synchronize(device)
        seconds[name] += time.perf_counter()

    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.enter_context(module.register_forward_pre_hook(partial(start, name)))
            hooks.enter_context(module.register_forward_hook(partial(stop, name)))
        yield seconds
