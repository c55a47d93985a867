"""The tables of the accuracy section."""

from collections.abc import Sequence

from reports.accuracy.pareto import Price, on_front
from reports.accuracy.scores import FLOOR, PROBE, Point, Scored, at_budget, budgets, points, protocols, tasks
from reports.render.formats import NBSP, accuracy, count, gain, listed, percent, rate, seconds
from reports.render.frames import Comparison
from reports.render.tables import (
    Cell,
    Column,
    Group,
    Table,
    absent,
    estimate_cell,
    figure,
    named,
    plain,
    text_columns,
    value_cell,
)

FLOOR_TITLE = "random-init baseline"
NO_SPEED = "its speed was not measured"
NOT_SCORED = "not scored"
NOT_TRAINED = "it was not trained"
CHOSEN = {PROBE: "C", "k-NN": "k"}  # the hyperparameter chosen on validation; other protocols choose the learning rate
INTERVAL = f"95{NBSP}%"


def overview_table(comparison: Comparison, answers: Sequence[Scored]) -> Table:
    """Show the linear probe on all tasks at the first budget, then references."""
    protocol = protocols(answers)[0]
    found = {task: points(answers, task, protocol) for task in tasks(answers)}
    columns = [Column("features", numeric=False), *(Column(task, _size_note(answers, task)) for task in found)]
    groups = []
    for budget in budgets(answers)[:1]:
        names = dict.fromkeys(point.subject for of in found.values() for point in at_budget(of, budget))
        rows = [_across(comparison, name, [at_budget(of, budget) for of in found.values()]) for name in names]
        groups.append(Group(f"Towers at {budget}", rows))
    references = {task: [point for point in of if point.is_reference] for task, of in found.items()}
    names = dict.fromkeys(point.subject for of in references.values() for point in of)
    groups.append(Group("References", [_across(comparison, name, list(references.values())) for name in names]))
    return Table(f"Accuracy by {protocol} on every task", columns, [group for group in groups if group.rows])


def task_table(comparison: Comparison, answers: Sequence[Scored], task: str, device: Price) -> Table:
    """Show the accuracies on a task at each budget, with gains over the random-init baseline."""
    here = [one for one in answers if one.score.task == task]
    shown = {protocol: points(here, task, protocol) for protocol in protocols(here)}
    columns = [Column("features", numeric=False), Column("images seen"), Column("device time", "at its measured speed")]
    for protocol in shown:
        columns += [Column(protocol, f"accuracy, {INTERVAL}"), Column("gain", f"over random init, {INTERVAL}")]
        columns += [Column(CHOSEN.get(protocol, "rate"), "chosen on validation")]
    columns.append(Column("seeds"))
    keys = dict.fromkeys((point.subject, point.images) for of in shown.values() for point in of)
    lookup = {protocol: {(point.subject, point.images): point for point in of} for protocol, of in shown.items()}
    rows = {key: [lookup[protocol].get(key) for protocol in shown] for key in keys}
    groups = [
        Group(title, [_task_row(comparison, rows[key], device) for key in chosen])
        for title, chosen in _by_budget(here, rows).items()
        if chosen
    ]
    return Table(f"Accuracy on {task}", columns, groups)


def points_table(
    comparison: Comparison, answers: Sequence[Scored], protocol: str, device: Price, energy: Price
) -> Table:
    """Show every point of the accuracy charts; energy where it was measured for any tower."""
    paid = [device, *([energy] if energy.an_image else [])]
    columns = [
        *text_columns("features", "task"),
        Column("images seen"),
        Column("device seconds"),
        *(Column("energy, kJ") for _ in paid[1:]),
        Column("accuracy"),
        Column("low"),
        Column("high"),
        Column("over", numeric=False),
        Column("on the Pareto front", "against", numeric=False),
    ]
    rows = []
    for task in tasks(answers):
        found = points(answers, task, protocol)
        fronts = [(price, on_front(found, price)) for price in paid]
        rows += [
            [
                subject_cell(comparison, point.subject),
                value_cell(task),
                value_cell(point.images, count),
                *(_cost(point, price) for price in paid),
                value_cell(point.accuracy.value, accuracy),
                _end(point.accuracy.low),
                _end(point.accuracy.high),
                value_cell(point.accuracy.over),
                _fronts(point, fronts),
            ]
            for point in found
        ]
    return plain(f"Points of the accuracy charts ({protocol})", columns, rows)


