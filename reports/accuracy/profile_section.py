"""The section on all tasks together: the rank of each method on each task, and the mean difference over tasks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean

import numpy as np

from bench.interfaces.catalog import image_set_of_task
from bench.interfaces.sections import Block, ComparisonRecords, Download, PageContext, Section, Text
from bench.statistics.accuracies import (
    POWER,
    SEEDS_FOR_RANKING,
    TASKS_FOR_INTERVAL,
    Estimate,
    MeanOverTasks,
    estimate_over_tasks,
    estimate_paired_over_seeds,
)
from bench.statistics.p_values import CONFIDENCE
from bench.tables.formats import (
    INTERVAL,
    format_accuracy,
    format_accuracy_gain,
    format_percent,
    join_words,
    pluralize,
)
from bench.tables.tables import Cell, Column, Table
from bench.transfer.score_tables import subject_name_cell
from bench.transfer.subject_scores import (
    ScorePoint,
    WholeTaskScores,
    towers_at_budget,
    whole_task_scores,
)

OUTCOMES = ("above", "not apart", "below")  # of an interval of a difference from another method
RANK_NOTE = (
    f"A rank is the span of places that intervals leave open. A method is above another on a task if the {INTERVAL} "
    "interval of their difference, over paired seeds and test images, is above 0. Intervals are not adjusted for their "
    "number: of {number}, {chance} would leave out 0 if the methods were equal."
)
MEAN_NOTE = (
    "Tasks and seeds are random factors of a mean difference, so that its interval covers other tasks like these and, "
    "from three seeds on, other trainings. Nobody drew these tasks at random: how far they stand for others is for the "
    "reader to judge. Other data, towers and numbers of images are not covered.{shared} A smallest difference is the "
    f"size from which an interval would leave out 0 with a probability of {format_percent(POWER, 0)}, for as many "
    "tasks and seeds with this spread."
)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The difference of two towers on a task, over five paired seeds or more."""

    task: str
    base: str
    other: str
    estimate: Estimate  # other - base

    @property
    def outcome(self) -> str:
        """Whether the other is above the base, below it, or not apart from it."""
        if (self.estimate.low or 0.0) > 0:
            return "above"
        return "below" if (self.estimate.high or 0.0) < 0 else "not apart"


@dataclass(frozen=True, slots=True)
class TaskProfile:
    """The towers of one budget on the tasks on which all of them were scored."""

    towers: Mapping[str, Mapping[str, ScorePoint]]  # by task and subject
    subjects: Sequence[str]
    left_out: Sequence[str]  # tasks

    @property
    def image_sets(self) -> list[list[str]]:
        """The tasks, grouped by their test images."""
        tasks_by_images = dict[str, list[str]]()
        for task in self.towers:
            tasks_by_images.setdefault(image_set_of_task(task), []).append(task)
        return list(tasks_by_images.values())

    def paired_differences(self) -> list[PairedDifference]:
        """Return the difference of every two subjects on every task, where they have five paired seeds or more."""
        differences = []
        for task, points in self.towers.items():
            for base, other in combinations(self.subjects, 2):
                estimate = estimate_paired_over_seeds(
                    points[base].by_seed(), points[other].by_seed()
                )
                if estimate is not None and estimate.low is not None:
                    differences.append(PairedDifference(task, base, other, estimate))
        return differences

    def mean_gain_over_paired_seeds(self, base: str, other: str) -> MeanOverTasks | None:
        """Estimate other - base over sets of test images and common seeds; None without a common seed."""
        seeds_by_tower = []
        gains = dict[str, dict[int | None, float]]()  # by task and seed
        for task, points in self.towers.items():
            base_answers = points[base].by_seed()
            other_answers = points[other].by_seed()
            seeds_by_tower += [set(base_answers), set(other_answers)]
            gains[task] = {
                seed: float(np.mean(other_answers[seed]) - np.mean(base_answers[seed]))
                for seed in base_answers.keys() & other_answers.keys()
            }
        seeds = sorted(set.intersection(*seeds_by_tower), key=str)
        rows = [
            [fmean(gains[task][seed] for task in tasks) for tasks in self.image_sets]
            for seed in seeds
        ]
        return estimate_over_tasks(rows) if rows else None

    def mean_accuracy(self, subject: str) -> float:
        """Return the mean over sets of test images."""
        return fmean(
            fmean(self.towers[task][subject].accuracy.value for task in tasks)
            for tasks in self.image_sets
        )


def _build(page: PageContext) -> Sequence[Block] | None:
    answers = whole_task_scores(page.comparison)
    budget = answers.headline_budgets[0] if answers.headline_budgets else ""
    profile = _collect_profile(answers, budget)
    if len(profile.subjects) <= 1 or len(profile.towers) <= 1:
        return None
    differences = profile.paired_differences()
    tables = dict[str, Table]()
    if len(profile.image_sets) >= TASKS_FOR_INTERVAL:
        tables["mean-over-tasks.csv"] = _mean_table(page.comparison, profile)
    if differences:
        tables["ranks.csv"] = _rank_table(page.comparison, profile, differences)
    if not tables:
        return None
    downloads = [Download(name, table.title, table.to_csv()) for name, table in tables.items()]
    return [
        Text(_describe(profile, budget, has_ranks=bool(differences)), "protocol"),
        *tables.values(),
        *downloads,
    ]


