"""Heads initialised from pre-training, compared with a random head on the same labels: charts, tables, sentences."""

from collections.abc import Mapping, Sequence

from bench.catalog import RANDOM_INIT
from bench.record import Transfer
from bench.statistics import Difference, Estimate, difference_verdict
from bench.transfer.classification.init_tables import CLASS_NAMES, COPIED_ROWS, PROTOCOL, RANDOM_HEAD, nearest_labels
from reports.accuracy.label_charts import CurveLine, reference_lines
from reports.accuracy.label_curves import PER_CLASS, Curve, drawn, format_labels, numbers_of
from reports.accuracy.label_tables import NOT_SCORED, number_columns
from reports.accuracy.score_tables import images_cell, subject_name_cell
from reports.render.formats import accuracy, gain, listed, ratio, span, times
from reports.render.frames import ComparisonRecords
from reports.render.svg import SERIES
from reports.render.tables import Cell, Column, Group, HtmlTable

LOOKS = {COPIED_ROWS: (0, "o"), CLASS_NAMES: (3, "^"), RANDOM_HEAD: (1, "s")}  # colour and mark
OTHER_LOOK = (4, "D")
RANDOM_DASHES = (5.0, 2.5)
VERDICTS: Sequence[Difference] = ("better", "not distinguishable", "worse", "no interval")


def is_of_heads(curve: Curve) -> bool:
    """Return whether a curve is of the protocol that compares initial heads."""
    return curve.protocol.startswith(PROTOCOL)


def head_of(curve: Curve) -> str:
    """Return the initialisation of a curve's head."""
    return curve.protocol.removeprefix(f"{PROTOCOL}, ")


def subjects_of(curves: Sequence[Curve]) -> list[str]:
    """Return the towers that have a chart of their own: the trained ones, or the random-init baseline without any."""
    subjects = list(dict.fromkeys(curve.subject for curve in curves))
    return [subject for subject in subjects if not subject.startswith(RANDOM_INIT)] or subjects


def head_lines(curves: Sequence[Curve], subject: str) -> list[CurveLine]:
    """Return the lines of a tower's heads, and of the random head on the random-init baseline as their reference."""
    own = [curve for curve in curves if curve.subject == subject]
    images = drawn(own)[0].images
    heads = sorted((c for c in own if c.images == images), key=lambda curve: head_of(curve) == RANDOM_HEAD)
    random_inits = {RANDOM_INIT, f"{RANDOM_INIT} of {subject}"} - {subject}
    random_init = [curve for curve in curves if curve.subject in random_inits and head_of(curve) == RANDOM_HEAD]
    return [*map(_line, heads), *reference_lines(drawn(random_init))]


def heads_table(comparison: ComparisonRecords, curves: Sequence[Curve]) -> HtmlTable:
    """Show every head of one task, and its gain over the random head on the same draws."""
    first, numbers = curves[0], numbers_of(curves)
    rows = []
    for curve in curves:
        head, base = head_of(curve), _random(curves, curve)
        found = [(head, [Cell.estimate(curve.at(labels), accuracy, NOT_SCORED) for labels in numbers])]
        if base is not None:
            gains = [Cell.estimate(curve.gain(base, labels), gain, NOT_SCORED) for labels in numbers]
            found.append((f"{head}, gain over random", gains))
        subject, images = subject_name_cell(comparison, curve.subject), images_cell(curve.images)
        rows += [[subject, Cell.of(title), images, *cells] for title, cells in found]
    columns = [*Column.texts("features", "head"), Column("images seen"), *number_columns(curves)]
    return HtmlTable.of_rows(f"{first.task}: heads against the {first.along}", columns, rows)


def standing(comparison: ComparisonRecords, curves: Sequence[Curve]) -> list[str]:
    """Report for each head the numbers of labels per class with which it is better than the random head."""
    sentences = []
    for curve in curves:
        base = _random(curves, curve)
        if base is None or curve.along != PER_CLASS:
            continue
        gains = {labels: found for labels in curve.accuracies if (found := curve.gain(base, labels)) is not None}
        if gains:
            tower = f"{comparison.label(curve.subject)} of {times(curve.images, 'image')}"
            sentences.append(f"{curve.task}, {tower}: {head_of(curve)} against a random head: {_verdicts(gains)}.")
    return sentences


def nearest_table(comparison: ComparisonRecords, curves: Sequence[Curve]) -> tuple[HtmlTable, str] | None:
    """Show the nearest label of each class with the path to it; and the number of classes without one."""
    found = nearest_labels(transfer for _, transfer in comparison.of(Transfer))
    if not found:
        return None
    columns = [*Column.texts("class", "nearest label"), Column("similarity"), Column("steps")]
    columns += Column.texts("path in WordNet")
    groups: dict[str, list[list[Cell]]] = {}
    for one in found:
        steps = Cell.of(len(one.path) - 1)
        cells = [Cell.of(one.of), Cell.of(one.path[-1]), Cell.of(one.similarity, ratio), steps]
        groups.setdefault(one.task, []).append([*cells, Cell(" → ".join(one.path))])
    sizes = {curve.task: curve.num_classes for curve in curves}
    without = {task: sizes[task] - len({row[0].text for row in rows}) for task, rows in groups.items() if task in sizes}
    words = [f"{number} of the classes of {task}" for task, number in without.items() if number]
    return (
        HtmlTable("The nearest label of each class", columns, [Group(task, rows) for task, rows in groups.items()]),
        f" WordNet has no noun for {listed(words)}: their rows of a copied head are random." if words else "",
    )


def _line(curve: Curve) -> CurveLine:
    series, marker = LOOKS.get(head_of(curve), OTHER_LOOK)
    return CurveLine(
        head_of(curve), curve, SERIES[series], marker, RANDOM_DASHES if head_of(curve) == RANDOM_HEAD else ()
    )


def _random(curves: Sequence[Curve], curve: Curve) -> Curve | None:
    """Return the random head of the same tower on the same task; None for itself."""
    same = [of for of in curves if _tower(of) == _tower(curve) and head_of(of) == RANDOM_HEAD]
    return None if head_of(curve) == RANDOM_HEAD or not same else same[0]


def _tower(curve: Curve) -> tuple[object, ...]:
    return curve.subject, curve.images, curve.task, curve.along


def _verdicts(gains: Mapping[float, Estimate]) -> str:
    """Group the numbers of labels by verdict."""
    found: dict[Difference, list[str]] = {}
    for labels, one in gains.items():
        where = f"{format_labels(PER_CLASS, labels)} per class" if labels else "no labels"
        interval = "" if one.low is None or one.high is None else f", {span(one.low, one.high, gain)}"
        found.setdefault(difference_verdict(one), []).append(f"{where} ({gain(one.value)}{interval})")
    return "; ".join(f"{verdict} with {listed(found[verdict])}" for verdict in VERDICTS if verdict in found)
