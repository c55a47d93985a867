"""Seconds of a step's phases, the device idle between them: a separate pass, as a timed window may overlap them."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from bench.profilers.clock import synchronize


@contextmanager
def forward_clocks(modules: Mapping[str, nn.Module], device: torch.device) -> Iterator[dict[str, float]]:
    """Yield the total seconds of each module's forward within the block."""
    seconds, started = dict.fromkeys(modules, 0.0), dict.fromkeys(modules, 0.0)

    def start(name: str) -> None:
        synchronize(device)
        started[name] = time.perf_counter()

    def stop(name: str) -> None:
        synchronize(device)
        seconds[name] += time.perf_counter() - started[name]

    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.callback(module.register_forward_pre_hook(lambda *_, name=name: start(name)).remove)
            hooks.callback(module.register_forward_hook(lambda *_, name=name: stop(name)).remove)
        yield seconds
