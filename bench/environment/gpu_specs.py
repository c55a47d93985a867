"""GPU specifications from data sheets, read from gpu_specs.csv. No torch here.

Each row of the file is one GPU, by the data sheet of the card or of its system (GB300 NVL72, HGX B300, GB200 NVL72,
DGX B200); GeForce and RTX PRO figures are from the architectures' white papers. Peaks are dense: sparse ones are twice
as high. Links are the bandwidth of one GPU in one direction, half of the figure in data sheets: NVLink if all GPUs of a
node have it, else PCIe (NVLink bridges join two or four cards). The network assumes one network card per GPU, as in the
vendor's own systems. The order of the rows matters, because the first that fits a device name is taken: "H100 NVL" must
be tried before "H100".
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

SPECS_FILE = Path(__file__).with_name("gpu_specs.csv")


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """The specification of a GPU and of its node."""

    name: str  # its words are in the CUDA device name
    bf16_flops_per_second: float  # dense products with fp32 accumulation, in bf16 and in fp16
    fp32_flops_per_second: float  # outside the tensor cores, torch's default for fp32
    memory_bytes: float
    link_bytes_per_second: float  # to the GPUs of its node
    # To other nodes; None (null in the file): no node with a network is sold.
    network_bytes_per_second: float | None
    gpus_per_node: int = 8

    @property
    def source(self) -> str:
        """The source of the figures, as tables name it."""
        return f"data sheet of {self.name}"

    def peak_flops_per_second(self, precision: str) -> float:
        """Return the peak of matrix products in "fp32" (without TF32), "bf16" or "fp16"."""
        return self.fp32_flops_per_second if precision == "fp32" else self.bf16_flops_per_second


def _read_gpu_specs() -> dict[str, GpuSpec]:
    """Return the rows of the file, in its order, by the names that options take, such as "h100-nvl"."""
    specs = {}
    with SPECS_FILE.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            spec = msgspec.convert(row, GpuSpec, strict=False)
            specs[spec.name.lower().replace(" ", "-")] = spec
    return specs


GPU_SPECS: Mapping[str, GpuSpec] = _read_gpu_specs()
# In names that have a listed GPU's words but are another chip: MIG slices, laptops, Max-Q, the 4090 D and 5090 D.
_OTHER_CHIP = re.compile(r"\b(MIG|Laptop|Max-Q|[45]090 D)\b")


def find_gpu_spec(cuda_device_name: str) -> GpuSpec | None:
    """Return the specification for a CUDA device name; None if it is not listed."""
    if _OTHER_CHIP.search(cuda_device_name):  # a MIG slice, or another variant
        return None
    words = set(re.findall(r"\w+", cuda_device_name))
    for spec in GPU_SPECS.values():
        if words.issuperset(spec.name.split()):
            return spec
    return None


class DatasheetPeakFlops(NamedTuple):
    """The highest speed of matrix products by a GPU's data sheet."""

    flops_per_second: float | None  # None: unknown
    source: str  # where the figure is from, or why it is unknown


def find_datasheet_peak(cuda_device_name: str, precision: str) -> DatasheetPeakFlops:
    """Return the peak of the GPU with a CUDA device name, in "fp32", "bf16" or "fp16"."""
    spec = find_gpu_spec(cuda_device_name)
    if spec is None:
        return DatasheetPeakFlops(None, f"no peak known for {cuda_device_name} at {precision}")
    kind = "fp32 without tensor cores" if precision == "fp32" else f"{precision} dense"
    return DatasheetPeakFlops(spec.peak_flops_per_second(precision), f"{spec.source}, {kind}")
