"""The first step of `gpu`: whether a device computes, whether torch.compile works on it, and what instruments read.

`python -m bench.features.gpu.preflight cuda` prints the facts, and ends with an error if nothing could be measured.
Nothing but Python's own modules is imported before all that is missing has been named.
"""

import sys
import time
from typing import TYPE_CHECKING

from bench.environment.requirements import (
    check_driver_and_triton,
    find_unmet_requirements,
    locate_compiler_requirements,
    pip_install_command,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bench.profilers.nvml import DeviceGauges

SIDE = 1024  # rows and columns of the matrices
READING_SECONDS = 2.0  # NVML averages over up to a second


def check_device_and_print(device_type: str) -> None:
    """Check the device "cuda" or "cpu" and print what it can do.

    Raises SystemExit with the reason if it cannot be measured, and torch's error if it cannot compile.
    """
    print_and_require_installed_tools(device_type)
    import torch

    from bench.cli.doctor import check_gpus
    from bench.environment.circumstances import summarize_machine_and_software
    from bench.environment.machine import default_device
    from bench.profilers.clock import time_synchronized_block
    from bench.profilers.device import make_device_gauges
    from bench.records.current import collect_circumstances

    if device_type == "cuda" and not torch.cuda.is_available():
        build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        sys.exit(
            f"torch {torch.__version__}, built {build}, finds no GPU: see nvidia-smi and CUDA_VISIBLE_DEVICES"
        )
    for finding in check_gpus():  # before this process is on the GPU
        print(f"{finding.check}: {finding.found} {finding.advice}")
    device = torch.device("cpu") if device_type == "cpu" else default_device()
    circumstances = collect_circumstances(None, device)
    print(f"{summarize_machine_and_software(circumstances)}; commit {circumstances.commit}")
    values = torch.linspace(-4, 4, SIDE * SIDE, device=device).view(SIDE, SIDE)
    with time_synchronized_block(device) as elapsed:
        compiled = torch.compile(_toy_kernel)(values)
    torch.testing.assert_close(compiled, _toy_kernel(values), rtol=1e-4, atol=1e-4)
    print(f"torch.compile: a kernel in {elapsed.seconds:.1f} s")
    print_device_readings(make_device_gauges(device), values)


def print_and_require_installed_tools(device_type: str) -> None:
    """Print which programs, libraries and packages are missing, and how to install them; SystemExit if any is."""
    needs = [*locate_compiler_requirements()]
    if device_type == "cuda":
        needs += check_driver_and_triton()
    missing = [f"{need.name} is missing: {need.remedy}" for need in needs if not need.location]
    packages = find_unmet_requirements("tests")
    if packages:
        missing.append(f"packages are missing: {pip_install_command(packages)}")
    for line in missing:
        print(line)
    if missing:
        sys.exit(f"{len(missing)} of the tools that runs need are missing, see above")


def print_device_readings(reader: "DeviceGauges", values: "Tensor") -> None:
    """Print what a device's instruments read while it multiplies `values`; SystemExit if all gauges of NVML fail."""
    import torch

    from bench.profilers.clock import synchronize
    from bench.profilers.device import sample_device_during_block

    end = time.perf_counter() + READING_SECONDS
    with sample_device_during_block(reader, values.device) as readings:
        while time.perf_counter() < end:
            values = torch.tanh(values @ values)
            synchronize(values.device)
    for name, value in readings.figures.items():
        print(f"{name}: {value:.4g}")
    for name, reason in readings.not_measured.items():
        print(f"{name}: not measured: {reason}")
    if reader.gauges and readings.figures.keys().isdisjoint(reader.gauges):
        sys.exit(
            "NVML is there and none of its gauges could be read, so runs would have no power and no clocks"
        )


def _toy_kernel(values: "torch.Tensor") -> "torch.Tensor":
    """Compute a few elementwise operations and a sum, for `torch.compile`."""
    import torch

    return torch.sigmoid(values).mul(2).sub(1).relu().sum(dim=1)


if __name__ == "__main__":
    check_device_and_print(sys.argv[1])
