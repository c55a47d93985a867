"""Wall-clock seconds of a block or of modules' forwards, with the device idle at both ends."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn


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


@contextmanager
def forward_clocks(
    modules: Mapping[str, nn.Module], device: torch.device
) -> Iterator[dict[str, float]]:
    """Yield the total seconds of each module's forward within the block; the waits forbid it in a timed window."""
    seconds = dict.fromkeys(modules, 0.0)

    def start(name: str) -> None:
        synchronize(device)
        seconds[name] -= time.perf_counter()

    def stop(name: str) -> None:
        synchronize(device)
        seconds[name] += time.perf_counter()

    with ExitStack() as hooks:
        for name, module in modules.items():
            pre_hook = module.register_forward_pre_hook(lambda *_, name=name: start(name))
            hook = module.register_forward_hook(lambda *_, name=name: stop(name))
            hooks.callback(pre_hook.remove)
            hooks.callback(hook.remove)
        yield seconds
