"""Where the suites run, and a clock that waits for it."""

import time
from collections.abc import Callable

import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from bench.environment.machine import default_device
from bench.profilers.clock import synchronize
from bench.profilers.counters import TensorByteCounter

DEVICE = default_device()


def synchronized_seconds() -> float:
    """Wait until the device has nothing left to do, and return wall-clock seconds."""
    synchronize(DEVICE)
    return time.perf_counter()


def time_gradients_and_peak_tensor_bytes(
    benchmark: BenchmarkFixture, loss: Callable[..., Tensor], *inputs: Tensor
) -> None:
    """Time forward and backward of a loss; store the peak bytes of its tensors in the benchmark's `extra_info`."""
    leaves = [value.to(DEVICE).requires_grad_() for value in inputs]

    def work() -> object:
        return torch.autograd.grad(loss(*leaves), leaves)

    benchmark(work)
    with TensorByteCounter(DEVICE, []) as counted:
        work()
    benchmark.extra_info["peak tensor bytes"] = counted.peak_bytes
