"""Claims of papers as values: the quote and its source, the two experiments, the metric and the published value.

Each is a file NAME.toml beside this module; the module `predictions` writes `predictions.json`.
"""

import math
import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from bench.environment.files import prefix_errors
from bench.experiment.config import Experiment, choose
from bench.experiment.experiments import get_experiment
from bench.experiment.settings import with_settings

FOLDER = Path(__file__).parent
PREDICTIONS = FOLDER / "predictions.json"
Metric = Literal["cost", "FLOPs", "largest batch", "accuracy", "zero-shot accuracy"]
UNITS: dict[Metric, str] = {
    "cost": "times the baseline's GPU hours for equal images",
    "FLOPs": "% more FLOPs than the baseline",
    "largest batch": "times the baseline's largest batch in equal memory",
    "accuracy": "points of accuracy compared with the baseline",
    "zero-shot accuracy": "% zero-shot accuracy",
}
DECIDED_WITHOUT_RECORDS: tuple[Metric, ...] = ("FLOPs", "zero-shot accuracy")
Pair = tuple[str, str]  # of the baseline, of the experiment


class Conditions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a record must be to decide a claim, beside having the settings of the claim's experiments."""

    code: str = ""  # of the authors, without whose runs the claim is not rejected; empty: this project's rejects it
    device: str = ""  # name of its GPU, or "cuda" for any; empty: any device
    processes: int | None = None  # that shared a batch, one a device; None: any number
    loading: Literal["any", "disk"] = "any"  # "disk": images are read from shards
    memory_gib: float | None = None  # limit of the trials of batch sizes; None: any
    head_rows: int | None = None  # of CatLIP's classifier; None: any number
    data: str = ""  # part of the path of the training data; empty: any data
    images_per_step: tuple[int, int] | None = None  # of the two trainings, on all devices; None: any number
    num_classes: int | None = None  # of the task, as its numbers of images
    num_train: int | None = None
    num_test: int | None = None
    baseline_accuracy: float | None = None  # published for the baseline, in %; within a point of it; None: any


class PaperClaim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A claim of a paper about two experiments; ValueError for a value that its metric does not allow."""

    name: str = ""  # of its file
    title: str
    quote: str
    source: str  # the paper, with its version
    where: str  # page, section, figure or table
    checked: str  # how the quote was compared with the source, or why it could not be
    metric: Metric
    published: float  # in the unit of the metric
    is_lower_bound: bool = False  # the paper says "more than this" without a figure
    experiments: Pair  # as published
    controlled: Pair | None = None  # which differ in the method alone; None: `experiments` do
    settings: tuple[str, ...] = ()  # FIELD=VALUE of the experiments
    held_fixed: str  # what the paper held fixed
    hardware: str  # that the paper used
    gpu: str | None = None  # name of its data sheet (bench/environment/gpu_specs.py); None: no GPU
    gpus: tuple[int, int] | None = None  # number of GPUs of the two experiments
    task: str = ""  # of an accuracy
    protocols: Pair = ("", "")  # that score it
    label_share: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None  # of the labels; None: all
    conditions: Conditions | None = None  # None: no record decides the claim, but a count or nothing

    def __post_init__(self) -> None:
        """Raise ValueError for a value that its metric does not allow."""
        if self.metric != "accuracy" and self.published <= 0:
            raise ValueError(f"published must be positive, got {self.published}")
        if self.metric == "accuracy" and not (self.task and all(self.protocols)):
            raise ValueError("an accuracy needs a task and protocols")
        if (self.conditions is None) != (self.metric in DECIDED_WITHOUT_RECORDS):
            raise ValueError(f"conditions are for claims that records decide, got {self.conditions} for {self.metric}")

    @property
    def unit(self) -> str:
        """The unit of the published value."""
        return UNITS[self.metric]

    @property
    def speed_ratio(self) -> float | None:
        """How many times the baseline's images per second a claim on cost means; None for other metrics."""
        return 1 / self.published if self.metric == "cost" else None

    @property
    def quantity(self) -> float:
        """The published value as a logarithm or in points of accuracy; more is better for every metric but FLOPs."""
        if self.metric == "accuracy":
            return self.published
        return math.log(self.speed_ratio or self.published)

    def experiments_of(self, pair: Pair) -> tuple[Experiment, Experiment]:
        """Return a pair's experiments with the claim's settings; ValueError for an unknown name or setting."""
        baseline, experiment = (with_settings(get_experiment(name), self.settings) for name in pair)
        return baseline, experiment


class PredictedRatios(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ratios of images per second that are predicted without a measurement."""

    equal_sizes: float  # by counted FLOPs as released, both at one image size
    unpadded_equal_sizes: float  # the same with captions of web length that are not padded
    released_sizes: float  # the same at the image sizes of each recipe
    # least and largest factor of communication and the contrastive loss's other captions, over networks and from this
    # project's loss to the released one; None: no GPUs are named
    communication: tuple[float, float] | None


@cache
def read_claims() -> dict[str, PaperClaim]:
    """Return every claim by its name."""
    return {path.stem: _read_claim(path) for path in sorted(FOLDER.glob("*.toml"))}


def get_claim(name: str) -> PaperClaim:
    """Return a claim; ValueError suggests the nearest name."""
    return choose(name, read_claims(), "claim")


@cache
def read_predictions() -> dict[str, PredictedRatios]:
    """Return the predictions for every claim by its name."""
    return msgspec.json.decode(PREDICTIONS.read_bytes(), type=dict[str, PredictedRatios])


def _read_claim(path: Path) -> PaperClaim:
    with prefix_errors(path.name, (ValueError, msgspec.ValidationError)):
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        return msgspec.convert(document | {"name": path.stem}, PaperClaim)
