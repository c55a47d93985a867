"""The tables of few labels, of heads that are initialised from pre-training, and of metrics that are no accuracy.

These metrics are mAP, mIoU and AP. No torch here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.interfaces.catalog import RANDOM_INIT
from bench.interfaces.sections import ComparisonRecords
from bench.records.record import Transfer
from bench.records.scores import MetricScore, describe_task_trainings
from bench.statistics.accuracies import estimate_over_draws
from bench.tables.formats import (
    INTERVAL,
    format_accuracy,
    format_accuracy_gain,
    format_count,
    format_ratio,
)
from bench.tables.tables import Cell, Column, Table
from bench.transfer.label_curves import (
    INIT_PROTOCOL,
    RANDOM_HEAD,
    SHARE,
    Curve,
    Run,
    format_labels,
    label_counts,
)
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


def labels_table(comparison: ComparisonRecords, curves: Sequence[Curve]) -> Table:
    """Show the accuracy of all towers by one protocol on one task at each number of labels, then of references."""
    first = curves[0]
    numbers = label_counts(curves)
    columns = [
        *Column.texts("features"),
        Column("images seen"),
        Column("seeds"),
        *label_count_columns(curves),
    ]
    groups: dict[str, list[list[Cell]]] = {
        "Towers": [],
        LOWER_BOUNDS_HEADING: [],
        UPPER_BOUNDS_HEADING: [],
    }
    for curve in curves:
        cells = [Cell.estimate(curve.at(labels), format_accuracy, NOT_SCORED) for labels in numbers]
        row = [
            subject_name_cell(comparison, curve.subject),
            images_cell(curve.images),
            Cell.of(curve.seeds),
            *cells,
        ]
        groups[bound_heading(curve) or "Towers"].append(row)
    title = f"{first.task}: accuracy by {first.protocol} against the {first.label_unit}"
    return Table.of_groups(title, columns, groups)


def heads_table(comparison: ComparisonRecords, curves: Sequence[Curve]) -> Table:
    """Show every head of one task, and its gain over the random head on the same draws."""
    numbers = label_counts(curves)
    rows = []
    for curve in curves:
        subject = subject_name_cell(comparison, curve.subject)
        images = images_cell(curve.images)
        accuracies = [
            Cell.estimate(curve.at(labels), format_accuracy, NOT_SCORED) for labels in numbers
        ]
        rows.append([subject, Cell.of(curve.head), images, *accuracies])
        base = random_head(curves, curve)
        if base is not None:
            gains = [
                Cell.estimate(curve.gain(base, labels), format_accuracy_gain, NOT_SCORED)
                for labels in numbers
            ]
            rows.append([subject, Cell.of(f"{curve.head}, gain over random"), images, *gains])
    columns = [
        *Column.texts("features", "head"),
        Column("images seen"),
        *label_count_columns(curves),
    ]
    return Table.of_rows(
        f"{curves[0].task}: heads against the {curves[0].label_unit}", columns, rows
    )


def label_count_columns(curves: Sequence[Curve]) -> list[Column]:
    """Return a column for each number of labels; the note of a share is its number of images."""
    unit = curves[0].label_unit
    images = {
        labels: number for curve in curves for labels, number in curve.labelled_images.items()
    }
    columns = []
    for labels in label_counts(curves):
        if unit == SHARE:
            columns.append(
                Column(format_labels(unit, labels), f"{format_count(images[labels])} images")
            )
        elif labels:
            columns.append(Column(format_labels(unit, labels), "per class"))
        else:
            columns.append(Column("no labels", "initial head"))
    return columns


@dataclass(frozen=True, slots=True)
class SubjectMetric:
    """A metric of one training's tower."""

    subject: str
    images: int  # seen in pre-training
    run: Run
    metric: MetricScore

    @property
    def row(self) -> tuple[str, int, int | None]:
        """The row of the table: subject, images seen, labelled images per class."""
        return self.subject, self.images, self.metric.per_class