SECTION = Section("tasks", "All tasks together", "All tasks", _build)


def _collect_profile(answers: WholeTaskScores, budget: str) -> TaskProfile:
    """Return the towers of a budget on the tasks on which all of them were scored, by each task's main protocol."""
    towers = {
        task: {
            point.subject: point for point in towers_at_budget(answers.main_points(task), budget)
        }
        for task in answers.tasks
    }
    subjects = list(dict.fromkeys(subject for points in towers.values() for subject in points))
    complete = {task: points for task, points in towers.items() if len(points) == len(subjects)}
    return TaskProfile(complete, subjects, [task for task in towers if task not in complete])


def _describe(profile: TaskProfile, budget: str, *, has_ranks: bool) -> str:
    sentences = [f"Towers at {budget} on {pluralize(len(profile.towers), 'task')}."]
    if profile.left_out:
        sentences.append(
            f"Not all of them were scored on {join_words(profile.left_out)}, which is left out."
        )
    if not has_ranks:
        sentences.append(f"Methods are not ranked: that needs {SEEDS_FOR_RANKING} paired seeds.")
    if len(profile.image_sets) < TASKS_FOR_INTERVAL:
        images = pluralize(len(profile.image_sets), "set of test images", "sets of test images")
        needed = f"a mean over tasks needs {TASKS_FOR_INTERVAL}: add others with --task."
        sentences.append(f"The tasks are on {images}; {needed}")
    return " ".join(sentences)


def _mean_table(comparison: ComparisonRecords, profile: TaskProfile) -> Table:
    base = profile.subjects[0]
    if comparison.base is not None and comparison.base in profile.subjects:
        base = comparison.base
    columns = [
        Column.text("features"),
        Column("mean accuracy", f"over {len(profile.image_sets)} tasks"),
        Column("mean difference", f"from {comparison.label(base)}, {INTERVAL}"),
        Column("smallest difference", f"with a power of {format_percent(POWER, 0)}"),
    ]
    rows = []
    for subject in profile.subjects:
        accuracy = Cell.of(profile.mean_accuracy(subject), format_accuracy)
        gain = None if subject == base else profile.mean_gain_over_paired_seeds(base, subject)
        reason = (
            "this is the base" if subject == base else "no training seed in common with the base"
        )
        difference = Cell.not_applicable(reason)
        smallest = Cell.not_applicable(reason)
        if gain is not None:
            difference = Cell.estimate(gain.mean, format_accuracy_gain)
        if gain is not None and gain.smallest is not None:
            difference = replace(difference, note=f"{difference.note}; {gain.mean.over}")
            smallest = Cell.of(gain.smallest, format_accuracy)
        rows.append([subject_name_cell(comparison, subject), accuracy, difference, smallest])
    shared = [join_words(tasks) for tasks in profile.image_sets if len(tasks) > 1]
    shared_note = (
        f" Tasks on the same test images count as one: {'; '.join(shared)}." if shared else ""
    )
    return Table.of_rows("Mean over all tasks", columns, rows, MEAN_NOTE.format(shared=shared_note))


def _rank_table(
    comparison: ComparisonRecords, profile: TaskProfile, differences: Sequence[PairedDifference]
) -> Table:
    opposite = {"above": "below", "below": "above", "not apart": "not apart"}
    outcomes = {
        subject: {task: Counter[str]() for task in profile.towers} for subject in profile.subjects
    }
    for difference in differences:
        outcomes[difference.other][difference.task][difference.outcome] += 1
        outcomes[difference.base][difference.task][opposite[difference.outcome]] += 1
    rows = []
    for subject, outcomes_by_task in outcomes.items():
        total = sum(outcomes_by_task.values(), Counter[str]())
        ranks = [
            _rank_cell(counts, len(profile.subjects) - 1) for counts in outcomes_by_task.values()
        ]
        totals = [Cell.of(total[outcome]) for outcome in OUTCOMES]
        rows.append([subject_name_cell(comparison, subject), *ranks, *totals])
    outcome_columns = [Column(outcome, "intervals against others") for outcome in OUTCOMES]
    columns = [Column.text("features"), *map(Column, profile.towers), *outcome_columns]
    by_chance = f"{len(differences) * (1 - CONFIDENCE):.1f}"
    note = RANK_NOTE.format(number=pluralize(len(differences), "difference"), chance=by_chance)
    return Table.of_rows("Rank on every task", columns, rows, note)


def _rank_cell(outcomes: Counter[str], others: int) -> Cell:
    """Return the span of places of a method among others; a dash where it has no interval against some of them."""
    if outcomes.total() < others:
        return Cell.not_applicable(
            f"fewer than {SEEDS_FOR_RANKING} seeds in common with all others"
        )
    first = 1 + outcomes["below"]
    last = 1 + others - outcomes["above"]
    return Cell(
        f"{first}" if first == last else f"{first} to {last}", value=first, interval=(first, last)
    )
