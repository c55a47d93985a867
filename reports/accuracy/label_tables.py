"""The tables of few labels, and of metrics that are no accuracy (mAP, mIoU, AP) with their trivial baselines."""

from collections.abc import Mapping, Sequence

from bench.catalog import RANDOM_INIT
from bench.record import TaskMetric, Transfer
from bench.statistics import over_draws
from bench.transfer.classification.init_tables import PROTOCOL
from reports.accuracy.label_curves import SHARE, Curve, Run, format_labels, numbers_of
from reports.accuracy.score_tables import NOT_SCORED as NO_METRIC
from reports.accuracy.score_tables import NOT_TRAINED, images_cell, subject_name_cell
from reports.accuracy.scores import position
from reports.render.formats import accuracy, count
from reports.render.frames import ComparisonRecords
from reports.render.tables import Cell, Column, Group, HtmlTable

NOT_SCORED = "not scored with this number of labels"
NO_BASELINE = "this metric has no trivial baseline"
BASELINE = "trivial baseline"
Runs = dict[Run, dict[int, float]]  # a metric by training and draw
Key = tuple[str, int, int | None]  # subject, images seen, labelled images per class


def labels_table(comparison: ComparisonRecords, curves: Sequence[Curve]) -> HtmlTable:
    """Show the accuracy of all towers by one protocol on one task at each number of labels, then of references."""
    first, numbers = curves[0], numbers_of(curves)
    columns = [*Column.texts("features"), Column("images seen"), Column("seeds"), *number_columns(curves)]
    groups: dict[str, list[list[Cell]]] = {"Towers": [], "References": []}
    for curve in curves:
        cells = [Cell.estimate(curve.at(labels), accuracy, NOT_SCORED) for labels in numbers]
        row = [subject_name_cell(comparison, curve.subject), images_cell(curve.images), Cell.of(curve.seeds), *cells]
        groups["References" if curve.is_reference else "Towers"].append(row)
    name = f"{first.task}: accuracy by {first.protocol} against the {first.along}"
    return HtmlTable(name, columns, [Group(title, rows) for title, rows in groups.items() if rows])


def number_columns(curves: Sequence[Curve]) -> list[Column]:
    """Return a column for each number of labels; the note of a share is its number of images."""
    images = {labels: number for curve in curves for labels, number in curve.labelled_images.items()}
    return [_number_column(curves[0].along, labels, images[labels]) for labels in numbers_of(curves)]


def _number_column(along: str, labels: float, images: int) -> Column:
    if along == SHARE:
        return Column(format_labels(along, labels), f"{count(images)} images")
    return Column(format_labels(along, labels), "per class") if labels else Column("no labels", "initial head")


def metric_tables(comparison: ComparisonRecords) -> list[tuple[str, HtmlTable, str]]:
    """Return title, table and note for each task and protocol with metrics of its own, trivial baselines last."""
    found = [
        (transfer, (record.experiment.name, record.experiment.seed) if record.experiment else ("", None), metric)
        for record, transfer in comparison.of(Transfer)
        for metric in transfer.metrics
        if metric.protocol != PROTOCOL  # these are the nearest labels of heads
    ]
    pairs = dict.fromkeys((metric.task, metric.protocol) for _, _, metric in found)
    return [_metrics(comparison, [one for one in found if (one[2].task, one[2].protocol) == pair]) for pair in pairs]


def _metrics(
    comparison: ComparisonRecords, found: Sequence[tuple[Transfer, Run, TaskMetric]]
) -> tuple[str, HtmlTable, str]:
    first, names = found[0][2], list(dict.fromkeys(metric.name for _, _, metric in found))
    rows: dict[Key, dict[str, Runs]] = {}
    for transfer, run, metric in found:
        of = rows.setdefault((transfer.subject, transfer.images, metric.per_class), {})
        of.setdefault(metric.name, {}).setdefault(run, {})[metric.draw] = metric.value
    baselines = {metric.name: metric.baseline for _, _, metric in found if metric.baseline is not None}
    last = [Cell(BASELINE), Cell.absent(NOT_TRAINED), Cell.absent(NOT_TRAINED)]
    last += [Cell.figure(baselines.get(name), accuracy, NO_BASELINE) for name in names]
    columns = [*Column.texts("features"), Column("images seen"), Column("seeds"), *map(Column, names)]
    title, order = f"{first.task} by {first.protocol}", [*comparison.experiments, RANDOM_INIT]
    keys = sorted(rows, key=lambda key: (position(order, key[0]), key[:2]))
    groups = [
        Group("Towers and features", [_metrics_row(comparison, key, rows[key], names) for key in keys]),
        Group("Without image features", [last]),
    ]
    sizes = f"{count(first.num_test)} test images; {count(first.num_train)} for training and validation."
    return title, HtmlTable(title, columns, groups), sizes


def _metrics_row(
    comparison: ComparisonRecords, key: Key, found: Mapping[str, Runs], names: Sequence[str]
) -> list[Cell]:
    subject, images, per_class = key
    name, seeds = subject_name_cell(comparison, subject), len({run for runs in found.values() for run in runs})
    if per_class is not None:
        name = Cell(name.text, f"{per_class} labelled per class", name.sort)
    return [name, images_cell(images), Cell.of(seeds), *(_metric_cell(found.get(one)) for one in names)]


def _metric_cell(runs: Runs | None) -> Cell:
    """Show a metric with its interval; one draw of one training has none, and the cell does not repeat that."""
    if runs is None:
        return Cell.absent(NO_METRIC)
    found = over_draws(runs)
    is_single = sum(map(len, runs.values())) == 1
    return Cell.of(found.value, accuracy) if is_single else Cell.estimate(found, accuracy, "")
