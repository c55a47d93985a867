"""The first step of `gpu`: whether a device computes, whether torch.compile works on it, and what instruments read.

`python -m bench.features.gpu.preflight cuda` prints the facts, and ends with an error if nothing could be measured.
Nothing but Python's own modules is imported before all that is missing has been named.
"""

import sys
import time
from typing import TYPE_CHECKING

from bench.environment.requirements import compiler_requirements, gpu_requirements, install_command, unmet_requirements

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bench.profilers.nvml import DeviceReader

SIDE = 1024  # of the products
READING_SECONDS, EVERY_SECONDS = 1.0, 0.1  # NVML's first reading of a busy GPU may take half a second


def main(device_type: str) -> None:
    """Check a device; SystemExit with the reason if it cannot be measured, torch's error if it cannot compile."""
    print_missing_requirements(device_type)
    import torch

    from bench.cli.doctor import check_gpus
    from bench.cli.findings import FINDING_OK
    from bench.environment.circumstances import summarize_machine
    from bench.environment.machine import default_device
    from bench.profilers.clock import clock
    from bench.profilers.device import open_reader
    from bench.records.current import current_circumstances

    if device_type == "cuda" and not torch.cuda.is_available():
        built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        sys.exit(f"torch {torch.__version__} finds no GPU and {built}: see nvidia-smi, and CUDA_VISIBLE_DEVICES")
    for finding in check_gpus():  # before this process is on the GPU
        print(f"{finding.check}: {finding.found} {finding.advice if finding.verdict != FINDING_OK else ''}")
    device = torch.device("cpu") if device_type == "cpu" else default_device()
    circumstances = current_circumstances(None, device)
    print(summarize_machine(circumstances))
    print(f"commit: {circumstances.commit}")
    values = torch.linspace(-4, 4, SIDE * SIDE, device=device).view(SIDE, SIDE)
    with clock(device) as elapsed:
        compiled = torch.compile(_toy_kernel)(values)
    torch.testing.assert_close(compiled, _toy_kernel(values), rtol=1e-4, atol=1e-4)
    print(f"torch.compile: a kernel in {elapsed.seconds:.1f} s")
    print_device_readings(open_reader(device), values)


def print_missing_requirements(device_type: str) -> None:
    """Print what is missing, and the command that brings it; SystemExit if runs need it."""
    unmet = unmet_requirements()
    needs = [*compiler_requirements(), *(gpu_requirements() if device_type == "cuda" else ())]
    missing = [f"{need.what} is missing: {need.remedy}" for need in needs if not need.found]
    missing += [f"packages are missing: {install_command(unmet)}"] if unmet else []
    of_tests = [one for one in unmet_requirements("tests") if one not in unmet]
    if of_tests:
        print(f"the step `tests` needs packages that are missing: {install_command(of_tests)}")
    for line in missing:
        print(line)
    if missing:
        sys.exit(f"{len(missing)} of the tools that runs need are missing, see above")


def print_device_readings(reader: "DeviceReader", values: "Tensor") -> None:
    """Print what a device's instruments read while it computes; SystemExit if NVML is there and reads no gauge."""
    import torch

    from bench.profilers.clock import synchronize
    from bench.profilers.device import sampled

    end = time.perf_counter() + READING_SECONDS
    with sampled(reader, values.device, every_s=EVERY_SECONDS) as readings:
        while time.perf_counter() < end:
            values = torch.tanh(values @ values)
            synchronize(values.device)
    for name, value in readings.figures.items():
        print(f"{name}: {value:.4g}")
    for name, reason in readings.not_measured.items():
        print(f"{name}: not measured: {reason}")
    if reader.gauges and readings.figures.keys().isdisjoint(reader.gauges):
        sys.exit("NVML is there and none of its gauges could be read, so runs would have no power and no clocks")


def _toy_kernel(values: "torch.Tensor") -> "torch.Tensor":
    import torch

    return torch.sigmoid(values).mul(2).sub(1).relu().sum(dim=1)


if __name__ == "__main__":
    main(sys.argv[1])
