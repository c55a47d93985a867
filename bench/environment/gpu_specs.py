"""GPU specifications from data sheets. No torch here.

Each row is one GPU, by the data sheet of the card or of its system (GB300 NVL72, HGX B300, GB200 NVL72, DGX B200);
GeForce cards and RTX PRO by the white papers of their architectures. Peaks are dense: sparse ones are twice as high.
Power is the maximum of a card. Links are the bandwidth of one GPU in one direction, half of the figure in data sheets:
NVLink if all GPUs of a node have it, else PCIe (NVLink bridges join two or four cards). The network is one card of the
vendor's own system per GPU.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

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
    # Bytes per second to other nodes; None: no node with a network is sold.
    network_bytes_per_second: float | None
    gpus_per_node: int = 8

    @property
    def source(self) -> str:
        return f"data sheet of {self.name_words}"

    def peak_flops(self, precision: str) -> float:
        """Return the peak in FLOP/s of products in a precision, with torch's defaults."""
        return self.fp32_flops if precision == "fp32" else self.bf16_flops


# The order is that of matching CUDA device names: "H100" is in several.
_SPECS = (
    GpuSpec("GB300", 2500e12, 80e12, 288 * GB, 1400.0, 900 * GB, 100 * GB, 72),
    GpuSpec("B300", 2250e12, 75e12, 288 * GB, 1400.0, 900 * GB, 100 * GB),
    GpuSpec("GB200", 2500e12, 80e12, 186 * GB, 1200.0, 900 * GB, 50 * GB, 72),
    GpuSpec("B200", 2250e12, 80e12, 180 * GB, 1000.0, 900 * GB, 50 * GB),
    GpuSpec("H200 NVL", 835.5e12, 60e12, 141 * GB, 600.0, 64 * GB, None),
    GpuSpec("H100 NVL", 835.5e12, 60e12, 94 * GB, 400.0, 64 * GB, None),
    GpuSpec("GH200", 989.4e12, 67e12, 96 * GB, 1000.0, 450 * GB, 50 * GB, 1),
    GpuSpec("H200", 989.4e12, 67e12, 141 * GB, 700.0, 450 * GB, 50 * GB),
    GpuSpec("H100 PCIe", 756e12, 51e12, 80 * GB, 350.0, 64 * GB, None),
    GpuSpec("H100", 989.4e12, 67e12, 80 * GB, 700.0, 450 * GB, 50 * GB),
    GpuSpec("H20", 148e12, 44e12, 96 * GB, 400.0, 450 * GB, 50 * GB),
    GpuSpec("A100 PCIE 40GB", 312e12, 19.5e12, 40 * GB, 250.0, 32 * GB, None),
    GpuSpec("A100 80GB PCIe", 312e12, 19.5e12, 80 * GB, 300.0, 32 * GB, None),
    GpuSpec("A100 40GB", 312e12, 19.5e12, 40 * GB, 400.0, 300 * GB, 25 * GB),
    GpuSpec("A100", 312e12, 19.5e12, 80 * GB, 400.0, 300 * GB, 25 * GB),
    GpuSpec("L40S", 362e12, 91.6e12, 48 * GB, 350.0, 32 * GB, None),
    GpuSpec("L40", 181e12, 90.5e12, 48 * GB, 300.0, 32 * GB, None),
    GpuSpec("L4", 121e12, 30.3e12, 24 * GB, 72.0, 32 * GB, None),
    GpuSpec("A10G", 70e12, 35e12, 24 * GB, 300.0, 32 * GB, None),
    GpuSpec("RTX PRO 6000 Blackwell", 503.8e12, 125e12, 96 * GB, 600.0, 64 * GB, None),
    GpuSpec("RTX 6000 Ada", 364.2e12, 91.1e12, 48 * GB, 300.0, 32 * GB, None),
    GpuSpec("RTX 5090", 209.5e12, 104.8e12, 32 * GB, 575.0, 64 * GB, None),
    GpuSpec("MI300X", 1307.4e12, 163.4e12, 192 * GB, 750.0, 448 * GB, 50 * GB),
    GpuSpec("RTX 4090", 165.2e12, 82.6e12, 24 * GB, 450.0, 32 * GB, None),
)
# A part of a GPU, or another chip of the same number.
_OTHER_CARD = re.compile(r"\b(MIG|Laptop|Max-Q|[45]090 D)\b")
GPU_SPECS: Mapping[str, GpuSpec] = {
    spec.name_words.lower().replace(" ", "-"): spec for spec in _SPECS
}


def find_gpu_spec(name: str) -> GpuSpec | None:
    """Return the specification for a CUDA device name; None if it is unknown, or a MIG slice or a laptop's GPU."""
    if _OTHER_CARD.search(name):
        return None
    words = {*re.findall(r"\w+", name)}
    return next((spec for spec in _SPECS if words.issuperset(spec.name_words.split())), None)


def datasheet_peak(name: str, precision: str) -> tuple[float | None, str]:
    """Return the peak of a GPU in FLOP/s by its CUDA device name, and its source; None if it is unknown."""
    spec = find_gpu_spec(name)
    if spec is None:
        return None, f"no peak known for {name} at {precision}"
    kind = "fp32 without tensor cores" if precision == "fp32" else f"{precision} dense"
    return spec.peak_flops(precision), f"{spec.source}, {kind}"
