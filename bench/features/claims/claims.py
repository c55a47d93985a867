"""Claims of papers that records or a count can decide, and published figures that this tool does not measure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from bench.experiment.config import Experiment, choose
from bench.experiment.experiments import get_experiment
from bench.experiment.recipes import PUBLISHED_HOURS
from bench.experiment.settings import with_settings
from bench.features.claims.conditions import (
    AUTHORS_STEP,
    Condition,
    baseline_accuracy,
    on_task,
    released_files,
    towers_named,
)
from bench.features.claims.evidence import PERCENT

RATIO_TOLERANCE = math.log(1.1)  # of the log of a published ratio, which has two digits
ACCURACY_TOLERANCE = 1.0  # points
IMAGENET = "imagenet, fine-tune"  # task and protocol
Kind = Literal["speed", "accuracy", "FLOPs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlopRatio:
    """The forward FLOPs per image of the baseline over those of the experiment, in the code that was released."""

    value: float  # six digits; a test counts it again
    description: str
    baseline: str
    experiment: str
    settings: tuple[str, ...] = ()  # FIELD=VALUE of both experiments
    is_padded: bool = True  # captions are padded to the context; else they have an assumed web length
    has_recipe_sizes: bool = True  # at the image sizes of each recipe; else at one size

    @property
    def experiments(self) -> tuple[Experiment, Experiment]:
        """The baseline and the experiment with the settings."""
        return (
            with_settings(get_experiment(self.baseline), self.settings),
            with_settings(get_experiment(self.experiment), self.settings),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim of a paper about two experiments or towers."""

    name: str
    title: str
    quote: str
    source: str  # the paper, with its version
    where: str  # page, section, figure or table
    checked: str  # how the quote was compared with the source
    kind: Kind
    published: float
    unit: str
    baseline: str  # experiment or tower
    experiment: str
    held_fixed: str
    hardware: str
    flop_ratios: Sequence[FlopRatio] = ()
    conditions: tuple[Condition, ...] = ()  # a count decides a claim on FLOPs
    # Smallest and largest factor that one GPU lacks of the ratio: communication, and the captions of other GPUs in
    # CLIP's loss. Modelled by `plan` for the GPUs of the trainings, from 1,600 to 100 Gbit/s per node.
    missing_factor: tuple[float, float] = (1.0, 1.0)
    decided_by: str  # in a verdict: what the evidence is
    commands: Sequence[str]  # that leave the records or the count

    @property
    def speed_ratio(self) -> float:
        """How many times the baseline's images per GPU-hour a published share of its hours means."""
        return 1 / self.published

    @property
    def figure(self) -> float:
        """The published value on the scale of the evidence: log of a ratio, or points of accuracy."""
        if self.kind == "accuracy":
            return self.published
        return math.log(self.speed_ratio if self.kind == "speed" else self.published)

    @property
    def tolerance(self) -> float:
        """The largest distance from `figure` that agrees with it."""
        return ACCURACY_TOLERANCE if self.kind == "accuracy" else RATIO_TOLERANCE

    @property
    def counted_percent(self) -> float:
        """How many percent more FLOPs than the baseline the experiment has."""
        return PERCENT * (1 / self.flop_ratios[0].value - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFigure:
    """A published figure that this tool does not measure."""

    title: str
    published: str
    source: str
    flop_ratio: FlopRatio | None = None  # None: the FLOPs of the two cannot be counted here


def catlip_flop_ratios(size: str, unpadded: float, padded: float, recipe_sizes: float) -> tuple[FlopRatio, ...]:
    """Return the counted ratios of CLIP and CatLIP at a size of the tower."""
    ratio = partial(FlopRatio, baseline=f"clip-{size}-datacomp", experiment=f"catlip-{size}-datacomp")
    return (
        ratio(
            value=unpadded,
            description="both at 224 px, captions of an assumed web length (18 tokens on average) without padding",
            is_padded=False,
            has_recipe_sizes=False,
        ),
        ratio(
            value=padded,
            description="both at 224 px, captions padded to 77 tokens as released",
            has_recipe_sizes=False,
        ),
        ratio(
            value=recipe_sizes,
            description="at the image sizes of each recipe, captions padded to 77 tokens as released",
        ),
    )


def catlip_commands(size: str, claim: str) -> tuple[str, ...]:
    """Return the commands that leave the records of a claim on CatLIP's speed."""
    return (
        f"catlip-bench reference corenet --as-released --scale {size} --checkout CORENET --data SHARDS",
        f"catlip-bench claim {claim} --records results --out card.html",
    )


CATLIP = "CatLIP, arXiv 2404.15653v1"
CATLIP_QUOTE = (
    "CatLIP is 2.7\N{MULTIPLICATION SIGN} faster to pre-train than CLIP while maintaining down-stream accuracy. For a "
    "fair comparison, we calculate GPU hours by training CatLIP and CLIP with a batch size of 65k for one epoch of "
    "DataComp-1.3B on the same hardware configuration."
)
HOURS = "times CLIP's GPU hours for equal images"
BY_AUTHORS_STEP = "by the authors' step on one GPU, with this project's loader"
READ = "read in a copy of the paper's whole text"
L16 = ("tower=ViT-L-16", "text_tower=ViT-L-16")

CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            name="catlip-2.7x",
            title="CatLIP needs 0.37 of CLIP's GPU hours at ViT-B/16",
            quote=CATLIP_QUOTE,
            source=CATLIP,
            where="figure 1 (c), page 1: ViT B/16, CLIP 1.00, CatLIP 0.37; the quote is its caption",
            checked=READ,
            kind="speed",
            published=PUBLISHED_HOURS["corenet-vit-base"],
            unit=HOURS,
            baseline="clip-vit-b16-datacomp",
            experiment="catlip-vit-b16-datacomp",
            held_fixed=(
                "batch of 65k images, one epoch of DataComp-1.3B, hardware; the released recipes differ in attention "
                "kernel, precision, image sizes, crops, flips, gradient clipping, logged gradient norm, betas, "
                "epsilon, validation, GPUs and images per GPU, and the paper does not say whether the timed runs did"
            ),
            hardware=(
                "A100; the number is not given for the timed runs, the trainings had 256 (CLIP) and 64 (CatLIP): "
                "table 6b"
            ),
            flop_ratios=catlip_flop_ratios("vit-b16", 1.037326, 1.167046, 1.450823),
            conditions=(
                *AUTHORS_STEP,
                released_files("projects/clip/clip_vit_base.yaml", "projects/catlip/pretraining/vit_base.yaml"),
            ),
            missing_factor=(1.003, 1.053),
            decided_by=BY_AUTHORS_STEP,
            commands=catlip_commands("vit-b16", "catlip-2.7x"),
        ),
        Claim(
            name="catlip-h16",
            title="CatLIP needs 0.36 of CLIP's GPU hours at ViT-H/16",
            quote=CATLIP_QUOTE,
            source=CATLIP,
            where="figure 1 (c), page 1: ViT H/16, CLIP 1.00, CatLIP 0.36; the quote is its caption",
            checked=(
                f"{READ}; that figure 1 (c) timed the released files is assumed. CLIP's file is RangeAugment's: it "
                "names no data set, and on the 512 GPUs of its comment its batch is 131k images, where the figure has "
                "65k"
            ),
            kind="speed",
            published=PUBLISHED_HOURS["corenet-vit-huge"],
            unit=HOURS,
            baseline="clip-vit-h16-datacomp",
            experiment="catlip-vit-h16-datacomp",
            held_fixed=(
                "batch of 65k images, one epoch of DataComp-1.3B, hardware; the released files differ in attention "
                "kernel, image sizes, crops and number of GPUs, and agree in precision and images per GPU"
            ),
            hardware=(
                "A100; the number is not given for the timed runs, the files name 512 of 80 GB (CLIP) and 256 of 40 GB "
                "(CatLIP)"
            ),
            flop_ratios=catlip_flop_ratios("vit-h16", 1.011696, 1.051771, 1.303257),
            conditions=(
                *AUTHORS_STEP,
                released_files(
                    "projects/range_augment/clip/clip_vit_huge.yaml", "projects/catlip/pretraining/vit_huge.yaml"
                ),
            ),
            missing_factor=(1.002, 1.026),
            decided_by=BY_AUTHORS_STEP,
            commands=catlip_commands("vit-h16", "catlip-h16"),
        ),
        Claim(
            name="catlip-accuracy",
            title="CatLIP's tower reaches 84.3 % on ImageNet-1k at ViT-B/16, the authors' CLIP 84.4 %",
            quote=(
                "ViT B/16 pre-trained with CatLIP and CLIP on DataComp-1.3B achieves 84.3% and 84.4% top-1 accuracy on "
                "ImageNet-1k, and 58.4% and 59.2% on Places365 respectively."
            ),
            source=CATLIP,
            where=(
                "section 4.3 and table 2 (84.3 and 84.4); the quote names the accuracies on Places365 in the order of "
                "CLIP and CatLIP"
            ),
            checked=READ,
            kind="accuracy",
            published=-0.1,
            unit="points of accuracy compared with CLIP",
            baseline="clip_vit_base.pt",
            experiment="vit_base.pt",
            held_fixed=(
                "tower, DataComp-1.3B, 200,000 iterations, fine-tuning recipe; one training each. By the samplers of "
                "the released files CLIP sees 13.48 and CatLIP 16.67 billion images"
            ),
            hardware="A100",
            conditions=(
                towers_named("clip_vit_base.pt", "vit_base.pt"),
                on_task(IMAGENET, 1000, 1_281_167, 50_000),
                baseline_accuracy(IMAGENET, 84.4, ACCURACY_TOLERANCE),
            ),
            decided_by="by this project's fine-tuning of the two released towers",
            commands=(
                "catlip-bench transfer clip_vit_base.pt --task imagenet --root IMAGENET --protocol fine-tune",
                "catlip-bench transfer vit_base.pt --task imagenet --root IMAGENET --protocol fine-tune",
                "catlip-bench claim catlip-accuracy --records results --out card.html",
            ),
        ),
        Claim(
            name="superclip-flops",
            title="SuperCLIP adds 0.077 % to the FLOPs of CLIP at ViT-L/16",
            quote="with just a 0.077% increase in total FLOPs, and no need for additional annotated data",
            source="SuperCLIP, arXiv 2512.14480v1",
            where=(
                "abstract; section 4.2 and table 3 (59.689 and 6.547 GFLOPs of the encoders, 0.051 of the linear head)"
            ),
            checked=READ,
            kind="FLOPs",
            published=0.077,
            unit="% more FLOPs than CLIP",
            baseline="clip-vit-l14",
            experiment="superclip-vit-l14",
            held_fixed="towers, image and caption",
            hardware="none: a count for one pair of image and caption",
            flop_ratios=(
                FlopRatio(
                    value=0.999259,
                    description="both at 224 px, captions padded to 77 tokens",
                    baseline="clip-vit-l14",
                    experiment="superclip-vit-l14",
                    settings=L16,
                ),
            ),
            decided_by="by counted FLOPs",
            commands=("pytest tests/features/claims/test_claims.py",),
        ),
    )
}

