"""The tables of the accuracy section."""

from collections.abc import Sequence

from bench.catalog import RANDOM_INIT
from reports.accuracy.pareto import CostAxis, on_front
from reports.accuracy.scores import (
    PROBE,
    Scored,
    ScorePoint,
    answered_tasks,
    at_budget,
    budgets,
    points,
    protocols,
)
from reports.render.formats import NBSP, accuracy, count, format_rate, format_seconds, gain, listed, percent
from reports.render.frames import ComparisonRecords
from reports.render.tables import Cell, Column, Group, HtmlTable

RANDOM_INIT_TITLE = "random-init baseline"
NO_SPEED = "its speed was not measured"
NOT_SCORED = "not scored"
NOT_TRAINED = "it was not trained"
CHOSEN = {PROBE: "C", "k-NN": "k"}  # the hyperparameter chosen on validation; other protocols choose the learning rate
INTERVAL = f"95{NBSP}%"


def overview_table(comparison: ComparisonRecords, answers: Sequence[Scored]) -> HtmlTable:
    """Show the linear probe on all tasks at the first budget, then references."""
    protocol = protocols(answers)[0]
    found = {task: points(answers, task, protocol) for task in answered_tasks(answers)}
    columns = [Column.text("features"), *(Column(task, _size_note(answers, task)) for task in found)]
    groups = []
    for budget in budgets(answers)[:1]:
        names = dict.fromkeys(point.subject for of in found.values() for point in at_budget(of, budget))
        rows = [_across(comparison, name, [at_budget(of, budget) for of in found.values()]) for name in names]
        groups.append(Group(f"Towers at {budget}", rows))
    references = {task: [point for point in of if point.is_reference] for task, of in found.items()}
    names = dict.fromkeys(point.subject for of in references.values() for point in of)
    groups.append(Group("References", [_across(comparison, name, list(references.values())) for name in names]))
    return HtmlTable(f"Accuracy by {protocol} on every task", columns, [group for group in groups if group.rows])


def task_table(comparison: ComparisonRecords, answers: Sequence[Scored], task: str, device: CostAxis) -> HtmlTable:
    """Show the accuracies on a task at each budget, with gains over the random-init baseline."""
    here = [one for one in answers if one.score.task == task]
    shown = {protocol: points(here, task, protocol) for protocol in protocols(here)}
    columns = [Column.text("features"), Column("images seen"), Column("device time", "at its measured speed")]
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
    return HtmlTable(f"Accuracy on {task}", columns, groups)


def points_table(
    comparison: ComparisonRecords, answers: Sequence[Scored], protocol: str, device: CostAxis, energy: CostAxis
) -> HtmlTable:
    """Show every point of the accuracy charts; energy where it was measured for any tower."""
    paid = [device, *([energy] if energy.per_image else [])]
    columns = [
        *Column.texts("features", "task"),
        Column("images seen"),
        Column("device seconds"),
        *(Column("energy, kJ") for _ in paid[1:]),
        Column("accuracy"),
        Column("low"),
        Column("high"),
        Column.text("over"),
        Column.text("on the Pareto front", "against"),
    ]
    rows = []
    for task in answered_tasks(answers):
        found = points(answers, task, protocol)
        fronts = [(price, on_front(found, price)) for price in paid]
        rows += [
            [
                subject_name_cell(comparison, point.subject),
                Cell.of(task),
                Cell.of(point.images, count),
                *(_cost(point, price) for price in paid),
                Cell.of(point.accuracy.value, accuracy),
                _end(point.accuracy.low),
                _end(point.accuracy.high),
                Cell.of(point.accuracy.over),
                _fronts(point, fronts),
            ]
            for point in found
        ]
    return HtmlTable.of_rows(f"Points of the accuracy charts ({protocol})", columns, rows)


def subject_name_cell(comparison: ComparisonRecords, subject: str) -> Cell:
    """Return the cell that names a scored subject."""
    return Cell.of_name(RANDOM_INIT_TITLE if subject == RANDOM_INIT else comparison.label(subject), subject)


