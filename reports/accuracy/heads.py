"""Heads that begin from what a tower was pre-trained with, beside a random one: charts, tables, words."""

from collections.abc import Sequence

from bench.record import Transfer
from bench.transfer.classification.init_tables import COPIED, NAMES, PROTOCOL, RANDOM, nearest_labels
from reports.accuracy.label_charts import Line, references_of
from reports.accuracy.label_curves import PER_CLASS, Curve, drawn, numbers_of, written
from reports.accuracy.label_tables import NOT_SCORED, images_cell, number_columns
from reports.accuracy.score_tables import subject_cell
from reports.accuracy.scores import FLOOR, Estimate
from reports.render.formats import accuracy, gain, listed, ratio, span, times
from reports.render.frames import Comparison
from reports.render.svg import SERIES
from reports.render.tables import Cell, Column, Group, Table, estimate_cell, plain

LOOKS = {COPIED: (0, "o"), NAMES: (3, "^"), RANDOM: (1, "s")}  # colour and mark; random ones are dashed, too
OTHER_LOOK = (4, "D")
RANDOM_DASHES = (5.0, 2.5)
VERDICTS = ("above it", "not to be told from it", "below it", "without an interval")


def is_of_heads(curve: Curve) -> bool:
    """Tell the curves of this protocol."""
    return curve.protocol.startswith(PROTOCOL)


def head_of(curve: Curve) -> str:
    """Return what a curve's head begins from."""
    return curve.protocol.removeprefix(f"{PROTOCOL}, ")


def subjects_of(curves: Sequence[Curve]) -> list[str]:
    """Return the towers that have a chart of their own: all but untrained ones, where there are others."""
    subjects = list(dict.fromkeys(curve.subject for curve in curves))
    return [subject for subject in subjects if not subject.startswith(FLOOR)] or subjects


def head_lines(curves: Sequence[Curve], subject: str) -> list[Line]:
    """Draw a tower's heads, and the untrained tower's random head as the line to be above."""
    floors = {FLOOR, f"{FLOOR} of {subject}"} - {subject}
    floor = [curve for curve in curves if curve.subject in floors and head_of(curve) == RANDOM]
    return [*(_line(curve) for curve in _heads(curves, subject)), *references_of(drawn(floor))]


def heads_table(comparison: Comparison, curves: Sequence[Curve]) -> Table:
    """Show every head of one task, and by how much it is above the random head on the same draws."""
    first, numbers = curves[0], numbers_of(curves)
    rows = []
    for curve in curves:
        head, base = head_of(curve), _random(curves, curve)
        found = [(head, [estimate_cell(curve.at(labels), accuracy, NOT_SCORED) for labels in numbers])]
        if base is not None:
            gains = [estimate_cell(curve.gain(base, labels), gain, NOT_SCORED) for labels in numbers]
            found.append((f"{head}, above random", gains))
        subject, images = subject_cell(comparison, curve.subject), images_cell(curve.images)
        rows += [[subject, Cell(title, "", title), images, *cells] for title, cells in found]
    columns = [Column("features", numeric=False), Column("head", numeric=False), Column("images seen")]
    return plain(f"{first.task}: heads against the {first.along}", [*columns, *number_columns(curves)], rows)


def standing(comparison: Comparison, curves: Sequence[Curve]) -> list[str]:
    """Say for each head with how many labels of a class it is above the random one by more than the interval."""
    told = []
    for curve in curves:
        base = _random(curves, curve)
        if base is None or curve.along != PER_CLASS:
            continue
        gains = {labels: found for labels in curve.accuracies if (found := curve.gain(base, labels)) is not None}
        if gains:
            tower = f"{comparison.label(curve.subject)} of {times(curve.images, 'image')}"
            told.append(f"{curve.task}, {tower}: {head_of(curve)} against a random head: {_verdicts(gains)}.")
    return told


def nearest_table(comparison: Comparison, curves: Sequence[Curve]) -> tuple[Table, str] | None:
    """Show the label that is nearest to each class with the way to it; and how many classes have none."""
    found = nearest_labels(transfer for _, transfer in comparison.of(Transfer))
    if not found:
        return None
    columns = [Column("class", numeric=False), Column("nearest label", numeric=False)]
    columns += [Column("similarity"), Column("steps"), Column("way in WordNet", numeric=False)]
    groups = [
        Group(
            task,
            [
                [
                    Cell(one.of, "", one.of),
                    Cell(one.way[-1], "", one.way[-1]),
                    Cell(ratio(one.similarity), "", one.similarity),
                    Cell(str(len(one.way) - 1), "", len(one.way) - 1),
                    Cell(" → ".join(one.way)),
                ]
                for one in found
                if one.task == task
            ],
        )
        for task in dict.fromkeys(one.task for one in found)
    ]
    sizes = {curve.task: curve.num_classes for curve in curves}
    without = {
        group.title: sizes[group.title] - len({row[0].text for row in group.rows})
        for group in groups
        if group.title in sizes
    }
    words = [f"{number} of the classes of {task}" for task, number in without.items() if number]
    return (
        Table("The nearest label of each class", columns, groups),
        f" WordNet has no noun for {listed(words)}: a copied head keeps its random row there." if words else "",
    )


def _heads(curves: Sequence[Curve], subject: str) -> list[Curve]:
    """Return one curve a head of the same tower, those that begin from something first."""
    own = [curve for curve in curves if curve.subject == subject]
    images = drawn(own)[0].images
    return sorted((c for c in own if c.images == images), key=lambda curve: head_of(curve) == RANDOM)


def _line(curve: Curve) -> Line:
    series, marker = LOOKS.get(head_of(curve), OTHER_LOOK)
    return Line(head_of(curve), curve, SERIES[series], marker, RANDOM_DASHES if head_of(curve) == RANDOM else ())


def _random(curves: Sequence[Curve], curve: Curve) -> Curve | None:
    """Return the random head of the same tower on the same task; None for itself."""
    same = [of for of in curves if _tower(of) == _tower(curve) and head_of(of) == RANDOM]
    return None if head_of(curve) == RANDOM or not same else same[0]


def _tower(curve: Curve) -> tuple[object, ...]:
    return curve.subject, curve.images, curve.task, curve.along


def _verdicts(gains: dict[float, Estimate]) -> str:
    """Sort numbers of labels by what can be said there."""
    found: dict[str, list[str]] = {}
    for labels, one in gains.items():
        what = f"{written(PER_CLASS, labels)} a class" if labels else "no labels"
        found.setdefault(_verdict(one), []).append(f"{what} ({_told(one)})")
    return "; ".join(f"{verdict} with {listed(found[verdict])}" for verdict in VERDICTS if verdict in found)


def _verdict(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return VERDICTS[3]
    return VERDICTS[0] if found.low > 0 else VERDICTS[2] if found.high < 0 else VERDICTS[1]


def _told(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return gain(found.value)
    return f"{gain(found.value)}, {span(found.low, found.high, gain)}"