PUBLISHED_FIGURES = (
    PublishedFigure(
        title="OpenVision 2 drops the text encoder and the contrastive loss of OpenVision, at ViT-L/14 and 224 px",
        published="83 to 57 h and 24.5 to 13.8 GB: 1.46 times the images per hour, 0.56 times the memory",
        source="OpenVision 2, arXiv 2509.01644, abstract and tables",
    ),
    PublishedFigure(
        title="FLIP masks half of the patches at ViT-L/16",
        published="0.50 times the time and 0.52 times the FLOPs, at twice the batch",
        source="FLIP, arXiv 2212.00794v2, section 4.1 and table 1a",
        flop_ratio=FlopRatio(
            value=1.932389,
            description="captions padded to 32 tokens",
            baseline="clip-vit-l14",
            experiment="flip-vit-l14",
            settings=(*L16, "context_length=32"),
        ),
    ),
    PublishedFigure(
        title="SigLIP at ViT-B/16 on four TPU-v4 chips",
        published="a batch of 4,096 fits, of CLIP's only 2,048: powers of two leave a ratio of 1 to 4",
        source="SigLIP, arXiv 2303.15343v4, section 4.2",
        flop_ratio=FlopRatio(
            value=1.0,
            description="captions padded to 77 tokens",
            baseline="clip-vit-b16",
            experiment="siglip-vit-b16",
        ),
    ),
    PublishedFigure(
        title="CLIPA at ViT-B/16 on eight A100",
        published="63.2 % zero-shot accuracy on ImageNet-1k in about 2 days",
        source="CLIPA, arXiv 2305.07017v2, abstract; the tower is in open_clip, docs/clipa.md",
        flop_ratio=FlopRatio(
            value=4.167662,
            description="captions padded to 77 and 16 tokens",
            baseline="clip-vit-b16",
            experiment="clipa-vit-b16",
        ),
    ),
    PublishedFigure(
        title="Rows of CatLIP's classifier as the initial head of a linear probe, 1 % of ImageNet-1k's labels",
        published="better than a random head; the gain is in figure 5 (a) only",
        source="CatLIP, arXiv 2404.15653v1, figure 5 (a) and section 4.2",
    ),
)


def get_claim(name: str) -> Claim:
    """Return a claim; ValueError suggests the nearest name."""
    return choose(name, CLAIMS, "claim")
