"""Frames of the runs of a comparison, and which of its records and settings belong together."""

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import TypeVar

import msgspec
import pandas as pd

from bench.data.image_sizes import images_before_step, nearest_step_count
from bench.experiment.config import (
    FIELDS_IGNORED_IN_ROWS,
    Experiment,
    differing_fields,
    fields_of,
    fields_with,
    format_differences,
    get_field,
)
from bench.interfaces.sections import ComparisonRecords
from bench.labels.vocabulary import vocabulary_field
from bench.measure.speed_tables import MEMORY_COUNTS
from bench.measure.summary import device_peak, missing_readings, run_figures
from bench.records.record import BatchTrial, Memory, Record, Speed, Training

K = TypeVar("K")
V = TypeVar("V")
# Fields in which an experiment may differ from itself at another batch size; its speed is independent of the seed.
BY_BATCH = {"name", "seed", *fields_with("by batch", "budget")}


def group_by(items: Iterable[V], key: Callable[[V], K]) -> dict[K, list[V]]:
    """Group items by a key, in the order of the keys' first appearance."""
    groups: dict[K, list[V]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def select_equal_and_largest_batch(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Split records into those at equal batch size, and those at the largest batch under a memory limit, with trials.

    An experiment whose own batch size is the largest is in both.
    """
    tried = {one.experiment_name for one in records if isinstance(one.measured, BatchTrial)}
    own = {one.experiment_name for one in records if isinstance(one.measured, Memory)}
    others = [one for one in records if one.experiment_name not in tried - own]
    largest = [one for one in records if one.experiment_name in tried]
    return (
        [one for one in others if not isinstance(one.measured, BatchTrial)],
        [one for one in largest if isinstance(one.measured, (Speed, BatchTrial))],
    )


def speeds_frame(comparison: ComparisonRecords) -> pd.DataFrame:
    """Return one row per timed run; a figure that was not measured is NaN."""
    runs = comparison.runs(Speed)
    peak = device_peak(speed for _, speed in runs)
    return pd.DataFrame(
        [
            {
                "experiment": one.name,
                "method": one.method,
                **run_figures(one, speed, peak),
                "peak_source": speed.peak_source,
                "not_measured": missing_readings(speed),
            }
            for one, speed in runs
        ]
    )


def memory_frame(comparison: ComparisonRecords) -> pd.DataFrame:
    """Return one row per memory run, one column per count."""
    rows = [
        {
            "experiment": one.name,
            "batch_size": one.training.batch_size,
            **msgspec.structs.asdict(memory),
        }
        for one, memory in comparison.runs(Memory)
    ]
    return (
        pd.DataFrame(rows).astype(dict.fromkeys(MEMORY_COUNTS, "Int64")) if rows else pd.DataFrame()
    )


def losses_frame(
    comparison: ComparisonRecords, max_points: int = 120, name: str | None = None
) -> pd.DataFrame:
    """Return the training losses of one experiment or of all, averaged to at most `max_points` points per trunk.

    A point of a cool-down averages as many steps as one of its trunk.
    """
    rows = [
        {"experiment": one.name, "seed": one.seed, "part": part, "images": images, "loss": loss}
        for record, training in comparison.of(Training)
        if (one := record.experiment) is not None and name in (None, one.name)
        for every in [max(1, math.ceil(len(training.trunk_losses) / max_points))]
        for part, curve in loss_curve_parts(one, training, record.circumstances.processes, every)
        for images, loss in curve
    ]
    return pd.DataFrame(rows)


def loss_curve_parts(
    experiment: Experiment, training: Training, processes: int, every: int = 1
) -> list[tuple[str, list[tuple[int, float]]]]:
    """Return (part, [(images of all processes, loss)]) for the trunk and for each cool-down.

    Each `every` losses are averaged to one at the last of them.
    """
    each = training.steps_per_loss

    def curve(first: int, losses: Sequence[float]) -> list[tuple[int, float]]:
        shares = [losses[start : start + every] for start in range(0, len(losses), every)]
        ends = (min(number * every, len(losses)) for number in range(1, len(shares) + 1))
        images = (images_before_step(experiment, first + each * end) * processes for end in ends)
        return list(zip(images, map(fmean, shares), strict=True))

    parts = [("trunk", curve(0, training.trunk_losses))]
    for branch, losses in zip(training.branches, training.cooldown_losses, strict=True):
        start = nearest_step_count(experiment, branch.images // processes) - each * len(losses)
        parts.append((f"cool-down to {branch.images:,} images", curve(start, losses)))
    return parts


def conflicting_settings(comparison: ComparisonRecords) -> dict[str, str]:
    """Return the names whose records differ in settings that trainings and timed runs both read, with the values."""
    experiments = [
        record.experiment for record in comparison.records if record.experiment is not None
    ]
    found = {}
    for name, group in group_by(experiments, lambda one: one.name).items():
        unread = {*FIELDS_IGNORED_IN_ROWS} - {vocabulary_field(group[0])}
        differing = {
            field: values
            for field, values in differing_fields(group).items()
            if field not in unread
        }
        if differing:
            found[name] = format_differences(differing)
    return found


def batch_independent_settings(experiment: Experiment) -> tuple[object, ...]:
    """Return the settings that are equal for an experiment at all batch sizes."""
    return tuple(
        get_field(experiment, field) for field in fields_of(experiment) if field not in BY_BATCH
    )
