"""The sentences on accuracy in the page's answer; methods are ranked only from five training seeds on."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from markupsafe import Markup

from bench.experiments import HEADLINE
from bench.formats import INTERVAL, bracket_interval, format_interval, p_value, pluralize, write_accuracy, write_gain
from bench.record import Transfer
from bench.sections import ComparisonRecords
from bench.statistics import (
    ALPHA,
    SEEDS_FOR_INTERVAL,
    SEEDS_FOR_RANKING,
    AccuracyDifference,
    Estimate,
    estimate_paired_over_seeds,
)
from reports.accuracy import scores
from reports.accuracy.pareto import UNTRAINED
from reports.accuracy.scores import ScorePoint, SubjectScore

MOST_NAMED = 4  # experiments beside the first that a sentence names
Key = tuple[object, ...]  # of a claim
Claims = Mapping[Key, AccuracyDifference]  # all of the page


def ranking_differences(comparison: ComparisonRecords, answers: Sequence[SubjectScore]) -> dict[Key, Estimate]:
    """Return each tower's difference from the base on the first task, by experiment and budget of the question.

    Both towers have five training seeds or more in common.
    """
    found = _first_task_points(answers) if answers else []
    differences: dict[Key, Estimate] = {}
    for budget in scores.headline_budgets(answers):
        towers = scores.towers_at_budget(found, budget)
        base = next((point for point in towers if point.subject == comparison.base), None)
        for other in towers:
            if base is not None and other is not base:
                difference = estimate_paired_over_seeds(base.by_seed(), other.by_seed())
                if difference is not None:
                    differences[other.subject, budget] = difference
    return differences


def accuracy_sentences(comparison: ComparisonRecords, answers: Sequence[SubjectScore], claims: Claims) -> list[Markup]:
    """Report the accuracy on the first task, by its main protocol, at each budget of the question, and the ranking."""
    if not answers and any(transfer.scores or transfer.metrics for _, transfer in comparison.of(Transfer)):
        return [Markup('Accuracies are listed under <a href="#learned">Few labels, other tasks, other heads</a>.')]
    if all(one.is_reference for one in answers):
        return [Markup("No tower was scored in this comparison, so it gives no accuracy.")]
    found = _first_task_points(answers)
    references = [point for point in found if point.is_reference]
    clauses: list[Markup] = []
    for budget in scores.headline_budgets(answers):
        if towers := scores.towers_at_budget(found, budget):
            clauses.append(_accuracies_clause(comparison, budget, towers, [] if clauses else references))
    if not clauses:
        last = max(point.images for point in found)
        clauses = [_accuracies_clause(comparison, f"{last:,} images", [p for p in found if p.images == last], [])]
    scope = Markup("On {} by {}: ").format(scores.scored_tasks(answers)[0], found[0].runs[0].score.protocol)
    return [scope + Markup("; ").join(clauses) + Markup(". ") + _lead_ranking(comparison, answers, found, claims)]


def _accuracies_clause(
    comparison: ComparisonRecords, budget: str, towers: Sequence[ScorePoint], references: Sequence[ScorePoint]
) -> Markup:
    first = lead_experiment(comparison, [point.subject for point in towers])
    lead, *others = sorted(towers, key=lambda point: point.subject != first)
    clauses = [
        Markup("{}'s <strong>{}</strong>{}").format(comparison.label(point.subject), *_accuracy_and_interval(point))
        for point in others[:MOST_NAMED]
    ]
    clauses += link_to_rest(len(others) - MOST_NAMED, "accuracy")
    clauses += [
        Markup("{} {}{}").format(UNTRAINED.get(point.subject, point.subject), *_accuracy_and_interval(point))
        for point in references
    ]
    images = {point.images for point in towers}
    size = f" ({images.pop():,} images)" if len(images) == 1 else ""
    head = Markup("at {}{} {}'s tower scores <strong>{}</strong>{}").format(
        budget, size, comparison.label(lead.subject), *_accuracy_and_interval(lead)
    )
    return Markup(", ").join([head, *clauses])


def _accuracy_and_interval(point: ScorePoint) -> tuple[str, str]:
    return write_accuracy(point.accuracy.value), bracket_interval(point.accuracy, write_accuracy)


def _lead_ranking(
    comparison: ComparisonRecords, answers: Sequence[SubjectScore], found: Sequence[ScorePoint], claims: Claims
) -> Markup:
    """Rank the first experiment where the seeds allow it; `rank_others` has the others."""
    seeds, tests = scores.fewest_seeds(answers), len(found[0].runs[0].score.correct)
    if seeds == 1:
        return Markup("{} intervals are over {} test images, <strong>one seed: no ranking.</strong>").format(
            INTERVAL, f"{tests:,}"
        )
    means = f"Means and {INTERVAL} intervals" if seeds >= SEEDS_FOR_INTERVAL else "Means"
    if seeds < SEEDS_FOR_RANKING:
        return Markup("{} over {} seeds; <strong>under {} paired seeds: no ranking.</strong>").format(
            means, seeds, SEEDS_FOR_RANKING
        )
    sentences = _ranking_sentences(comparison, answers, claims)
    first = next(iter(sentences), Markup("No two towers have {} seeds in common.").format(SEEDS_FOR_RANKING))
    return Markup("{} over {} seeds. {}").format(means, seeds, first)


def _ranking_sentences(comparison: ComparisonRecords, answers: Sequence[SubjectScore], claims: Claims) -> list[Markup]:
    """Compare each tower with the base on the first task over their common seeds, at every budget of the question."""
    clauses: dict[str, list[Markup]] = {}
    for budget in scores.headline_budgets(answers):
        for subject in comparison.experiments:
            if (claim := claims.get((subject, budget))) is not None:
                agreement = _count_agreeing_tasks(comparison, answers, subject, budget)
                clauses.setdefault(subject, []).append(_versus_base_clause(comparison, budget, claim, agreement))
    first = lead_experiment(comparison, list(clauses)) if clauses else ""
    return [
        Markup("On {}, {} is {}.").format(
            scores.scored_tasks(answers)[0], comparison.label(subject), Markup("; ").join(clauses[subject])
        )
        for subject in sorted(clauses, key=lambda subject: subject != first)
    ]


def _count_agreeing_tasks(
    comparison: ComparisonRecords, answers: Sequence[SubjectScore], subject: str, budget: str
) -> str:
    """Return on how many tasks the difference from the base has the sign of that on the first task."""
    signs = []
    for task in scores.scored_tasks(answers):
        towers = {
            one.subject: one.by_seed() for one in scores.towers_at_budget(scores.main_points(answers, task), budget)
        }
        base, other = towers.get(comparison.base or "", {}), towers.get(subject, {})
        if gains := [np.mean(other[seed]) - np.mean(base[seed]) for seed in base if seed in other]:
            signs.append(np.sign(fmean(gains)))
    return f"same direction on {signs.count(signs[0])} of {pluralize(len(signs), 'task')}"


def _versus_base_clause(
    comparison: ComparisonRecords, budget: str, claim: AccuracyDifference, agreement: str
) -> Markup:
    base, found = comparison.label(comparison.base or ""), claim.difference
    if claim.verdict == "not distinguishable":
        words = Markup("not distinguishable from {}").format(base)
    else:
        words = Markup("<strong>{} than {}</strong>").format(claim.verdict, base)
    over = found.over.replace(" seeds", " paired seeds")
    p = "" if claim.p is None else f"; adjusted p {p_value(claim.p)}"
    interval = f"{INTERVAL} interval {format_interval(found, write_gain)} over {over}{p}"
    return words + f" at {budget} ({write_gain(found.value)}, {interval}; {agreement})"


def rank_others(comparison: ComparisonRecords, answers: Sequence[SubjectScore], claims: Claims) -> list[Markup]:
    """Report the rankings beside that of the first experiment."""
    if scores.fewest_seeds(answers) < SEEDS_FOR_RANKING:
        return []
    rest = _ranking_sentences(comparison, answers, claims)[1:]
    if not rest:
        return []
    head = Markup("<strong>The other experiments.</strong> {} {}")
    return [head.format(Markup(" ").join(rest), describe_adjustment(claims))]


def describe_adjustment(claims: Claims) -> str:
    """Return the rule by which one accuracy is called better than another."""
    number = sum(claim.p is not None for claim in claims.values())
    return (
        f"“Better” and “worse” need p ≤ {ALPHA}, adjusted by Holm’s method for all {number} differences of accuracies "
        "that this page judges; intervals are not adjusted. Tasks are no random sample, and a ranking is of its task."
    )


def _first_task_points(answers: Sequence[SubjectScore]) -> list[ScorePoint]:
    """Return the points of the first task by its main protocol."""
    return scores.main_points(answers, scores.scored_tasks(answers)[0])


def link_to_rest(number: int, section: str) -> list[Markup]:
    """Link to the section with the experiments that a sentence leaves out."""
    return [Markup('<a href="#{}">{} more below</a>').format(section, number)] if number > 0 else []


def lead_experiment(comparison: ComparisonRecords, names: Sequence[str]) -> str:
    """Return the experiment that the answer begins with: the project's question, or else the first beside the base."""
    asked = [name for name in names if comparison.experiments[name].method == HEADLINE[-1]]
    others = [name for name in names if name != comparison.base]
    return (asked or others or list(names))[0]
