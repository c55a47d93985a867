"""The section on all tasks together: the rank of each method on each task, and the mean difference over tasks."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
from bench.statistics.intervals import CONFIDENCE
from bench.tables.formats import INTERVAL, format_accuracy, format_accuracy_gain, format_percent, join_words, pluralize
from bench.tables.tables import Cell, Column, Table
from bench.transfer.score_tables import subject_name_cell
from bench.transfer.subject_scores import ScorePoint, WholeTaskScores, towers_at_budget, whole_task_scores

OUTCOMES, COUNTED = ("above", "not apart", "below"), "intervals against others"
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
Pair = tuple[str, str, str, Estimate]  # task, two subjects, and the difference of the second from the first


@dataclass(frozen=True, slots=True)
class _Profile:
    """The towers of one budget on the tasks on which all of them were scored."""

    towers: Mapping[str, Mapping[str, ScorePoint]]  # by task and subject
    subjects: Sequence[str]
    left_out: Sequence[str]  # tasks

    @property
    def images(self) -> dict[str, list[str]]:
        """The tasks by their test images."""
        found: dict[str, list[str]] = {}
        for task in self.towers:
            found.setdefault(image_set_of_task(task), []).append(task)
        return found

    def pairs(self) -> Iterator[Pair]:
        """Yield each task with two subjects and the second's difference from the first; five paired seeds or more."""
        for task, points in self.towers.items():
            for base, other in combinations(self.subjects, 2):
                found = estimate_paired_over_seeds(points[base].by_seed(), points[other].by_seed())
                if found is not None and found.low is not None:
                    yield task, base, other, found

    def mean_gain_over_paired_seeds(self, base: str, other: str) -> MeanOverTasks | None:
        """Estimate other - base over test images and common seeds; None without a common seed."""
        answers = {
            (task, subject): self.towers[task][subject].by_seed() for task in self.towers for subject in (base, other)
        }
        seeds = set.intersection(*({*of} for of in answers.values()))

        def gain(task: str, seed: int | None) -> float:
            return float(np.mean(answers[task, other][seed]) - np.mean(answers[task, base][seed]))

        rows = [
            [fmean(gain(task, seed) for task in tasks) for tasks in self.images.values()]
            for seed in sorted(seeds, key=str)
        ]
        return estimate_over_tasks(rows) if rows else None

    def mean_accuracy(self, subject: str) -> float:
        return fmean(
            fmean(self.towers[task][subject].accuracy.value for task in tasks) for tasks in self.images.values()
        )


def _build(page: PageContext) -> Sequence[Block] | None:
    comparison = page.comparison
    answers = whole_task_scores(comparison)
    budget = next(iter(answers.headline_budgets), "")
    profile = _collect(answers, budget)
    if len(profile.subjects) < 2 or len(profile.towers) < 2:  # noqa: PLR2004 - nothing to rank, or a single task
        return None
    pairs, tables = list(profile.pairs()), dict[str, Table]()
    if len(profile.images) >= TASKS_FOR_INTERVAL:
        tables["mean-over-tasks.csv"] = _mean_table(comparison, profile)
    if pairs:
        tables["ranks.csv"] = _rank_table(comparison, profile, pairs)
    if not tables:
        return None
    blocks: list[Block] = [Text(_describe(profile, budget, has_ranks=bool(pairs)), "protocol"), *tables.values()]
    return [*blocks, *(Download(name, table.title, table.to_csv()) for name, table in tables.items())]


SECTION = Section("tasks", "All tasks together", "All tasks", _build)


def _collect(answers: WholeTaskScores, budget: str) -> _Profile:
    """Return the towers of a budget on the tasks on which all of them were scored, by each task's main protocol."""
    towers = {
        task: {point.subject: point for point in towers_at_budget(answers.main_points(task), budget)}
        for task in answers.tasks
    }
    subjects = list(dict.fromkeys(subject for points in towers.values() for subject in points))
    whole = {task: points for task, points in towers.items() if len(points) == len(subjects)}
    return _Profile(whole, subjects, [task for task in towers if task not in whole])


