"""The peak FLOP/s of a device: from its data sheet, or measured."""

import torch

from bench.environment.gpu_specs import datasheet_peak
from bench.profilers.clock import clock


def peak_flops(device: torch.device, precision: str) -> tuple[float | None, str]:
    """Return the device's peak in FLOP/s and its source; None if it is unknown.

    On a CPU it is measured: the best of a few large matrix products at this run's thread count.
    """
    if device.type == "cpu":
        return _measured_peak(), "best of ten 1024 x 1024 x 1024 fp32 matrix products measured in the same process"
    return datasheet_peak(torch.cuda.get_device_name(device), precision)


def _measured_peak() -> float:
    side, cpu = 1024, torch.device("cpu")
    a, b = torch.rand(side, side), torch.rand(side, side)
    seconds = []
    for _ in range(10):
        with clock(cpu) as elapsed:
            a @ b
        seconds.append(elapsed.seconds)
    return 2 * side**3 / min(seconds)
