"""The tables of accuracy on whole tasks. No torch here."""

from collections import defaultdict
from collections.abc import Sequence

from bench.interfaces.catalog import RANDOM_INIT, REFERENCE_TOWER
from bench.interfaces.sections import ComparisonView
from bench.measure.comparison_records import UNTIMED
from bench.records.record import TransferScores
from bench.statistics.intervals import accuracy_with_wilson_interval
from bench.tables.formats import (
    CONFIDENCE_TEXT,
    format_accuracy,
    format_count,
    format_percent,
    format_signed_accuracy_difference,
    join_with_and,
)
from bench.tables.groups import group_by
from bench.tables.tables import Cell, Column, Table
from bench.transfer.pareto import TowerCostAxis, make_time_and_energy_cost_axes, pareto_front
from bench.transfer.subject_scores import (
    PROBE,
    RETRIEVAL,
    EqualBudget,
    FullLabelScores,
    TowerOrReferenceAccuracy,
    is_random_init_name,
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
# The hyperparameter chosen on validation; retrieval has none, other protocols choose the learning rate.
CHOSEN = {PROBE: "C", "k-NN": "k"}


def accuracy_overview_table(comparison: ComparisonView, scores: FullLabelScores) -> Table:
    """Return a table of the accuracy on every task by its main protocol: towers by images seen, then bounds.

    Each experiment is listed at the first number of images that it has in common with others.
    """
    budgets = [budget for budget in scores.headline_budgets if budget.images is not None]
    columns = [Column.left_aligned("features")]
    cells: dict[tuple[str, str], dict[str, Cell]] = defaultdict(dict)  # by heading and subject
    for task in scores.tasks:
        towers = scores.main_accuracies(task)
        num_test = len(towers[0].seed_scores[0].score.correct)
        columns.append(Column(task, f"{scores.main_protocol(task)}, {num_test:,} test images"))
        for tower in towers:
            cell = Cell.estimate_or_why(tower.accuracy, format_accuracy)
            for heading in _budget_headings(tower):
                cells[heading, tower.subject].setdefault(task, cell)
    groups = _make_empty_groups(budgets)
    for (heading, subject), cells_of_subject in cells.items():
        if heading in groups:
            name_cell = tower_or_reference_name_cell(comparison, subject)
            aligned_cells = dict.fromkeys(scores.tasks, Cell.not_applicable(NOT_SCORED))
            aligned_cells.update(cells_of_subject)
            groups[heading].append([name_cell, *aligned_cells.values()])
    return Table.of_groups("Accuracy on every task", columns, groups)


def seed_accuracy_table(
    comparison: ComparisonView, scores: FullLabelScores, protocol: str
) -> Table:
    """Return a table with one row per tower and seed: its accuracy by a protocol on every task."""
    tasks = [task for task in scores.tasks if scores.accuracies(task, protocol)]
    scores_of_protocol = [scored for scored in scores if scored.score.protocol == protocol]
    towers = group_by(
        scores_of_protocol, lambda scored: (scored.subject, scored.images_seen, scored.seed)
    )
    rows = []
    for (subject, images, seed), scores_of_tower in towers.items():
        cells = dict.fromkeys(tasks, Cell.not_applicable(NOT_SCORED))
        for scored in scores_of_tower:
            interval = accuracy_with_wilson_interval(scored.correct_items.tolist())
            cells[scored.score.task] = Cell.estimate_or_why(interval, format_accuracy)
        row = [
            tower_or_reference_name_cell(comparison, subject),
            images_seen_cell(images),
            Cell.applicable_or_why(seed, str, NO_SEED),
            *cells.values(),
        ]
        rows.append(row)
    columns = [Column.left_aligned("features"), Column("images seen"), Column("seed")]
    columns += [Column(task) for task in tasks]
    is_transposed = len(tasks) > len(rows)
    return Table(f"Transfer: {protocol}", columns, {"": rows}, is_transposed=is_transposed)


def task_accuracy_table(
    comparison: ComparisonView, scores: FullLabelScores, task: str, protocols: Sequence[str]
) -> Table:
    """Return a table with one row per tower, grouped by budget: its accuracy on a task by each protocol.

    Beside it are the gain over the random-init baseline, the costs, the number of seeds and the Pareto fronts. The
    fronts are equal to the fronts in the charts, by the first protocol. Energy is shown if it was measured for any
    tower.
    """
    costs = [
        cost
        for cost in make_time_and_energy_cost_axes(comparison)
        if cost.cost_per_image or cost.name == "seconds"
    ]
    first_accuracies = scores.accuracies(task, protocols[0])
    fronts = {cost.title: pareto_front(first_accuracies, cost) for cost in costs}
    # By subject and images seen, then by protocol.
    accuracies: dict[tuple[str, int], dict[str, TowerOrReferenceAccuracy]] = defaultdict(dict)
    for protocol in protocols:
        for tower in scores.accuracies(task, protocol):
            accuracies[tower.subject, tower.images_seen].setdefault(protocol, tower)
    groups = _make_empty_groups(scores.budgets)
    for accuracy_by_protocol in accuracies.values():
        tower = next(iter(accuracy_by_protocol.values()))
        row = [
            tower_or_reference_name_cell(comparison, tower.subject),
            images_seen_cell(tower.images_seen),
        ]
        row += [_cost_cell(tower, cost) for cost in costs]
        for protocol in protocols:
            row += _protocol_cells(protocol, accuracy_by_protocol.get(protocol))
        fronts_of_tower = [title for title, front in fronts.items() if tower in front]
        row.append(Cell.of(len(tower.seed_scores)))
        row.append(Cell.of(" and ".join(fronts_of_tower) or "no"))
        for heading in _budget_headings(tower):
            groups[heading].append(row)
    columns = [Column.left_aligned("features"), Column("images seen")]
    columns += [Column(cost.title, "at its measured speed") for cost in costs]
    for protocol in protocols:
        columns += _protocol_columns(protocol)
    columns += [Column("seeds"), Column.left_aligned("on the Pareto front", "against")]
    return Table.of_groups(f"Accuracy on {task}", columns, groups)


def _make_empty_groups(budgets: Sequence[EqualBudget]) -> dict[str, list[list[Cell]]]:
    """Return the groups of a table's rows by their headings: towers by budget, then bounds."""
    headings = [str(budget).capitalize() for budget in budgets]
    return {heading: [] for heading in (*headings, LOWER_BOUNDS_HEADING, UPPER_BOUND_HEADING)}


def _budget_headings(tower: TowerOrReferenceAccuracy) -> list[str]:
    """Return the headings under which tables list a subject: a bound, or a trained tower at each of its budgets."""
    if tower.subject == REFERENCE_TOWER:
        return [UPPER_BOUND_HEADING]
    if tower.is_reference:
        return [LOWER_BOUNDS_HEADING]
    return [str(budget).capitalize() for budget in tower.budgets]


def _cost_cell(tower: TowerOrReferenceAccuracy, cost: TowerCostAxis) -> Cell:
    """Return the cell of a tower's cost, or why it has none."""
    if not tower.images_seen:
        return Cell.not_applicable(NOT_TRAINED)
    return Cell.measured_or_why(cost.cost_of(tower), cost.format_value, UNTIMED)


def _protocol_columns(protocol: str) -> list[Column]:
    """Return the columns whose cells `_protocol_cells` returns."""
    columns = [
        Column(protocol, f"accuracy, {CONFIDENCE_TEXT}"),
        Column("gain", f"over random init, {CONFIDENCE_TEXT}"),
    ]
    if protocol != RETRIEVAL:
        columns.append(Column(CHOSEN.get(protocol, "rate"), "chosen on validation"))
    return columns


def _protocol_cells(protocol: str, tower: TowerOrReferenceAccuracy | None) -> list[Cell]:
    """Return the cells of accuracy, gain and hyperparameter of a tower; a dagger marks a fit that did not converge."""
    if tower is None:
        num_columns = len(_protocol_columns(protocol))
        return [Cell.not_applicable(NOT_SCORED)] * num_columns
    no_gain = "its random-init baseline was not scored"
    if is_random_init_name(tower.subject):
        no_gain = "this is the random-init baseline"
    cells = [
        Cell.estimate_or_why(tower.accuracy, format_accuracy),
        Cell.estimate_or_why(tower.gain, format_signed_accuracy_difference, no_gain),
    ]
    if protocol != RETRIEVAL:
        scores = [scored.score for scored in tower.seed_scores]
        chosen_settings = [f"{score.chosen:.4g}" for score in scores]
        text = ", ".join(dict.fromkeys(chosen_settings))
        if not all(score.converged for score in scores):
            text += " †"
        cells.append(Cell(text, value=scores[0].chosen))
    return cells


def describe_leaked_test_images(comparison: ComparisonView) -> str:
    """Return a sentence on the test images that towers saw in training; empty if there are none."""
    leaked_by_task = dict[str, int]()
    for _, transfer in comparison.records_and_contents_of(TransferScores):
        tasks = [score.task for score in transfer.scores]
        tasks += [metric.task for metric in transfer.metrics]
        for task in tasks:
            leaked = leaked_by_task.get(task, 0)
            leaked_by_task[task] = max(transfer.seen_images or 0, leaked)
    counts = [f"{count:,} of {task}" for task, count in leaked_by_task.items() if count]
    if not counts:
        return ""
    return f"Test images that are in the training data, byte for byte: {join_with_and(counts)}. Scores are too high."


def tower_or_reference_name_cell(comparison: ComparisonView, name: str) -> Cell:
    """Return the cell that names what was scored, by its name."""
    title = RANDOM_INIT_TITLE if name == RANDOM_INIT else name
    return Cell.naming_row(comparison.labels.get(name, title), name)


def images_seen_cell(images: int) -> Cell:
    """Return the cell with the number of images seen in pre-training."""
    if not images:
        return Cell.not_applicable(NOT_TRAINED)
    return Cell.of(images, format_count)


def task_size_note(scores: FullLabelScores, task: str) -> str:
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
