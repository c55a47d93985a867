"""Records -> a comparison with its experiments, labels and speeds, and frames of its runs."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import TypeVar

import msgspec
import pandas as pd

from bench.config import (
    FIELDS,
    FIELDS_IGNORED_IN_ROWS,
    Experiment,
    differing_fields,
    fields_of,
    fields_with,
    format_differences,
    get_field,
)
from bench.data.image_sizes import images_before_step, nearest_step_count
from bench.labels.vocabulary import vocabulary_field
from bench.measure.summary import device_peak, missing_readings, run_figures, throughputs_of
from bench.measure.throughput import require_comparable
from bench.method import find_method, methods
from bench.record import BatchTrial, Memory, Record, Speed, Training
from bench.sections import ComparisonRecords
from bench.tables import Cell

K = TypeVar("K")
V = TypeVar("V")
MEMORY_COUNTS = {  # title and note of the column of each count of peak memory; two kinds are never in one column
    "peak_allocated_bytes": ("peak allocated", "tensors on the device"),
    "peak_reserved_bytes": ("peak reserved", "the allocator's share of the device"),
    "process_bytes": ("process", "on the device, from NVML"),
    "peak_rss_bytes": ("peak resident", "above imports and data"),
    "peak_tensor_bytes": ("tensors", "counted, equal on every run"),
}
VARIANTS = {"flip": "FLIP", "clipa": "CLIPA"}  # CLIP with other settings, by the first word of the experiment's name
UNTIMED = "its speed was not measured"
IS_BASE = "it is the base of the ratios"
BASE_CELL = Cell("1", "base", 1)  # the ratio of the base to itself
# Fields in which an experiment may differ from itself at another batch size; its speed is independent of the seed.
BY_BATCH = {"name", "seed", *fields_with("by batch", "budget")}


def experiment_name(record: Record) -> str:
    """Return the name of a record's experiment; empty without one."""
    return record.experiment.name if record.experiment is not None else ""


def group_by(items: Iterable[V], key: Callable[[V], K]) -> dict[K, list[V]]:
    """Group items by a key, in the order of the keys' first appearance."""
    groups: dict[K, list[V]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def group_comparison(name: str, records: Sequence[Record]) -> ComparisonRecords:
    """Collect the experiments of one comparison and choose their labels and base."""
    found = [
        one
        for record in records
        if (one := record.experiment) is not None
        and getattr(record.measured, "subject", one.name) == one.name  # not the random-init baseline of its tower
    ]
    experiments: dict[str, Experiment] = {}
    order = [*methods(), *sorted({one.method for one in found} - methods().keys())]
    for experiment in sorted(found, key=lambda one: (order.index(one.method), one.name, one.seed)):
        experiments.setdefault(experiment.name, experiment)
    timed = [record for record in records if isinstance(record.measured, Speed)]
    names = {experiment_name(record) for record in timed}
    base = next((one for one in experiments if one in names), next(iter(experiments), None))
    incomparable = reason_incomparable(timed)
    throughputs = throughputs_of(records, experiments, base if incomparable is None else None)
    return ComparisonRecords(
        name, tuple(records), experiments, _unique_labels(experiments), base, incomparable, tuple(throughputs)
    )


def method_title(experiment: Experiment) -> str:
    """Return the name of an experiment's method in its paper."""
    variant, method = VARIANTS.get(experiment.name.partition("-")[0]), find_method(experiment.method)
    return variant or (method.title if method is not None else experiment.method)


def experiment_cell(comparison: ComparisonRecords, name: str) -> Cell:
    """Return the cell that names a row by its experiment."""
    return Cell.of_name(comparison.label(name), name)


def select_equal_and_largest_batch(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Split records into those at equal batch size, and those at the largest batch under a memory limit, with trials.

    An experiment whose own batch size is the largest is in both.
    """
    tried = {experiment_name(one) for one in records if isinstance(one.measured, BatchTrial)}
    own = {experiment_name(one) for one in records if isinstance(one.measured, Memory)}
    others = [one for one in records if experiment_name(one) not in tried - own]
    largest = [one for one in records if experiment_name(one) in tried]
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
        {"experiment": one.name, "batch_size": one.training.batch_size, **msgspec.structs.asdict(memory)}
        for one, memory in comparison.runs(Memory)
    ]
    return pd.DataFrame(rows).astype(dict.fromkeys(MEMORY_COUNTS, "Int64")) if rows else pd.DataFrame()


def losses_frame(comparison: ComparisonRecords, max_points: int = 120, name: str | None = None) -> pd.DataFrame:
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
    experiments = [record.experiment for record in comparison.records if record.experiment is not None]
    found = {}
    for name, group in group_by(experiments, lambda one: one.name).items():
        unread = {*FIELDS_IGNORED_IN_ROWS} - {vocabulary_field(group[0])}
        differing = {field: values for field, values in differing_fields(group).items() if field not in unread}
        if differing:
            found[name] = format_differences(differing)
    return found


def batch_independent_settings(experiment: Experiment) -> tuple[object, ...]:
    """Return the settings that are equal for an experiment at all batch sizes."""
    return tuple(get_field(experiment, field) for field in fields_of(experiment) if field not in BY_BATCH)


def _unique_labels(experiments: dict[str, Experiment]) -> dict[str, str]:
    """Name an experiment by its method, and where others share it, also by its batch size or its own settings."""
    labels = {}
    for title, same in group_by(experiments.values(), method_title).items():
        for experiment in same:
            if len(same) == 1:
                labels[experiment.name] = title
            elif {*differing_fields(same)} <= {*fields_with("by batch")}:
                labels[experiment.name] = f"{title} at batch {experiment.training.batch_size}"
            else:
                labels[experiment.name] = ", ".join([title, *_distinguishing_settings(experiment, same)])
    counted = Counter(labels.values())
    return {name: label if counted[label] == 1 else name for name, label in labels.items()}


def _distinguishing_settings(experiment: Experiment, alternatives: Sequence[Experiment]) -> list[str]:
    """Return the settings in which an experiment differs from most of the alternatives."""
    fields = [field for field in differing_fields(alternatives) if field != "name"]
    usual = {
        field: Counter(str(get_field(one, field)) for one in alternatives).most_common(1)[0][0] for field in fields
    }
    own = {field: str(get_field(experiment, field)) for field in fields}
    return [f"{field}={value}" for field, value in own.items() if value != usual[field]]


def reason_incomparable(records: Sequence[Record]) -> str | None:
    """Return the reason why these runs are not comparable: other machines or versions; settings may differ."""
    try:
        require_comparable(records, may_differ=FIELDS)
    except ValueError as error:
        return str(error)
    return None
