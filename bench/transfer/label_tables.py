"""The tables of few labels, of heads that are initialised from pre-training, and of metrics that are no accuracy.

These metrics are mAP, mIoU and AP. No torch here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bench.interfaces.catalog import RANDOM_INIT
from bench.interfaces.sections import ComparisonRecords
from bench.records.record import Transfer
from bench.records.scores import MetricScore, describe_task_trainings
from bench.statistics.accuracies import estimate_over_draws
from bench.tables.formats import INTERVAL, format_accuracy, format_accuracy_gain, format_count, format_ratio
from bench.tables.tables import Cell, Column, Table
from bench.transfer.label_curves import INIT_PROTOCOL, RANDOM_HEAD, SHARE, Curve, Run, format_labels, label_counts
from bench.transfer.score_tables import (
    LOWER_BOUNDS_HEADING,
    NOT_TRAINED,
    UPPER_BOUNDS_HEADING,
    bound_heading,
    images_cell,
    subject_name_cell,
)
from bench.transfer.score_tables import NOT_SCORED as NO_METRIC
from bench.transfer.subject_scores import index_or_end

METRICS_NOTE = (
    "Metrics other than accuracy, with a trivial baseline that ignores the images. With several draws, or three or "
    f"more seeds, a cell is their mean with its {INTERVAL} interval. One seed gives no ranking."
)
NOT_SCORED = "not scored with this number of labels"
Key = tuple[str, int, int | None]  # subject, images seen, labelled images per class


def labels_table(comparison: ComparisonRecords, curves: Sequence[Curve]) -> Table:
    """Show the accuracy of all towers by one protocol on one task at each number of labels, then of references."""
    first, numbers = curves[0], label_counts(curves)
    columns = [*Column.texts("features"), Column("images seen"), Column("seeds"), *label_count_columns(curves)]
    groups: dict[str, list[list[Cell]]] = {"Towers": [], LOWER_BOUNDS_HEADING: [], UPPER_BOUNDS_HEADING: []}
    for curve in curves:
        cells = [Cell.estimate(curve.at(labels), format_accuracy, NOT_SCORED) for labels in numbers]
        row = [subject_name_cell(comparison, curve.subject), images_cell(curve.images), Cell.of(curve.seeds), *cells]
        groups[bound_heading(curve) or "Towers"].append(row)
    title = f"{first.task}: accuracy by {first.protocol} against the {first.label_unit}"
    return Table.of_groups(title, columns, groups)


def heads_table(comparison: ComparisonRecords, curves: Sequence[Curve]) -> Table:
    """Show every head of one task, and its gain over the random head on the same draws."""
    numbers, rows = label_counts(curves), []
    for curve in curves:
        head, base = curve.head, random_head(curves, curve)
        titled = [(head, [Cell.estimate(curve.at(labels), format_accuracy, NOT_SCORED) for labels in numbers])]
        if base is not None:
            gains = [Cell.estimate(curve.gain(base, labels), format_accuracy_gain, NOT_SCORED) for labels in numbers]
            titled.append((f"{head}, gain over random", gains))
        subject, images = subject_name_cell(comparison, curve.subject), images_cell(curve.images)
        rows += [[subject, Cell.of(title), images, *cells] for title, cells in titled]
    columns = [*Column.texts("features", "head"), Column("images seen"), *label_count_columns(curves)]
    return Table.of_rows(f"{curves[0].task}: heads against the {curves[0].label_unit}", columns, rows)


def label_count_columns(curves: Sequence[Curve]) -> list[Column]:
    """Return a column for each number of labels; the note of a share is its number of images."""
    unit, numbers = curves[0].label_unit, label_counts(curves)
    images = {labels: number for curve in curves for labels, number in curve.labelled_images.items()}
    if unit == SHARE:
        return [Column(format_labels(unit, labels), f"{format_count(images[labels])} images") for labels in numbers]
    none = Column("no labels", "initial head")
    return [Column(format_labels(unit, labels), "per class") if labels else none for labels in numbers]


def metric_tables(comparison: ComparisonRecords) -> list[Table]:
    """Return a table for each task and protocol with metrics of its own, trivial baselines last."""
    groups: dict[tuple[str, str], list[tuple[Transfer, Run, MetricScore]]] = {}
    for record, transfer in comparison.of(Transfer):
        run = (record.experiment.name, record.experiment.seed) if record.experiment else ("", None)
        for metric in transfer.metrics:
            if metric.protocol != INIT_PROTOCOL:  # these are the nearest labels of heads
                groups.setdefault((metric.task, metric.protocol), []).append((transfer, run, metric))
    return [_metric_table(comparison, group) for group in groups.values()]


def _metric_table(comparison: ComparisonRecords, found: Sequence[tuple[Transfer, Run, MetricScore]]) -> Table:
    first, names = found[0][2], list(dict.fromkeys(metric.name for _, _, metric in found))
    values: dict[Key, dict[str, dict[Run, dict[int, float]]]] = {}
    for transfer, run, metric in found:
        by_name = values.setdefault((transfer.subject, transfer.images, metric.per_class), {})
        by_name.setdefault(metric.name, {}).setdefault(run, {})[metric.draw] = metric.value
    baselines = {metric.name: metric.baseline for _, _, metric in found if metric.baseline is not None}
    last = [Cell("trivial baseline"), Cell.not_applicable(NOT_TRAINED), Cell.not_applicable(NOT_TRAINED)]
    last += [
        Cell.measured(baselines.get(name), format_accuracy, "this metric has no trivial baseline") for name in names
    ]
    columns = [*Column.texts("features"), Column("images seen"), Column("seeds"), *map(Column, names)]
    title, order = f"{first.task} by {first.protocol}", [*comparison.experiments, RANDOM_INIT]
    rows = []
    for key in sorted(values, key=lambda key: (index_or_end(order, key[0]), key[:2])):
        subject, images, per_class = key
        name, seeds = subject_name_cell(comparison, subject), {run for runs in values[key].values() for run in runs}
        if per_class is not None:
            name = Cell(name.text, f"{per_class} labelled per class", name.value)
        cells = [_metric_cell(values[key].get(metric)) for metric in names]
        rows.append([name, images_cell(images), Cell.of(len(seeds)), *cells])
    sizes = f"{format_count(first.num_test)} test images; {format_count(first.num_train)} for training and validation."
    sizes += describe_task_trainings(metric for _, _, metric in found)
    groups = {"Towers and features": rows, "Without image features": [last]}
    return Table.of_groups(title, columns, groups, sizes)


def _metric_cell(runs: Mapping[Run, Mapping[int, float]] | None) -> Cell:
    """Show a metric with its interval; one draw of one training has none, and the cell does not repeat that."""
    if runs is None:
        return Cell.not_applicable(NO_METRIC)
    found = estimate_over_draws(runs)
    is_single = sum(map(len, runs.values())) == 1
    return Cell.of(found.value, format_accuracy) if is_single else Cell.estimate(found, format_accuracy)


def random_head(curves: Sequence[Curve], curve: Curve) -> Curve | None:
    """Return the random head of the same tower on the same task; None for itself."""
    key = replace(curve, protocol=f"{INIT_PROTOCOL}, {RANDOM_HEAD}").key
    return None if curve.key == key else next((other for other in curves if other.key == key), None)


def nearest_label_table(comparison: ComparisonRecords) -> Table:
    """Show the nearest label of each class in WordNet with the path to it, by task; classes without a synset have none.

    The path leads from the class's synset over the common ancestor to the label.
    """
    columns = [*Column.texts("class", "nearest label"), *map(Column, ("similarity", "steps"))]
    columns.append(Column.text("path in WordNet"))
    found = dict.fromkeys(
        (metric.task, metric.name, metric.value)
        for _, transfer in comparison.of(Transfer)
        for metric in transfer.metrics
        if metric.protocol == INIT_PROTOCOL
    )
    groups: dict[str, list[list[Cell]]] = {}
    for task, name, similarity in found:
        class_name, _, way = name.rpartition(": ")
        path = way.split(" > ")
        figures = [Cell.of(similarity, format_ratio), Cell.of(len(path) - 1)]
        groups.setdefault(task, []).append([Cell.of(class_name), Cell.of(path[-1]), *figures, Cell(" → ".join(path))])
    note = (
        "Similarity is 1 / (1 + steps) along the path. A class of several synsets is initialised with the mean of "
        "their rows. A tower without a classifier has no rows to copy."
    )
    return Table.of_groups("The nearest label of each class", columns, groups, note)
