"""Claims of papers that records or a count can decide, and published figures that this tool does not measure.

`claims.toml` has them; `conditions.py` has the conditions on the evidence of each claim.
"""

import math
import tomllib
from pathlib import Path
from typing import Literal

import msgspec

from bench.experiment.config import Experiment, choose
from bench.experiment.experiments import get_experiment
from bench.experiment.settings import with_settings
from bench.features.claims.conditions import ACCURACY_TOLERANCE, CONDITIONS, Condition
from bench.features.claims.evidence import PERCENT

RATIO_TOLERANCE = math.log(1.1)  # of the log of a published ratio, which has two digits


class FlopRatio(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The forward FLOPs per image of the baseline over those of the experiment, in the code that was released."""

    value: float  # six digits; a test counts it again
    description: str
    baseline: str
    experiment: str
    settings: tuple[str, ...] = ()  # FIELD=VALUE of both experiments
    is_padded: bool = (
        True  # captions are padded to the context; else they have an assumed web length
    )
    has_recipe_sizes: bool = True  # at the image sizes of each recipe; else at one size

    @property
    def experiments(self) -> tuple[Experiment, Experiment]:
        """The baseline and the experiment with the settings."""
        return (
            with_settings(get_experiment(self.baseline), self.settings),
            with_settings(get_experiment(self.experiment), self.settings),
        )


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A claim of a paper about two experiments or towers."""

    name: str
    title: str
    quote: str
    source: str  # the paper, with its version
    where: str  # page, section, figure or table
    checked: str  # how the quote was compared with the source
    kind: Literal["speed", "accuracy", "FLOPs"]
    published: float
    unit: str
    baseline: str  # experiment or tower
    experiment: str
    held_fixed: str
    hardware: str
    decided_by: str  # in a verdict: what the evidence is
    commands: tuple[str, ...]  # that leave the records or the count
    flop_ratios: tuple[FlopRatio, ...] = ()
    # Smallest and largest factor that one GPU lacks of the ratio: communication, and the captions of other GPUs in
    # CLIP's loss. Modelled by `plan` for the GPUs of the trainings, from 1,600 to 100 Gbit/s per node.
    missing_factor: tuple[float, float] = (1.0, 1.0)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions on evidence; none for a claim that a count decides."""
        return CONDITIONS.get(self.name, ())

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


class PublishedFigure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published figure that this tool does not measure."""

    title: str
    published: str
    source: str
    flop_ratio: FlopRatio | None = None  # None: the FLOPs of the two cannot be counted here


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    claims: tuple[Claim, ...]
    figures: tuple[PublishedFigure, ...]


def get_claim(name: str) -> Claim:
    """Return a claim; ValueError suggests the nearest name."""
    return choose(name, CLAIMS, "claim")


_document = msgspec.convert(
    tomllib.loads(Path(__file__).with_name("claims.toml").read_text(encoding="utf-8")), _Document
)
CLAIMS = {claim.name: claim for claim in _document.claims}
PUBLISHED_FIGURES = _document.figures
