"""The mean accuracy of each tower over all tasks, with its difference from the base."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from bench.interfaces.catalog import image_set_of_task
from bench.interfaces.sections import ComparisonRecords
from bench.statistics.accuracies import (
    MIN_TASKS_FOR_INTERVAL,
    POWER,
    MeanOverTasks,
    estimate_mean_over_tasks,
)
from bench.tables.formats import (
    CONFIDENCE_TEXT,
    format_accuracy,
    format_accuracy_gain,
    format_percent,
)
from bench.tables.groups import group_by
from bench.tables.tables import Cell, Column, Table
from bench.transfer.score_tables import subject_name_cell
from bench.transfer.subject_scores import ScorePoint, WholeTaskScores, towers_at_budget

MEAN_NOTE = (
    "Over the tasks on which all these towers were scored; tasks on the same test images count as one. Tasks and seeds "
    "are random factors of a mean difference, so that its interval covers other tasks like these and, from three seeds "
    "on, other trainings. Nobody drew these tasks at random: how far they stand for others is for the reader to judge. "
    "Other data, towers and numbers of images are not covered. A smallest difference is the size from which an "
    f"interval would leave out 0 with a probability of {format_percent(POWER, 0)}, for as many tasks and seeds with "
    "this spread."
)
TowersByTask = Mapping[str, Mapping[str, ScorePoint]]  # by task and subject


def mean_over_tasks_table(comparison: ComparisonRecords, answers: WholeTaskScores) -> Table | None:
    """Show the means of the towers at the first budget; None for one tower or on fewer than three sets of images."""
    budget = answers.headline_budgets[0] if answers.headline_budgets else ""
    towers = {}  # by task and subject
    for task in answers.tasks:
        points = towers_at_budget(answers.main_points(task), budget)
        towers[task] = {point.subject: point for point in points}
    subjects = list(dict.fromkeys(subject for points in towers.values() for subject in points))
    common_tasks = [task for task in towers if len(towers[task]) == len(subjects)]
    image_sets = group_by(common_tasks, image_set_of_task)
    if len(subjects) <= 1 or len(image_sets) < MIN_TASKS_FOR_INTERVAL:
        return None
    tasks_by_images = list(image_sets.values())
    base = comparison.base if comparison.base in subjects else subjects[0]
    rows = []
    for subject in subjects:
        means = []
        for tasks in tasks_by_images:
            accuracies = [towers[task][subject].accuracy.value for task in tasks]
            means.append(fmean(accuracies))
        row = [subject_name_cell(comparison, subject), Cell.of(fmean(means), format_accuracy)]
        if subject == base:
            row += [Cell.not_applicable("this is the base")] * 2
        else:
            row += _difference_cells(_mean_difference(towers, tasks_by_images, base, subject))
        rows.append(row)
    columns = [
        Column.text("features"),
        Column("mean accuracy", f"at {budget}, over {len(image_sets)} tasks"),
        Column("mean difference", f"from {comparison.label(base)}, {CONFIDENCE_TEXT}"),
        Column("smallest difference", f"with a power of {format_percent(POWER, 0)}"),
    ]
    return Table.of_rows("Mean over all tasks", columns, rows, MEAN_NOTE)


def _mean_difference(
    towers: TowersByTask, tasks_by_images: Sequence[Sequence[str]], base: str, other: str
) -> MeanOverTasks | None:
    """Estimate other - base over sets of test images and common seeds; None without a common seed."""
    answers = {}
    for tasks in tasks_by_images:
        for task in tasks:
            for subject in (base, other):
                answers[task, subject] = towers[task][subject].by_seed()
    common_seeds = set.intersection(*(set(by_seed) for by_seed in answers.values()))
    rows = []
    for seed in sorted(common_seeds, key=str):
        row = []
        for tasks in tasks_by_images:
            gains = []
            for task in tasks:
                gain = answers[task, other][seed] - answers[task, base][seed]
                gains.append(float(np.mean(gain)))
            row.append(fmean(gains))
        rows.append(row)
    return estimate_mean_over_tasks(rows) if rows else None


def _difference_cells(gain: MeanOverTasks | None) -> list[Cell]:
    """Return the mean difference with its interval, and the smallest difference that could have been shown."""
    if gain is None:
        return [Cell.not_applicable("no training seed in common with the base")] * 2
    difference = Cell.estimate_or_why(gain.mean, format_accuracy_gain)
    smallest = Cell.applicable_or_why(
        gain.smallest_detectable, format_accuracy, "it has no interval"
    )
    return [replace(difference, note=f"{difference.note}; {gain.mean.over}"), smallest]
