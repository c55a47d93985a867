"""The tables of accuracy on whole tasks. No torch here."""

from collections.abc import Mapping, Sequence

from bench.interfaces.catalog import RANDOM_INIT, REFERENCE_TOWER
from bench.interfaces.sections import ComparisonRecords
from bench.measure.comparison_records import UNTIMED
from bench.records.record import TransferScores
from bench.statistics.intervals import accuracy_with_interval
from bench.tables.formats import (
    CONFIDENCE_TEXT,
    format_accuracy,
    format_accuracy_gain,
    format_count,
    format_percent,
    join_with_and,
)
from bench.tables.tables import Cell, Column, Table
from bench.transfer.pareto import CostAxis, make_time_and_energy_axes, pareto_front
from bench.transfer.subject_scores import (
    PROBE,
    RETRIEVAL,
    FullLabelScores,
    SubjectAccuracy,
    is_random_init,
)

RANDOM_INIT_TITLE = "random-init baseline"
LOWER_BOUNDS_HEADING = "Lower bounds, without training"
UPPER_BOUND_HEADING = "Upper bound"
NOT_SCORED = "not scored"
NOT_TRAINED = "it was not trained"
TASKS_NOTE = (
    "With one seed, intervals of accuracy are Wilson’s over test images, and those of gain are paired over the same "
    "test images. With three seeds or more, both are over seeds and test images."
)
NO_SEED = "it has no random weights, or was not trained here"
TowerKey = tuple[str, int, int | None]  # subject, images seen in pre-training, seed
# The hyperparameter chosen on validation; retrieval has none, other protocols choose the learning rate.
CHOSEN = {PROBE: "C", "k-NN": "k"}


def overview_table(comparison: ComparisonRecords, scores: FullLabelScores) -> Table:
    """Show the main protocol of every task by numbers of images, of which each experiment has one, then the bounds."""
    budgets = [budget for budget in scores.headline_budgets if budget.images is not None]
    columns = [Column.text("features")]
    headings = [str(budget).capitalize() for budget in budgets]
    headings += [LOWER_BOUNDS_HEADING, UPPER_BOUND_HEADING]
    # By heading, subject and task.
    cells_by_heading: dict[str, dict[str, dict[str, Cell]]] = {heading: {} for heading in headings}
    for task in scores.tasks:
        points = scores.main_accuracies(task)
        num_test = len(points[0].seed_scores[0].score.correct)
        columns.append(Column(task, f"{scores.main_protocol(task)}, {num_test:,} test images"))
        for point in points:
            for heading in _headings(point):
                if heading in cells_by_heading:
                    cells = cells_by_heading[heading].setdefault(point.subject, {})
                    cells.setdefault(task, Cell.estimate_or_why(point.accuracy, format_accuracy))
    groups = {}
    for heading, cells_by_subject in cells_by_heading.items():
        groups[heading] = [
            [subject_name_cell(comparison, subject), *_cells_of_tasks(cells, scores.tasks)]
            for subject, cells in cells_by_subject.items()
        ]
    return Table.of_groups("Accuracy on every task", columns, groups)


def _cells_of_tasks(cells: Mapping[str, Cell], tasks: Sequence[str]) -> list[Cell]:
    """Return the cell of each task; a task that was not scored has an empty one."""
    absent = Cell.not_applicable(NOT_SCORED)
    return [cells.get(task, absent) for task in tasks]


def protocol_table(comparison: ComparisonRecords, scores: FullLabelScores, protocol: str) -> Table:
    """Return a table with one row per tower and seed: its accuracy by a protocol on every task."""
    tasks = [task for task in scores.tasks if scores.accuracies(task, protocol)]
    cells = dict[TowerKey, dict[str, Cell]]()  # by tower and task
    for task in tasks:
        for point in scores.accuracies(task, protocol):
            for scored in point.seed_scores:
                interval = accuracy_with_interval(scored.correct.tolist())
                tower = (scored.subject, scored.images_seen, scored.seed)
                cells_of_tower = cells.setdefault(tower, {})
                cells_of_tower[task] = Cell.estimate_or_why(interval, format_accuracy)
    rows = []
    for (subject, images, seed), cells_of_tower in cells.items():
        row = [
            subject_name_cell(comparison, subject),
            images_seen_cell(images),
            Cell.applicable_or_why(seed, str, NO_SEED),
            *_cells_of_tasks(cells_of_tower, tasks),
        ]
        rows.append(row)
    columns = [Column.text("features"), Column("images seen"), Column("seed")]
    columns += [Column(task) for task in tasks]
    is_transposed = len(tasks) > len(rows)
    return Table(f"Transfer: {protocol}", columns, {"": rows}, is_transposed=is_transposed)


