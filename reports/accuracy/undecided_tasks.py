"""What it would take to tell two towers apart on a task, and which towers are no better than untrained ones."""

from collections.abc import Iterator
from statistics import fmean

import numpy as np
from markupsafe import Markup

from bench.interfaces.sections import ComparisonView
from bench.records.record import Training
from bench.statistics.accuracies import (
    MIN_SEEDS_FOR_RANKING,
    POWER,
    list_paired_differences,
    paired_differences_needed,
)
from bench.statistics.ratios import ALPHA
from bench.tables.formats import (
    format_count,
    format_duration,
    format_percent,
    format_signed_accuracy_difference,
    join_with_and,
)
from bench.transfer.subject_scores import (
    FullLabelScores,
    TowerOrReferenceAccuracy,
    select_towers_at_budget,
)
from reports.accuracy.ranking import choose_answer_budget, choose_lead_experiment

MAX_TASKS = 2  # number of tasks that are described
UNTRAINED = (
    "On {task} {budget}, {towers} cannot be told from an untrained tower: such towers rank nothing."
)
NEEDED = Markup(
    "To tell {lead} from {base} on {task}, where they differ by {difference}, takes at least {seeds} training seeds of "
    "each on {images} images{time}, and {test_images} test images (there are {num_test}): a paired t test at p ≤ "
    "{alpha} with a power of {power}, {basis}."
)
LOWER_BOUND = "a lower bound from the binomial spread over the test images of one seed"


def describe_undecided_tasks(comparison: ComparisonView, scores: FullLabelScores) -> Iterator[str]:
    """Yield, for the first tasks, which towers are like untrained ones, and what would tell the others apart."""
    if comparison.is_smoke_test or not scores.budgets:
        return
    budget = choose_answer_budget(comparison, scores) or scores.budgets[0]
    for task in scores.tasks[:MAX_TASKS]:
        towers = select_towers_at_budget(scores.main_accuracies(task), budget)
        untrained = []  # whose gain over the random-init baseline may be none
        for name, tower in towers.items():
            gain = tower.gain
            if gain is not None and gain.low is not None and gain.low <= 0:
                untrained.append(name)
        if untrained:
            names = join_with_and([comparison.short_label(name) for name in untrained])
            yield UNTRAINED.format(task=task, budget=budget, towers=names)
        base = towers.pop(comparison.base or "", None)
        if base is None or not towers:
            continue
        lead = towers[choose_lead_experiment(comparison, list(towers))]
        if base.subject in untrained and lead.subject in untrained:
            continue
        sentence = _describe_seeds_needed(comparison, task, base, lead)
        if sentence:
            yield sentence


def _describe_seeds_needed(
    comparison: ComparisonView,
    task: str,
    base: TowerOrReferenceAccuracy,
    lead: TowerOrReferenceAccuracy,
) -> Markup:
    """Say how many seeds, minutes and test images would tell two towers apart; empty if there are as many."""
    differences = list_paired_differences(base.correct_by_seed(), lead.correct_by_seed())
    if not differences or np.size(differences[0]) == 1:
        return Markup()
    table = np.array(differences)  # (seeds, test images)
    num_seeds, num_test = table.shape
    mean = float(table.mean())
    deviation_of_items = float(table.mean(axis=0).std(ddof=1))
    test_images = paired_differences_needed(mean, deviation_of_items)
    seeds = MIN_SEEDS_FOR_RANKING
    basis = LOWER_BOUND
    if num_seeds > 1:
        deviation_of_seeds = float(table.mean(axis=1).std(ddof=1))
        seeds = max(seeds, paired_differences_needed(mean, deviation_of_seeds))
        basis = f"from the spread over these {num_seeds} seeds and over test images"
    if seeds <= num_seeds and test_images <= num_test:
        return Markup()
    seconds = [
        training.seconds
        for experiment, training in comparison.experiments_and_contents_of(Training)
        if experiment.name in (base.subject, lead.subject)
    ]
    time = ""
    if seconds:
        needed_seconds = 2 * seeds * fmean(seconds)
        time = f", about {format_duration(needed_seconds)} of training here"
    images = dict.fromkeys(format_count(tower.images_seen) for tower in (base, lead))
    return NEEDED.format(
        task=task,
        lead=comparison.short_label(lead.subject),
        base=comparison.short_label(base.subject),
        difference=format_signed_accuracy_difference(mean),
        seeds=format_count(seeds),
        images=join_with_and(list(images)),
        time=time,
        test_images=format_count(test_images),
        num_test=format_count(num_test),
        alpha=ALPHA,
        power=format_percent(POWER, 0),
        basis=basis,
    )
