"""Claims of papers on speed that records can decide, and published figures that this tool does not judge.

`claims.toml` has them; `conditions.py` has the conditions on the records.
"""

import tomllib
from pathlib import Path

import msgspec


class ReleasedFlopRatio(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The forward FLOPs per image of the baseline over those of the experiment, as counted for the released code."""

    value: float  # six digits; a test counts it again
    description: str
    baseline: str
    experiment: str
    settings: tuple[str, ...] = ()  # FIELD=VALUE of both experiments
    # Captions are padded to the context; else they have an assumed web length.
    is_padded: bool = True
    has_recipe_sizes: bool = True  # at the image sizes of each recipe; else at one size


class SpeedClaim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A claim of a paper about the hours of two experiments."""

    name: str
    title: str
    quote: str
    source: str  # the paper, with its version
    where: str  # page, section, figure or table
    checked: str  # how the quote was compared with the source
    published: float  # GPU hours of the experiment over those of the baseline, for equal images
    baseline: str
    experiment: str
    released_files: tuple[str, str]  # of the baseline and of the experiment, in CoreNet
    held_fixed: str
    hardware: str
    commands: tuple[str, ...]  # that leave the records
    flop_ratios: tuple[ReleasedFlopRatio, ...]
    # Smallest and largest factor by which many GPUs raise the speed ratio of one GPU: communication, and the captions
    # of other GPUs in CLIP's loss. Modelled by `plan` for `modelled_gpus`, from 1,600 to 100 Gbit/s per node.
    single_gpu_factors: tuple[float, float]
    modelled_gpus: str  # the numbers of GPUs that the released files or the paper's tables name

    @property
    def published_speed_ratio(self) -> float:
        """The published images per GPU-hour of the experiment over those of the baseline."""
        return 1 / self.published

    @property
    def padded_flop_ratios(self) -> tuple[float, float]:
        """The smallest and largest FLOP ratio with captions padded as released; they differ in image sizes."""
        ratios = [ratio.value for ratio in self.flop_ratios if ratio.is_padded]
        return min(ratios), max(ratios)


class UnjudgedPublishedFigure(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A published figure that this tool does not judge."""

    title: str
    published: str
    source: str
    flop_ratio: ReleasedFlopRatio | None = None  # None: the FLOPs of the two cannot be counted here


class _ClaimsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of claims.toml."""

    claims: tuple[SpeedClaim, ...]
    figures: tuple[UnjudgedPublishedFigure, ...]


_text = Path(__file__).with_name("claims.toml").read_text(encoding="utf-8")
_document = msgspec.convert(tomllib.loads(_text), _ClaimsFile)
CLAIMS = {claim.name: claim for claim in _document.claims}
PUBLISHED_FIGURES = _document.figures
