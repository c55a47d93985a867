"""The tables of accuracy on whole tasks. No torch here."""

from collections.abc import Iterable, Sequence

from bench.interfaces.catalog import RANDOM_INIT
from bench.interfaces.sections import ComparisonRecords
from bench.measure.comparison_records import UNTIMED
from bench.statistics.accuracies import Estimate
from bench.statistics.intervals import accuracy_interval
from bench.tables.formats import (
    INTERVAL,
    HasEstimate,
    format_accuracy,
    format_accuracy_gain,
    format_count,
    format_percent,
    join_words,
)
from bench.tables.tables import Cell, Column, Table
from bench.transfer.label_curves import Curve
from bench.transfer.pareto import CostAxis, cost_axes, pareto_front
from bench.transfer.subject_scores import (
    PROBE,
    RETRIEVAL,
    ScorePoint,
    WholeTaskScores,
    is_random_init,
    is_upper_bound,
    towers_at_budget,
)

RANDOM_INIT_TITLE = "random-init baseline"
LOWER_BOUNDS_HEADING = "Lower bounds, without training"
UPPER_BOUNDS_HEADING = "Upper bounds"
NOT_SCORED = "not scored"
NOT_TRAINED = "it was not trained"
TASKS_NOTE = (
    "With one seed, intervals of accuracy are Wilson’s over test images, and those of gain are paired over the same "
    "test images. With three seeds or more, both are over seeds and test images."
)
NO_SEED = "it has no random weights, or was not trained here"
TowerKey = tuple[str, int, int | None]  # subject, images seen in pre-training, seed
Front = tuple[CostAxis, Sequence[ScorePoint]]  # a cost, and the Pareto-optimal towers against it
# The hyperparameter chosen on validation; retrieval has none, other protocols choose the learning rate.
CHOSEN = {PROBE: "C", "k-NN": "k", RETRIEVAL: ""}


def overview_table(comparison: ComparisonRecords, answers: WholeTaskScores) -> Table:
    """Show the main protocol of every task at the first budget, then the bounds."""
    points_by_task = {task: answers.main_points(task) for task in answers.tasks}
    columns = [Column.text("features")]
    for task, points in points_by_task.items():
        num_test = len(points[0].runs[0].score.correct)
        columns.append(Column(task, f"{answers.main_protocol(task)}, {num_test:,} test images"))
    groups = {}
    for budget in answers.budgets[:1]:
        towers = [towers_at_budget(points, budget) for points in points_by_task.values()]
        groups[f"Towers at {budget}"] = _rows_of_subjects(comparison, towers)
    for heading in (LOWER_BOUNDS_HEADING, UPPER_BOUNDS_HEADING):
        bounds = [
            [point for point in points if bound_heading(point) == heading]
            for points in points_by_task.values()
        ]
        groups[heading] = _rows_of_subjects(comparison, bounds)
    return Table.of_groups("Accuracy on every task", columns, groups)


def protocol_table(comparison: ComparisonRecords, answers: WholeTaskScores, protocol: str) -> Table:
    """Show the tower of each seed on every task of a protocol, with intervals over the test images."""
    tasks = [task for task in answers.tasks if answers.points(task, protocol)]
    accuracies = dict[TowerKey, dict[str, HasEstimate]]()  # by tower and task
    for task in tasks:
        for point in answers.points(task, protocol):
            for run in point.runs:
                accuracies_of_tower = accuracies.setdefault((run.subject, run.images, run.seed), {})
                accuracies_of_tower[task] = accuracy_interval(run.correct.tolist())
    rows = []
    for (subject, images, seed), accuracies_of_tower in accuracies.items():
        name = subject_name_cell(comparison, subject)
        cells = [
            Cell.estimate(accuracies_of_tower.get(task), format_accuracy, NOT_SCORED)
            for task in tasks
        ]
        rows.append([name, images_cell(images), Cell.applicable(seed, str, NO_SEED), *cells])
    columns = [Column.text("features"), *map(Column, ("images seen", "seed", *tasks))]
    return Table(f"Transfer: {protocol}", columns, {"": rows}, is_transposed=len(tasks) > len(rows))


def task_table(
    comparison: ComparisonRecords, answers: WholeTaskScores, task: str, protocols: Sequence[str]
) -> Table:
    """Show the accuracies on a task at each budget, with gains over the random-init baseline, costs and Pareto fronts.

    The fronts are those of the charts, by the first protocol. Energy is shown if it was measured for any tower.
    """
    device, energy = cost_axes(comparison)
    costs = [device, energy] if energy.per_image else [device]
    fronts = [(cost, pareto_front(answers.points(task, protocols[0]), cost)) for cost in costs]
    columns = [
        Column.text("features"),
        Column("images seen"),
        Column("device time", "at its measured speed"),
    ]
    columns += [Column("energy", "of all devices") for _ in costs[1:]]
    rows = dict[
        tuple[str, int], dict[str, ScorePoint]
    ]()  # points by subject and images, and protocol
    for protocol in protocols:
        columns += [
            Column(protocol, f"accuracy, {INTERVAL}"),
            Column("gain", f"over random init, {INTERVAL}"),
        ]
        hyperparameter = CHOSEN.get(protocol, "rate")
        if hyperparameter:
            columns.append(Column(hyperparameter, "chosen on validation"))
        for point in answers.points(task, protocol):
            rows.setdefault((point.subject, point.images), {}).setdefault(protocol, point)
    columns += [Column("seeds"), Column.text("on the Pareto front", "against")]
    groups = {}
    for title, rows_of_group in _group_by_budget(answers.budgets, list(rows.values())).items():
        groups[title] = [
            _subject_row_of_task(comparison, row, protocols, fronts) for row in rows_of_group
        ]
    return Table.of_groups(f"Accuracy on {task}", columns, groups)