def task_table(
    comparison: ComparisonRecords, scores: FullLabelScores, task: str, protocols: Sequence[str]
) -> Table:
    """Return a table with one row per tower, grouped by budget: its accuracy on a task by each protocol.

    Beside it are the gain over the random-init baseline, the costs, the number of seeds and the Pareto fronts. The
    fronts are equal to the fronts in the charts, by the first protocol. Energy is shown if it was measured for any
    tower.
    """
    costs = [
        cost
        for cost in make_time_and_energy_axes(comparison)
        if cost.cost_per_image or cost.name == "seconds"
    ]
    fronts = [pareto_front(scores.accuracies(task, protocols[0]), cost) for cost in costs]
    points_by_tower = dict[tuple[str, int], dict[str, SubjectAccuracy]]()  # and by protocol
    for protocol in protocols:
        for point in scores.accuracies(task, protocol):
            tower = (point.subject, point.images_seen)
            points_by_tower.setdefault(tower, {}).setdefault(protocol, point)
    headings = [str(budget).capitalize() for budget in scores.budgets]
    headings += [LOWER_BOUNDS_HEADING, UPPER_BOUND_HEADING]
    groups: dict[str, list[list[Cell]]] = {heading: [] for heading in headings}
    for points in points_by_tower.values():
        point = next(iter(points.values()))
        row = [subject_name_cell(comparison, point.subject), images_seen_cell(point.images_seen)]
        row += [_cost_cell(point, cost) for cost in costs]
        for protocol in protocols:
            row += _protocol_cells(protocol, points.get(protocol))
        fronts_of_tower = []
        for cost, front in zip(costs, fronts, strict=True):
            if point in front:
                fronts_of_tower.append(cost.title)
        row.append(Cell.of(len(point.seed_scores)))
        row.append(Cell.of(" and ".join(fronts_of_tower) or "no"))
        for heading in _headings(point):
            groups[heading].append(row)
    columns = [Column.text("features"), Column("images seen")]
    columns += [Column(cost.title, "at its measured speed") for cost in costs]
    for protocol in protocols:
        columns += _protocol_columns(protocol)
    columns += [Column("seeds"), Column.text("on the Pareto front", "against")]
    return Table.of_groups(f"Accuracy on {task}", columns, groups)


def _headings(point: SubjectAccuracy) -> list[str]:
    """Return the headings under which tables list a point: a bound, or a tower at each of its budgets."""
    if point.subject == REFERENCE_TOWER:
        return [UPPER_BOUND_HEADING]
    if point.is_reference:
        return [LOWER_BOUNDS_HEADING]
    return [str(budget).capitalize() for budget in point.budgets]


def _cost_cell(point: SubjectAccuracy, cost: CostAxis) -> Cell:
    """Return the cell of a tower's cost, or why it has none."""
    if not point.images_seen:
        return Cell.not_applicable(NOT_TRAINED)
    return Cell.measured_or_why(cost.cost_of(point), cost.format_value, UNTIMED)


def _protocol_columns(protocol: str) -> list[Column]:
    """Return the columns whose cells `_protocol_cells` returns."""
    columns = [
        Column(protocol, f"accuracy, {CONFIDENCE_TEXT}"),
        Column("gain", f"over random init, {CONFIDENCE_TEXT}"),
    ]
    if protocol != RETRIEVAL:
        columns.append(Column(CHOSEN.get(protocol, "rate"), "chosen on validation"))
    return columns


def _protocol_cells(protocol: str, point: SubjectAccuracy | None) -> list[Cell]:
    """Return the cells of accuracy, gain and hyperparameter of a tower; a dagger marks a fit that did not converge."""
    if point is None:
        num_columns = len(_protocol_columns(protocol))
        return [Cell.not_applicable(NOT_SCORED)] * num_columns
    no_gain = "its random-init baseline was not scored"
    if is_random_init(point.subject):
        no_gain = "this is the random-init baseline"
    cells = [
        Cell.estimate_or_why(point.accuracy, format_accuracy),
        Cell.estimate_or_why(point.gain, format_accuracy_gain, no_gain),
    ]
    if protocol != RETRIEVAL:
        scores = [scored.score for scored in point.seed_scores]
        text = ", ".join(dict.fromkeys(f"{score.chosen:.4g}" for score in scores))
        if not all(score.converged for score in scores):
            text += " †"
        cells.append(Cell(text, value=scores[0].chosen))
    return cells


def describe_leaked_test_images(comparison: ComparisonRecords) -> str:
    """Return a sentence on the test images that towers saw in training; empty if there are none."""
    seen_by_task = dict[str, int]()
    for _, transfer in comparison.of(TransferScores):
        tasks = [score.task for score in transfer.scores]
        tasks += [metric.task for metric in transfer.metrics]
        for task in tasks:
            seen_by_task[task] = max(transfer.seen_images or 0, seen_by_task.get(task, 0))
    counts = [f"{count:,} of {task}" for task, count in seen_by_task.items() if count]
    if not counts:
        return ""
    return f"Test images that are in the training data, byte for byte: {join_with_and(counts)}. Scores are too high."


def subject_name_cell(comparison: ComparisonRecords, subject: str) -> Cell:
    """Return the cell that names a scored subject."""
    title = RANDOM_INIT_TITLE if subject == RANDOM_INIT else subject
    return Cell.of_name(comparison.labels.get(subject, title), subject)


def images_seen_cell(images: int) -> Cell:
    """Return the cell with the number of images seen in pre-training."""
    if not images:
        return Cell.not_applicable(NOT_TRAINED)
    return Cell.of(images, format_count)


def task_note(scores: FullLabelScores, task: str) -> str:
    """Return a note with the numbers of classes and images of a task, and what marks fits that did not converge."""
    score = next(scored.score for scored in scores if scored.score.task == task)
    num_test = f"{len(score.correct):,}"
    num_train = format_count(score.num_train)
    if score.protocol == RETRIEVAL:
        return f"{num_test} test queries; {num_train} images in the gallery."
    return (
        f"{score.num_classes} classes; {num_test} test images; {num_train} images for training and validation; the "
        f"majority class is {format_percent(score.majority)} of the test images. † marks fits that stopped before they "
        "converged."
    )
