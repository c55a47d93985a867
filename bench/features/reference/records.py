"""Records of comparisons with other people's training code, and the speeds that they hold. No torch here."""

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Annotated, Literal

import msgspec

from bench.environment.circumstances import MAX_ENTRIES
from bench.features.reference import OPEN_CLIP, OURS
from bench.records.record import AuthorsRun, NonNegative, PositiveCount, Record, Seconds
from bench.records.record_kind import RecordKind
from bench.records.scores import Count
from bench.statistics.ratios import Rounds, ratio_of
from bench.tables.formats import format_bracketed_interval, format_ratio


class ReferenceRun(RecordKind, frozen=True, kw_only=True, tag="reference"):
    """One side of a comparison with other people's training code: a run of theirs or of ours."""

    side: str
    round: Count
    window_seconds: Seconds
    losses: tuple[float, ...]  # of the first step with each batch, warm-up included
    # Computed, padding included; None: the method reads no text.
    tokens_per_caption: NonNegative | None
    commit: str = ""  # commit of the checkout beside which it ran; empty: none


class ReleasedKey(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A key of a configuration file, and what a run did with its value."""

    state: Literal["used", "changed", "not used", "unclassified"]
    released: str  # value in the file, as JSON
    used: str = ""  # value of a changed key, as JSON
    reason: str = ""  # why it is changed or not used


class ReleasedRun(AuthorsRun, frozen=True, kw_only=True, tag="released-run"):
    """Windows of the authors' training loop with their configuration file, the device idle at both ends of each."""

    keys: Annotated[
        dict[str, ReleasedKey], msgspec.Meta(max_length=MAX_ENTRIES)
    ] = {}  # of the file, by dotted names
    gpus: PositiveCount  # processes, one a device
    round: Count
    window_images: tuple[PositiveCount, ...]  # processed in each window by one process
    window_seconds: Seconds
    # Height, width and images of each step.
    image_sizes: tuple[tuple[PositiveCount, PositiveCount, PositiveCount], ...]
    losses: tuple[float, ...]  # of every step, warm-up included
    gradient_norms: tuple[
        float | None, ...
    ] = ()  # of every step; None: not finite; empty: the file computes none

    def __post_init__(self) -> None:
        """Raise ValueError for a figure that some windows or some steps lack."""
        if len(self.window_images) != len(self.window_seconds):
            raise ValueError(f"window_images must be of all {len(self.window_seconds)} windows")
        steps = len(self.losses)
        if len(self.image_sizes) != steps or len(self.gradient_norms) not in (0, steps):
            raise ValueError(f"image_sizes and gradient_norms must be of all {steps} steps")

    @property
    def changed(self) -> dict[str, str]:
        """The keys whose value is not the file's, each with both values and the reason."""
        return {
            name: f"used {key.used}, released {key.released}: {key.reason}"
            for name, key in self.keys.items()
            if key.state == "changed"
        }

    @property
    def has_other_tower(self) -> bool:
        """Whether the key of the tower's size is changed."""
        return "model.classification.vit.mode" in self.changed

    @property
    def images_per_second(self) -> float:
        """The images per second of all processes over all windows, which have images of several sizes."""
        return self.gpus * sum(self.window_images) / sum(self.window_seconds)


def rates_by_experiment(records: Sequence[Record]) -> dict[str, dict[str, dict[int, float]]]:
    """Return the images per second of each experiment's sides, by side and round."""
    rates: dict[str, dict[str, dict[int, float]]] = {}
    for record in records:
        run = record.measured
        if isinstance(run, ReferenceRun) and record.experiment is not None:
            rates_by_side = rates.setdefault(record.experiment.name, {})
            # Windows may differ in work.
            rate = record.experiment.images_per_window / fmean(run.window_seconds)
            rates_by_side.setdefault(run.side, {})[run.round] = rate
    return rates


def describe_clip_costs(records: Sequence[Record]) -> list[str]:
    """Say for each experiment that was compared with open_clip which side trains CLIP at the least cost, and where.

    The newest comparison of an experiment counts.
    """
    sentences = dict[str, str]()
    for comparison in sorted({record.comparison for record in records}):
        comparison_records = [record for record in records if record.comparison == comparison]
        machines = {}
        for record in comparison_records:
            if record.experiment is not None:
                where = record.circumstances
                batch_size = record.experiment.training.batch_size
                machines[record.experiment.name] = (
                    f"{where.machine}, {where.precision}, batch {batch_size}"
                )
        for name, rates in rates_by_experiment(comparison_records).items():
            if OPEN_CLIP in rates:
                sentences[name] = (
                    f"{_describe_cheapest_side(name, rates)} Machine: {machines[name]}."
                )
    return list(sentences.values())


def _describe_cheapest_side(name: str, rates: Mapping[str, Rounds]) -> str:
    """Say which side trains CLIP at the least cost, and compare ours with the fastest of the others."""
    medians = {side: median(rounds.values()) for side, rounds in rates.items()}
    cheapest = max(medians, key=medians.__getitem__)
    text = f"{name}: CLIP costs the least with {cheapest}, {medians[cheapest]:.3g} images/s."
    if OURS not in rates or len(rates) == 1:
        return text
    fastest = max(rates.keys() - {OURS}, key=medians.__getitem__)
    ratio = ratio_of(rates[fastest], rates[OURS])
    interval = format_bracketed_interval(ratio, format_ratio)
    return f"{text} {OURS} over the fastest of the others, {fastest}: {format_ratio(ratio.value)}{interval}."