def metric_tables(comparison: ComparisonRecords) -> list[Table]:
    """Return a table for each task and protocol with metrics other than accuracy, trivial baselines last."""
    groups: dict[tuple[str, str], list[SubjectMetric]] = {}
    for record, transfer in comparison.of(Transfer):
        run = (record.experiment.name, record.experiment.seed) if record.experiment else ("", None)
        for metric in transfer.metrics:
            if metric.protocol != INIT_PROTOCOL:  # its metrics are the nearest labels of heads
                measured = SubjectMetric(transfer.subject, transfer.images, run, metric)
                groups.setdefault((metric.task, metric.protocol), []).append(measured)
    return [_metric_table(comparison, group) for group in groups.values()]


def _metric_table(comparison: ComparisonRecords, measured: Sequence[SubjectMetric]) -> Table:
    names = list(dict.fromkeys(item.metric.name for item in measured))
    order = [*comparison.experiments, RANDOM_INIT]
    keys = dict.fromkeys(item.row for item in measured)
    rows = []
    for key in sorted(keys, key=lambda key: (index_or_end(order, key[0]), key[:2])):
        subject, images, per_class = key
        metrics_of_row = [item for item in measured if item.row == key]
        name = subject_name_cell(comparison, subject)
        if per_class is not None:
            name = replace(name, note=f"{per_class} labelled per class")
        seeds = {item.run for item in metrics_of_row}
        cells = [
            _metric_cell([item for item in metrics_of_row if item.metric.name == metric])
            for metric in names
        ]
        rows.append([name, images_cell(images), Cell.of(len(seeds)), *cells])
    baselines = {
        item.metric.name: item.metric.baseline
        for item in measured
        if item.metric.baseline is not None
    }
    baseline_row = [
        Cell("trivial baseline"),
        Cell.not_applicable(NOT_TRAINED),
        Cell.not_applicable(NOT_TRAINED),
    ]
    no_baseline = "this metric has no trivial baseline"
    baseline_row += [
        Cell.measured(baselines.get(name), format_accuracy, no_baseline) for name in names
    ]
    first = measured[0].metric
    columns = [
        *Column.texts("features"),
        Column("images seen"),
        Column("seeds"),
        *map(Column, names),
    ]
    sizes = f"{format_count(first.num_test)} test images; {format_count(first.num_train)} for training and validation."
    note = sizes + describe_task_trainings(item.metric for item in measured)
    groups = {"Towers and features": rows, "Without image features": [baseline_row]}
    return Table.of_groups(f"{first.task} by {first.protocol}", columns, groups, note)


def _metric_cell(measured: Sequence[SubjectMetric]) -> Cell:
    """Show a metric with its interval; one draw of one training has none, and the cell does not repeat that."""
    if not measured:
        return Cell.not_applicable(NO_METRIC)
    if len(measured) == 1:
        return Cell.of(measured[0].metric.value, format_accuracy)
    draws_by_run: dict[Run, dict[int, float]] = {}
    for item in measured:
        draws_by_run.setdefault(item.run, {})[item.metric.draw] = item.metric.value
    return Cell.estimate(estimate_over_draws(draws_by_run), format_accuracy)


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
    rows_by_task = dict[str, list[list[Cell]]]()
    shown = set()
    for _, transfer in comparison.of(Transfer):
        for metric in transfer.metrics:
            key = (metric.task, metric.class_name, metric.wordnet_path)
            if metric.protocol == INIT_PROTOCOL and key not in shown:
                shown.add(key)
                row = [
                    Cell.of(metric.class_name),
                    Cell.of(metric.wordnet_path[-1]),
                    Cell.of(metric.value, format_ratio),
                    Cell.of(len(metric.wordnet_path) - 1),
                    Cell(" → ".join(metric.wordnet_path)),
                ]
                rows_by_task.setdefault(metric.task, []).append(row)
    note = (
        "Similarity is 1 / (1 + steps) along the path. A class of several synsets is initialised with the mean of "
        "their rows. A tower without a classifier has no rows to copy."
    )
    return Table.of_groups("The nearest label of each class", columns, rows_by_task, note)