def images_cell(images: int) -> Cell:
    """Return the cell with the number of images seen in pre-training."""
    return Cell.of(images, count) if images else Cell.absent(NOT_TRAINED)


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
    here: Sequence[Scored], rows: dict[tuple[str, int], list[ScorePoint | None]]
) -> dict[str, list[tuple[str, int]]]:
    """Group the rows of a task by budget; a tower of two budgets is in both groups."""
    groups: dict[str, list[tuple[str, int]]] = {}
    for budget in budgets(here):
        groups[budget[:1].upper() + budget[1:]] = [key for key, row in rows.items() if budget in _budget_names(row)]
    trained = [key for key, row in rows.items() if not _any(row).is_reference]
    groups["Other numbers of images"] = [key for key in trained if not _budget_names(rows[key])]
    groups["References"] = [key for key in rows if key not in trained]
    return groups


def _task_row(comparison: ComparisonRecords, row: Sequence[ScorePoint | None], device: CostAxis) -> list[Cell]:
    point = _any(row)
    cells = [
        subject_name_cell(comparison, point.subject),
        Cell.of(point.images, count) if point.images else Cell.absent(NOT_TRAINED),
        Cell.figure(device.of(point), format_seconds, NO_SPEED) if point.images else Cell.absent(NOT_TRAINED),
    ]
    for of in row:
        cells += [
            Cell.estimate(of.accuracy if of else None, accuracy, NOT_SCORED),
            Cell.estimate(of.gain if of else None, gain, _why_no_gain(point)),
            Cell.absent(NOT_SCORED) if of is None else _choose_rate(of),
        ]
    seeds = len(point.runs)
    return [*cells, Cell.of(seeds)]


def _choose_rate(point: ScorePoint) -> Cell:
    """Show the hyperparameter chosen on validation; a dagger marks a fit that did not converge."""
    values = [f"{value:.4g}" for value in dict.fromkeys(run.score.chosen for run in point.runs)]
    mark = "" if all(run.score.converged for run in point.runs) else " †"
    return Cell(", ".join(values) + mark, "", point.runs[0].score.chosen)


def _why_no_gain(point: ScorePoint) -> str:
    return (
        "this is the random-init baseline"
        if point.subject == RANDOM_INIT
        else "its random-init baseline was not scored"
    )


def _cost(point: ScorePoint, price: CostAxis) -> Cell:
    if not point.images:
        return Cell.absent(NOT_TRAINED)
    return Cell.figure(price.of(point), format_rate, price.why_not.get(point.subject, NO_SPEED))


def _fronts(point: ScorePoint, fronts: Sequence[tuple[CostAxis, Sequence[ScorePoint]]]) -> Cell:
    if point.is_reference:
        return Cell.absent(NOT_TRAINED)
    if all(price.of(point) is None for price, _ in fronts):
        return Cell.absent(NO_SPEED)
    text = " and ".join(price.title for price, front in fronts if point in front) or "no"
    return Cell.of(text)


def _end(value: float | None) -> Cell:
    return Cell.absent("two seeds give no interval") if value is None else Cell.of(value, accuracy)


def _across(comparison: ComparisonRecords, name: str, found: Sequence[Sequence[ScorePoint]]) -> list[Cell]:
    """Return the accuracies of a subject on all tasks."""
    own = [next((point for point in of if point.subject == name), None) for of in found]
    cells = [Cell.estimate(point.accuracy if point else None, accuracy, NOT_SCORED) for point in own]
    return [subject_name_cell(comparison, name), *cells]


def _size_note(answers: Sequence[Scored], task: str) -> str:
    score = next(one.score for one in answers if one.score.task == task)
    return f"{len(score.correct):,} test images"


def _budget_names(row: Sequence[ScorePoint | None]) -> set[str]:
    return {budget for point in row if point and not point.is_reference for budget in point.budgets}


def _any(row: Sequence[ScorePoint | None]) -> ScorePoint:
    return next(point for point in row if point is not None)
