"""The first step of `gpu`: whether a device computes, whether torch.compile works on it, and what instruments read.

`python -m bench.cli.gpu_preflight cuda` prints the facts, and ends with an error if nothing could be measured.
"""

import sys

import torch
from torch import Tensor

from bench.cli.doctor import check_gpus
from bench.cli.findings import FINDING_OK
from bench.environment.circumstances import summarize_machine
from bench.environment.machine import current_circumstances, default_device
from bench.profilers.clock import clock
from bench.profilers.device import open_reader, sampled

SIDE, PRODUCTS = 1024, 50


def main(device_type: str) -> None:
    """Check a device; SystemExit with the reason if torch cannot use it, torch's error if it cannot compile."""
    if device_type == "cuda" and not torch.cuda.is_available():
        built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        sys.exit(f"torch {torch.__version__} finds no GPU and {built}: see nvidia-smi, and CUDA_VISIBLE_DEVICES")
    for finding in check_gpus():  # before this process is on the GPU
        print(f"{finding.check}: {finding.found} {finding.advice if finding.verdict != FINDING_OK else ''}")
    device = torch.device("cpu") if device_type == "cpu" else default_device()
    print(summarize_machine(current_circumstances(None, device)))
    values = torch.linspace(-4, 4, SIDE * SIDE, device=device).view(SIDE, SIDE)
    with clock(device) as elapsed:
        compiled = torch.compile(_toy_kernel)(values)
    torch.testing.assert_close(compiled, _toy_kernel(values), rtol=1e-4, atol=1e-4)
    print(f"torch.compile: a kernel in {elapsed.seconds:.1f} s")
    with sampled(open_reader(device), device, every_s=0.05) as readings:
        for _ in range(PRODUCTS):
            values = torch.tanh(values @ values)
    for name, value in readings.figures.items():
        print(f"{name}: {value:.4g}")
    for name, reason in readings.not_measured.items():
        print(f"{name}: not measured: {reason}")


def _toy_kernel(values: Tensor) -> Tensor:
    return torch.sigmoid(values).mul(2).sub(1).relu().sum(dim=1)


if __name__ == "__main__":
    main(sys.argv[1])
