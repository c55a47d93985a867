"""What it would take to tell two towers apart on a task, and which towers are no better than untrained ones."""

from collections.abc import Iterator
from statistics import fmean

import numpy as np
from markupsafe import Markup

from bench.interfaces.sections import ComparisonRecords
from bench.records.record import Training
from bench.statistics.accuracies import (
    MIN_SEEDS_FOR_RANKING,
    POWER,
    repetitions_needed,
)
from bench.statistics.ratios import ALPHA
from bench.tables.formats import (
    format_accuracy_gain,
    format_count,
    format_duration,
    format_percent,
    join_with_and,
)
from bench.transfer.subject_scores import FullLabelScores, SubjectAccuracy, select_towers_at_budget
from reports.accuracy.ranking import headline_experiment, question_budget

MAX_TASKS = 2  # of which the page says it
UNTRAINED = (
    "On {task} {budget}, {towers} cannot be told from an untrained tower: such towers rank nothing."
)
NEEDED = Markup(
    "To tell {lead} from {base} on {task}, where they differ by {difference}, takes at least {seeds} training seeds of "
    "each on {images} images{time}, and {test_images} test images (there are {num_test}): a paired t test at p ≤ "
    "{alpha} with a power of {power}, {basis}."
)
LOWER_BOUND = "a lower bound from the binomial spread over the test images of one seed"


def describe_needs(comparison: ComparisonRecords, scores: FullLabelScores) -> Iterator[str]:
    """Yield a sentence or two for the first tasks: towers like untrained ones, and what would tell the others apart."""
    if comparison.is_smoke_test or not scores.budgets:
        return
    budget = question_budget(comparison, scores) or scores.budgets[0]
    for task in scores.tasks[:MAX_TASKS]:
        towers = select_towers_at_budget(scores.main_accuracies(task), budget)
        untrained = [name for name, tower in towers.items() if _is_like_untrained(tower)]
        if untrained:
            names = join_with_and([comparison.label(name) for name in untrained])
            yield UNTRAINED.format(task=task, budget=budget, towers=names)
        base = towers.pop(comparison.base or "", None)
        if base is None or not towers:
            continue
        lead = towers[headline_experiment(comparison, list(towers))]
        if not {base.subject, lead.subject} <= {*untrained}:
            yield _describe_need(comparison, task, base, lead)


def _is_like_untrained(tower: SubjectAccuracy) -> bool:
    """Return whether the gain over the random-init baseline may be none."""
    return tower.gain is not None and tower.gain.low is not None and tower.gain.low <= 0


def _describe_need(
    comparison: ComparisonRecords, task: str, base: SubjectAccuracy, lead: SubjectAccuracy
) -> Markup:
    """Say how many seeds, minutes and test images would tell two towers apart; empty if there are as many."""
    base_answers = base.correct_by_seed()
    differences = []
    for seed, answers in lead.correct_by_seed().items():
        if seed in base_answers and np.size(answers) == np.size(base_answers[seed]):
            differences.append(answers - base_answers[seed])
    if not differences or np.size(differences[0]) == 1:
        return Markup()
    table = np.array(differences)  # (seeds, test images)
    num_seeds, num_test = table.shape
    mean = float(table.mean())
    test_images = repetitions_needed(mean, float(table.mean(axis=0).std(ddof=1)))
    seeds = MIN_SEEDS_FOR_RANKING
    basis = LOWER_BOUND
    if num_seeds > 1:
        seeds = max(seeds, repetitions_needed(mean, float(table.mean(axis=1).std(ddof=1))))
        basis = f"from the spread over these {num_seeds} seeds and over test images"
    if seeds <= num_seeds and test_images <= num_test:
        return Markup()
    names = {base.subject, lead.subject}
    seconds = [run.seconds for tower, run in comparison.runs_of(Training) if tower.name in names]
    time = ""
    if seconds:
        time = f", about {format_duration(2 * seeds * fmean(seconds))} of training here"
    images = dict.fromkeys(format_count(tower.images_seen) for tower in (base, lead))
    return NEEDED.format(
        task=task,
        lead=comparison.label(lead.subject),
        base=comparison.label(base.subject),
        difference=format_accuracy_gain(mean),
        seeds=format_count(seeds),
        images=join_with_and(list(images)),
        time=time,
        test_images=format_count(test_images),
        num_test=format_count(num_test),
        alpha=ALPHA,
        power=format_percent(POWER, 0),
        basis=basis,
    )