def _describe(profile: _Profile, budget: str, *, has_ranks: bool) -> str:
    found = [f"Towers at {budget} on {pluralize(len(profile.towers), 'task')}."]
    if profile.left_out:
        found.append(f"Not all of them were scored on {join_words(profile.left_out)}, which is left out.")
    if not has_ranks:
        found.append(f"Methods are not ranked: that needs {SEEDS_FOR_RANKING} paired seeds.")
    if len(profile.images) < TASKS_FOR_INTERVAL:
        images = pluralize(len(profile.images), "set of test images", "sets of test images")
        found.append(
            f"The tasks are on {images}; a mean over tasks needs {TASKS_FOR_INTERVAL}: add others with --task."
        )
    return " ".join(found)


def _mean_table(comparison: ComparisonRecords, profile: _Profile) -> Table:
    base = next((subject for subject in profile.subjects if subject == comparison.base), profile.subjects[0])
    shared = [join_words(tasks) for tasks in profile.images.values() if len(tasks) > 1]
    columns = [
        Column.text("features"),
        Column("mean accuracy", f"over {len(profile.images)} tasks"),
        Column("mean difference", f"from {comparison.label(base)}, {INTERVAL}"),
        Column("smallest difference", f"with a power of {format_percent(POWER, 0)}"),
    ]
    rows = []
    for subject in profile.subjects:
        found = None if subject == base else profile.mean_gain_over_paired_seeds(base, subject)
        why = "this is the base" if subject == base else "no training seed in common with the base"
        difference, smallest = (
            Cell.estimate(found.mean if found else None, format_accuracy_gain, why),
            Cell.not_applicable(why),
        )
        if found and found.smallest is not None:
            smallest = Cell.of(found.smallest, format_accuracy)
            difference = replace(difference, note=f"{difference.note}; {found.mean.over}")
        accuracy = Cell.of(profile.mean_accuracy(subject), format_accuracy)
        rows.append([subject_name_cell(comparison, subject), accuracy, difference, smallest])
    note = MEAN_NOTE.format(
        shared=f" Tasks on the same test images count as one: {'; '.join(shared)}." if shared else ""
    )
    return Table.of_rows("Mean over all tasks", columns, rows, note)


def _rank_table(comparison: ComparisonRecords, profile: _Profile, pairs: Sequence[Pair]) -> Table:
    columns = [Column.text("features"), *map(Column, profile.towers), *(Column(name, COUNTED) for name in OUTCOMES)]
    outcomes = {subject: {task: Counter[str]() for task in profile.towers} for subject in profile.subjects}
    for task, base, other, found in pairs:
        low, high = found.low or 0.0, found.high or 0.0
        outcomes[other][task]["above" if low > 0 else "below" if high < 0 else "not apart"] += 1
        outcomes[base][task]["below" if low > 0 else "above" if high < 0 else "not apart"] += 1
    others = len(profile.subjects) - 1
    rows = []
    for subject, by_task in outcomes.items():
        total = sum(by_task.values(), Counter[str]())
        ranks = [_rank_cell(of, others) for of in by_task.values()]
        rows.append([subject_name_cell(comparison, subject), *ranks, *(Cell.of(total[name]) for name in OUTCOMES)])
    note = RANK_NOTE.format(number=pluralize(len(pairs), "difference"), chance=f"{len(pairs) * (1 - CONFIDENCE):.1f}")
    return Table.of_rows("Rank on every task", columns, rows, note)


def _rank_cell(outcomes: Counter[str], others: int) -> Cell:
    """Return the span of places of a method among others; a dash where it has no interval against some of them."""
    if outcomes.total() < others:
        return Cell.not_applicable(f"fewer than {SEEDS_FOR_RANKING} seeds in common with all others")
    first, last = 1 + outcomes["below"], 1 + others - outcomes["above"]
    return Cell(f"{first}" if first == last else f"{first} to {last}", value=first, interval=(first, last))