def subject_cell(comparison: Comparison, subject: str) -> Cell:
    """Return the cell that names a scored subject."""
    return named(FLOOR_TITLE if subject == FLOOR else comparison.label(subject), subject)


def images_cell(images: int) -> Cell:
    """Return the cell with the number of images seen in pre-training."""
    return value_cell(images, count) if images else absent(NOT_TRAINED)


def task_note(answers: Sequence[Scored], task: str) -> str:
    """Return the sizes of a task, and its fits that did not converge."""
    here = [one.score for one in answers if one.score.task == task]
    first = here[0]
    train = listed([count(number) for number in sorted({score.num_train for score in here})])
    unconverged = sum(not score.converged for score in here)
    return (
        f"{first.num_classes} classes; {len(first.correct):,} test images; {train} images for training and validation; "
        f"the majority class is {percent(first.majority)} of the test images."
        + (f" {unconverged} of {len(here)} fits stopped before they converged (marked †)." if unconverged else "")
    )


def _by_budget(
    here: Sequence[Scored], rows: dict[tuple[str, int], list[Point | None]]
) -> dict[str, list[tuple[str, int]]]:
    """Group the rows of a task by budget; a tower of two budgets is in both groups."""
    groups: dict[str, list[tuple[str, int]]] = {}
    for budget in budgets(here):
        groups[budget[:1].upper() + budget[1:]] = [key for key, row in rows.items() if budget in _told(row)]
    trained = [key for key, row in rows.items() if not _any(row).is_reference]
    groups["Other numbers of images"] = [key for key in trained if not _told(rows[key])]
    groups["References"] = [key for key in rows if key not in trained]
    return groups


def _task_row(comparison: Comparison, row: Sequence[Point | None], device: Price) -> list[Cell]:
    point = _any(row)
    cells = [
        subject_cell(comparison, point.subject),
        value_cell(point.images, count) if point.images else absent(NOT_TRAINED),
        figure(device.of(point), seconds, NO_SPEED) if point.images else absent(NOT_TRAINED),
    ]
    for of in row:
        cells += [
            estimate_cell(of.accuracy if of else None, accuracy, NOT_SCORED),
            estimate_cell(of.gain if of else None, gain, _why_no_gain(point)),
            absent(NOT_SCORED) if of is None else _chosen(of),
        ]
    seeds = len(point.runs)
    return [*cells, value_cell(seeds)]


def _chosen(point: Point) -> Cell:
    """Show the hyperparameter chosen on validation; a dagger marks a fit that did not converge."""
    values = [f"{value:.4g}" for value in dict.fromkeys(run.score.chosen for run in point.runs)]
    mark = "" if all(run.score.converged for run in point.runs) else " †"
    return Cell(", ".join(values) + mark, "", point.runs[0].score.chosen)


def _why_no_gain(point: Point) -> str:
    return "this is the random-init baseline" if point.subject == FLOOR else "its random-init baseline was not scored"


def _cost(point: Point, price: Price) -> Cell:
    if not point.images:
        return absent(NOT_TRAINED)
    return figure(price.of(point), rate, price.why_not.get(point.subject, NO_SPEED))


def _fronts(point: Point, fronts: Sequence[tuple[Price, Sequence[Point]]]) -> Cell:
    if point.is_reference:
        return absent(NOT_TRAINED)
    if all(price.of(point) is None for price, _ in fronts):
        return absent(NO_SPEED)
    told = " and ".join(price.told for price, front in fronts if point in front) or "no"
    return value_cell(told)


def _end(value: float | None) -> Cell:
    return absent("two seeds give no interval") if value is None else value_cell(value, accuracy)


def _across(comparison: Comparison, name: str, found: Sequence[Sequence[Point]]) -> list[Cell]:
    """Return the accuracies of a subject on all tasks."""
    own = [next((point for point in of if point.subject == name), None) for of in found]
    cells = [estimate_cell(point.accuracy if point else None, accuracy, NOT_SCORED) for point in own]
    return [subject_cell(comparison, name), *cells]


def _size_note(answers: Sequence[Scored], task: str) -> str:
    score = next(one.score for one in answers if one.score.task == task)
    return f"{len(score.correct):,} test images"


def _told(row: Sequence[Point | None]) -> set[str]:
    return {budget for point in row if point and not point.is_reference for budget in point.budgets}


def _any(row: Sequence[Point | None]) -> Point:
    return next(point for point in row if point is not None)
