"""GPU specifications from data sheets, read from gpu_specs.csv. No torch here.

Each row of the file is one GPU, by the data sheet of the card or of its system (GB300 NVL72, HGX B300, GB200 NVL72,
DGX B200); GeForce cards and RTX PRO are by the white papers of their architectures. Peaks are dense: sparse ones are
twice as high. Power is the maximum of a card. Links are the bandwidth of one GPU in one direction, half of the figure
in data sheets: NVLink if all GPUs of a node have it, else PCIe (NVLink bridges join two or four cards). The network is
one card of the vendor's own system per GPU.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

SPECS_FILE = Path(__file__).with_name("gpu_specs.csv")
GB = 1e9


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """The specification of a GPU and of its node."""

    name_words: str  # words in its CUDA device name
    bf16_flops: float  # FLOP/s of dense products with fp32 accumulation, in bf16 and in fp16
    fp32_flops: float  # FLOP/s outside the tensor cores, torch's default for fp32
    memory_bytes: float  # bytes
    watts: float
    link_bytes_per_second: float  # bytes per second to the GPUs of its node
    # Bytes per second to other nodes; None (null in the file): no node with a network is sold.
    network_bytes_per_second: float | None
    gpus_per_node: int = 8

    @property
    def source(self) -> str:
        return f"data sheet of {self.name_words}"

    def peak_flops(self, precision: str) -> float:
        """Return the peak in FLOP/s of products in a precision, with torch's defaults."""
        return self.fp32_flops if precision == "fp32" else self.bf16_flops


def _read_specs() -> list[GpuSpec]:
    """Return the rows of the file in the order in which they are matched with device names: "H100" is in several."""
    specs = []
    with SPECS_FILE.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            spec = msgspec.convert(row, GpuSpec, strict=False)
            specs.append(spec)
    return specs


_SPECS = _read_specs()
# A part of a GPU, or another chip of the same number.
_OTHER_CARD = re.compile(r"\b(MIG|Laptop|Max-Q|[45]090 D)\b")
GPU_SPECS: Mapping[str, GpuSpec] = {
    spec.name_words.lower().replace(" ", "-"): spec for spec in _SPECS
}


def find_gpu_spec(name: str) -> GpuSpec | None:
    """Return the specification for a CUDA device name; None if it is unknown, or a MIG slice or a laptop's GPU."""
    if _OTHER_CARD.search(name):
        return None
    words = set(re.findall(r"\w+", name))
    for spec in _SPECS:
        if words.issuperset(spec.name_words.split()):
            return spec
    return None


def datasheet_peak(name: str, precision: str) -> tuple[float | None, str]:
    """Return the peak of a GPU in FLOP/s by its CUDA device name, and its source; None if it is unknown."""
    spec = find_gpu_spec(name)
    if spec is None:
        return None, f"no peak known for {name} at {precision}"
    kind = "fp32 without tensor cores" if precision == "fp32" else f"{precision} dense"
    return spec.peak_flops(precision), f"{spec.source}, {kind}"