def bound_heading(point: ScorePoint | Curve) -> str:
    """Return the heading of a reference in tables; empty for a trained tower."""
    if not point.is_reference:
        return ""
    return UPPER_BOUNDS_HEADING if is_upper_bound(point.subject) else LOWER_BOUNDS_HEADING


def subject_name_cell(comparison: ComparisonRecords, subject: str) -> Cell:
    """Return the cell that names a scored subject."""
    title = RANDOM_INIT_TITLE if subject == RANDOM_INIT else subject
    return Cell.of_name(comparison.labels.get(subject, title), subject)


def images_cell(images: int) -> Cell:
    """Return the cell with the number of images seen in pre-training."""
    return Cell.of(images, format_count) if images else Cell.not_applicable(NOT_TRAINED)


def task_note(answers: WholeTaskScores, task: str) -> str:
    """Return the sizes of a task, and its fits that did not converge."""
    here = [scored.score for scored in answers if scored.score.task == task]
    first = here[0]
    if first.protocol == RETRIEVAL:
        return f"{len(first.correct):,} test queries; {format_count(first.num_train)} images in the gallery."
    train = join_words(
        [format_count(number) for number in sorted({score.num_train for score in here})]
    )
    unconverged = sum(not score.converged for score in here)
    return (
        f"{first.num_classes} classes; {len(first.correct):,} test images; {train} images for training and validation; "
        f"the majority class is {format_percent(first.majority)} of the test images."
        + (
            f" {unconverged} of {len(here)} fits stopped before they converged (marked †)."
            if unconverged
            else ""
        )
    )


def _group_by_budget(
    budgets: Iterable[str], rows: Sequence[dict[str, ScorePoint]]
) -> dict[str, list[dict[str, ScorePoint]]]:
    """Group the rows of a task by budget; a tower of two budgets is in both groups."""
    groups = {}
    for budget in budgets:
        title = budget[:1].upper() + budget[1:]
        groups[title] = [row for row in rows if towers_at_budget(list(row.values()), budget)]
    without_budget = "Other numbers of images"
    for heading in (without_budget, LOWER_BOUNDS_HEADING, UPPER_BOUNDS_HEADING):
        groups[heading] = []
    for row in rows:
        heading = bound_heading(next(iter(row.values())))
        if heading:
            groups[heading].append(row)
        elif not any(point.budgets for point in row.values()):
            groups[without_budget].append(row)
    return groups


def _subject_row_of_task(
    comparison: ComparisonRecords,
    row: dict[str, ScorePoint],
    protocols: Iterable[str],
    fronts: Sequence[Front],
) -> list[Cell]:
    point = next(iter(row.values()))
    cells = [subject_name_cell(comparison, point.subject), images_cell(point.images)]
    cells += [_cost_cell(point, cost) for cost, _ in fronts]
    is_baseline = is_random_init(point.subject)
    no_gain = (
        "this is the random-init baseline"
        if is_baseline
        else "its random-init baseline was not scored"
    )
    for protocol in protocols:
        scored = row.get(protocol)
        cells += [
            Cell.estimate(scored.accuracy if scored else None, format_accuracy, NOT_SCORED),
            Cell.estimate(scored.gain if scored else None, format_accuracy_gain, no_gain),
        ]
        if CHOSEN.get(protocol, "rate"):
            cells.append(
                _hyperparameter_cell(scored) if scored else Cell.not_applicable(NOT_SCORED)
            )
    return [*cells, Cell.of(len(point.runs)), _fronts_cell(point, fronts)]


def _hyperparameter_cell(point: ScorePoint) -> Cell:
    """Show the hyperparameter chosen on validation; a dagger marks a fit that did not converge."""
    values = [f"{value:.4g}" for value in dict.fromkeys(run.score.chosen for run in point.runs)]
    mark = "" if all(run.score.converged for run in point.runs) else " †"
    return Cell(", ".join(values) + mark, "", point.runs[0].score.chosen)


def _cost_cell(point: ScorePoint, cost: CostAxis) -> Cell:
    if not point.images:
        return Cell.not_applicable(NOT_TRAINED)
    return Cell.measured(
        cost.of(point), cost.write, cost.unknown_reasons.get(point.subject, UNTIMED)
    )


def _fronts_cell(point: ScorePoint, fronts: Sequence[Front]) -> Cell:
    if point.is_reference:
        return Cell.not_applicable(NOT_TRAINED)
    if all(cost.of(point) is None for cost, _ in fronts):
        return Cell.not_applicable(UNTIMED)
    return Cell.of(" and ".join(cost.title for cost, front in fronts if point in front) or "no")


def _rows_of_subjects(
    comparison: ComparisonRecords, points_by_task: Sequence[Sequence[ScorePoint]]
) -> list[list[Cell]]:
    """Return a row of accuracies on all tasks for each subject of these points."""
    accuracies = dict[str, dict[int, Estimate]]()  # by subject and number of the task
    for task, points in enumerate(points_by_task):
        for point in points:
            accuracies.setdefault(point.subject, {}).setdefault(task, point.accuracy)
    rows = []
    for subject, accuracies_of_subject in accuracies.items():
        cells = [
            Cell.estimate(accuracies_of_subject.get(task), format_accuracy, NOT_SCORED)
            for task in range(len(points_by_task))
        ]
        rows.append([subject_name_cell(comparison, subject), *cells])
    return rows
