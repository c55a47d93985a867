"""Where the suites run, and a clock that waits for it."""

import time
from collections.abc import Callable

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.environment.machine import default_device
from bench.profilers.clock import synchronize
from bench.profilers.counters import TensorBytes

DEVICE = default_device()


def seconds() -> float:
    """Return wall-clock seconds once the device has nothing left to do: launching a kernel is not running it."""
    synchronize(DEVICE)
    return time.perf_counter()


def rate(benchmark: BenchmarkFixture, thing: str, count: int) -> None:
    """Note how many things one call does and how many that are a second, once it has been timed."""
    benchmark.extra_info[thing] = count
    if benchmark.stats:
        benchmark.extra_info[f"{thing} per second"] = round(count / benchmark.stats.stats.median, 1)


def peak_bytes(work: Callable[[], object], device: torch.device = DEVICE) -> int:
    """Return the most bytes that tensors born in one call held: the same on every run."""
    with TensorBytes(device, []) as counted:
        work()
    most: int = counted.peak
    return most
