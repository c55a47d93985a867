"""The charts and tables of few labels, and the tables of metrics that are no accuracy (mAP, mIoU, AP).

A chart has a logarithmic axis of labelled images and one line per tower or head.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.transforms import Transform

from bench.catalog import RANDOM_INIT
from bench.formats import format_accuracy, format_count
from bench.record import Transfer
from bench.scores import MetricScore
from bench.sections import ComparisonRecords
from bench.statistics import Estimate, estimate_over_draws
from bench.tables import Cell, Column, Table
from bench.transfer.score_tables import INIT_PROTOCOL
from reports.accuracy import training_charts
from reports.accuracy.label_curves import PERCENT, SHARE, Curve, Run, format_labels, label_counts
from reports.accuracy.score_tables import NOT_SCORED as NO_METRIC
from reports.accuracy.score_tables import NOT_TRAINED, RANDOM_INIT_TITLE, images_cell, subject_name_cell
from reports.accuracy.scores import index_or_end
from reports.render.svg import MUTED, draw_marks, drawing, svg
from reports.speed.charts import series_colour_and_marker

NOT_SCORED = "not scored with this number of labels"
Key = tuple[str, int, int | None]  # subject, images seen, labelled images per class


@dataclass(frozen=True, slots=True, eq=False)
class CurveLine:
    """A curve with its look: references are dashed and have no marks."""

    name: str
    curve: Curve
    colour: str
    marker: str = ""
    dashes: tuple[float, ...] = ()  # none: solid


def curve_lines(comparison: ComparisonRecords, curves: Sequence[Curve]) -> list[CurveLine]:
    """Return the lines of towers, then those of references."""
    towers = [
        CurveLine(comparison.label(curve.subject), curve, *series_colour_and_marker(comparison, curve.subject))
        for curve in curves
        if not curve.is_reference
    ]
    return [*towers, *reference_lines([curve for curve in curves if curve.is_reference])]


def reference_lines(curves: Sequence[Curve]) -> list[CurveLine]:
    """Return the lines of reference curves, each with its own dashes."""
    titles = {RANDOM_INIT: RANDOM_INIT_TITLE}
    return [
        CurveLine(titles.get(curve.subject, curve.subject), curve, MUTED, "", training_charts.reference_dashes(index))
        for index, curve in enumerate(curves)
    ]


def label_chart(name: str, text: str, lines: Sequence[CurveLine], highest: float) -> Markup:
    """Draw lines over the number of labels; `highest` is the upper end of the axis, `text` the title of the chart."""
    curves = [line.curve for line in lines]
    unit, numbers = curves[0].label_unit, label_counts(curves)
    x_of = _x_positions(numbers)
    marked = [line for line in lines if line.marker]
    with drawing(training_charts.WIDTH, training_charts.HEIGHT) as figure:
        axes = training_charts.labelled_axes(figure)
        training_charts.scale_accuracy(axes, highest)
        margin = 0.06 * ((x_of[numbers[-1]] - x_of[numbers[0]]) or 1.0)
        axes.set_xlim(x_of[numbers[0]] - margin, x_of[numbers[-1]] + margin)
        axes.set_xticks(list(x_of.values()), [format_labels(unit, number).removesuffix(PERCENT) for number in numbers])
        axes.set_xlabel(f"{unit},{PERCENT}" if unit == SHARE else unit)
        chance = max(curve.majority for curve in curves)
        dashes = training_charts.reference_dashes(len(lines) - len(marked))
        axes.axhline(chance, color=MUTED, linewidth=1, linestyle=(0, dashes))
        for line in lines:
            shift = training_charts.SHIFT * (marked.index(line) - (len(marked) - 1) / 2) if line.marker else 0.0
            _draw_line(axes, line, x_of, training_charts.shifted_transform(axes, shift))
        ends = [(line.name, line.curve.points()[-1][1].value, line.colour) for line in lines]
        training_charts.write_labels(axes, [*ends, (training_charts.CHANCE, chance, MUTED)])
        described = [f"{line.name} {_describe_ends(line.curve)}" for line in lines]
        described.append(f"{training_charts.CHANCE} {format_accuracy(chance)}")
        return svg(figure, name, f"{text}: accuracy against the {unit}. {'; '.join(described)}.")


def highest_bound(curves: Sequence[Curve]) -> float:
    """Return the highest end of an interval on these curves."""
    return max(min(1.0, one.high or one.value) for curve in curves for _, one in curve.points())


def _x_positions(label_counts: Sequence[float]) -> dict[float, float]:
    """Return the x of each number of labels: its binary logarithm; of no labels that of half the fewest."""
    some = [number for number in label_counts if number]
    none = math.log2(some[0]) - 1 if some else 0.0
    return {number: math.log2(number) if number else none for number in label_counts}


def _draw_line(axes: Axes, line: CurveLine, x_of: dict[float, float], transform: Transform) -> None:
    points = line.curve.points()
    x, estimates = [x_of[labels] for labels, _ in points], [one for _, one in points]
    y = [one.value for one in estimates]
    style = (0, line.dashes) if line.dashes else "-"
    axes.plot(x, y, color=line.colour, linewidth=1.25, linestyle=style, transform=transform, clip_on=False)
    if line.marker:
        training_charts.draw_intervals(axes, x, estimates, line.colour, transform)
        tooltip = f"{line.name}: {_format_points(line.curve, points)}"
        draw_marks(axes, x, y, line.marker, line.colour, tooltip, size=6, transform=transform, clip_on=False)


def _describe_ends(curve: Curve) -> str:
    points = curve.points()
    return _format_points(curve, points[:1] + points[1:][-1:])


def _format_points(curve: Curve, points: Sequence[tuple[float, Estimate]]) -> str:
    return ", ".join(
        f"{format_accuracy(one.value)} at {format_labels(curve.label_unit, labels)}" for labels, one in points
    )


def labels_table(comparison: ComparisonRecords, curves: Sequence[Curve]) -> Table:
    """Show the accuracy of all towers by one protocol on one task at each number of labels, then of references."""
    first, numbers = curves[0], label_counts(curves)
    columns = [*Column.texts("features"), Column("images seen"), Column("seeds"), *label_count_columns(curves)]
    groups: dict[str, list[list[Cell]]] = {"Towers": [], "References": []}
    for curve in curves:
        cells = [Cell.estimate(curve.at(labels), format_accuracy, NOT_SCORED) for labels in numbers]
        row = [subject_name_cell(comparison, curve.subject), images_cell(curve.images), Cell.of(curve.seeds), *cells]
        groups["References" if curve.is_reference else "Towers"].append(row)
    title = f"{first.task}: accuracy by {first.protocol} against the {first.label_unit}"
    return Table.of_groups(title, columns, groups)


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
    groups = {"Towers and features": rows, "Without image features": [last]}
    return Table.of_groups(title, columns, groups, sizes)


def _metric_cell(runs: Mapping[Run, Mapping[int, float]] | None) -> Cell:
    """Show a metric with its interval; one draw of one training has none, and the cell does not repeat that."""
    if runs is None:
        return Cell.not_applicable(NO_METRIC)
    found = estimate_over_draws(runs)
    is_single = sum(map(len, runs.values())) == 1
    return Cell.of(found.value, format_accuracy) if is_single else Cell.estimate(found, format_accuracy)
