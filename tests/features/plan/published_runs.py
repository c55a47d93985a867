"""Published throughputs of CLIP trainings.

Sources: open_clip's docs/PRETRAINED.md (12.8 billion images over GPU-hours), LAION's blog of September 2022 and January
2023, `trained_models_info.csv` of LAION-AI/scaling-laws-openclip (without a training that is also in open_clip's list),
the DataComp paper (arXiv 2304.14108), NVIDIA's NeMo documentation, x-cls/superclass issue 11. GFLOPs and parameters:
open_clip, docs/model_profile.csv. Activation checkpointing: DataComp's training command always has it, SuperClass's
configurations have `grad_checkpointing: true`, and LAION's L/14 fits in 40 GB at these batches only with it. Trainings
without CLIP's FLOPs at one image size are excluded: patch dropout (bigG/14 at 46.9 images/s/GPU), FLIP, CLIPA,
TinyCLIP, MobileCLIP, image towers alone.

JUWELS Booster: 4 A100 of 40 GB and 4 x 200 Gbit/s per node; Stability's cluster (AWS p4d): 8 and 400 Gbit/s in total.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.environment.gpu_specs import GPU_SPECS, GpuSpec
from bench.tables.formats import GB

V100 = GpuSpec("V100", 125e12, 15.7e12, 32 * GB, 150 * GB, None)  # in fp16
A100 = GPU_SPECS["a100"]
H100 = GPU_SPECS["h100"]
NEMO = "NeMo"  # the source of the trainings under NVIDIA's NeMo; all others are of open_clip or its kind
JUWELS = replace(GPU_SPECS["a100-40gb"], gpus_per_node=4, network_bytes_per_second=25 * GB)
A100_EFA = replace(A100, network_bytes_per_second=6.25 * GB)
P4D = replace(GPU_SPECS["a100-40gb"], network_bytes_per_second=6.25 * GB)


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A published CLIP model with text padded to 77 tokens."""

    gflops: float  # of the forward, per image and caption
    megaparameters: float
    width: int  # of the features


MODELS: Mapping[str, PublishedModel] = {
    "B/32": PublishedModel(14.78, 151.28, 512),
    "B/16": PublishedModel(41.09, 149.62, 512),
    "B/16+ 240": PublishedModel(64.03, 208.38, 640),
    "L/14": PublishedModel(175.33, 427.62, 768),
    "H/14": PublishedModel(381.68, 986.11, 1024),
    "g/14": PublishedModel(581.15, 1366.68, 1024),
    "bigG/14": PublishedModel(1065.36, 2539.57, 1280),
}


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """A published training; `low` and `high` are the ends of a range of rates."""

    source: str  # the publication, and after a comma which of its trainings
    model: str
    device: GpuSpec
    gpus: int
    # Per GPU; None if it is unknown for the rate: communication cannot be predicted.
    batch: int | None
    low: float  # images per second and GPU
    high: float
    is_recomputed: bool = False  # activation checkpointing, as far as published

    @property
    def midpoint(self) -> float:
        """The rate with which a prediction is compared."""
        return (self.low + self.high) / 2

    @property
    def utilisation(self) -> float:
        """The FLOPs of the whole step, 3 times those of the forward or 4 with recomputed ones, over the dense peak."""
        flops = (4e9 if self.is_recomputed else 3e9) * MODELS[self.model].gflops
        return flops * self.midpoint / self.device.bf16_flops_per_second


PUBLISHED_RUNS: Sequence[PublishedRun] = (
    PublishedRun("open_clip", "B/32", JUWELS, 128, 256, 773.0, 773.0),
    PublishedRun("open_clip", "B/16", JUWELS, 176, 192, 332.0, 332.0),
    PublishedRun("open_clip", "B/16+ 240", JUWELS, 224, 160, 261.0, 261.0),
    PublishedRun("open_clip", "L/14", JUWELS, 400, 96, 70.0, 70.0, is_recomputed=True),
    PublishedRun("LAION 2022", "B/32", P4D, 824, 96, 228.0, 228.0, is_recomputed=True),
    PublishedRun("LAION 2022, fp16", "H/14", P4D, 824, 96, 30.0, 30.0, is_recomputed=True),
    PublishedRun("LAION 2022, bf16", "H/14", P4D, 824, 96, 42.0, 42.0, is_recomputed=True),
    PublishedRun("LAION 2022, fp16", "g/14", P4D, 800, 40, 20.0, 20.0, is_recomputed=True),
    PublishedRun("LAION 2022, bf16", "g/14", P4D, 800, 80, 31.0, 31.0, is_recomputed=True),
    PublishedRun("LAION 2023", "bigG/14", A100_EFA, 512, 313, 20.4, 20.4, is_recomputed=True),
    PublishedRun("scaling laws", "B/32", JUWELS, 128, 256, 729.0, 850.0),
    PublishedRun("scaling laws", "B/32", JUWELS, 128, 672, 412.0, 412.0),
    PublishedRun("scaling laws", "B/32", JUWELS, 344, 256, 289.0, 639.0),
    PublishedRun("scaling laws", "B/16", JUWELS, 176, 512, 289.0, 365.0),
    PublishedRun("scaling laws", "B/16", JUWELS, 344, 256, 228.0, 396.0),
    PublishedRun("scaling laws", "L/14", JUWELS, 200, 448, 178.0, 178.0, is_recomputed=True),
    PublishedRun("scaling laws", "L/14", JUWELS, 384, 224, 73.0, 105.0, is_recomputed=True),
    PublishedRun("scaling laws", "L/14", JUWELS, 768, 112, 79.0, 79.0, is_recomputed=True),
    PublishedRun("scaling laws", "L/14", JUWELS, 1024, 84, 66.0, 77.0, is_recomputed=True),
    PublishedRun("DataComp, small", "B/32", A100, 1, None, 889.0, 889.0, is_recomputed=True),
    PublishedRun("DataComp, xlarge", "L/14", A100, 512, None, 86.0, 86.0, is_recomputed=True),
    PublishedRun(NEMO, "g/14", A100, 8, None, 69.9, 69.9),
    PublishedRun(NEMO, "g/14", A100, 128, None, 67.4, 67.4),
    PublishedRun(NEMO, "g/14", H100, 8, None, 116.9, 116.9),
    PublishedRun(NEMO, "g/14", H100, 128, None, 108.0, 108.0),
    PublishedRun("superclass issue 11", "B/16", V100, 8, None, 222.0, 231.0, is_recomputed=True),
)
