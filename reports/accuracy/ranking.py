"""The page's answer on accuracy, and what the towers learned; methods are ranked only from five training seeds on."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from markupsafe import Markup

from bench.experiment.experiments import HEADLINE
from bench.interfaces.sections import ComparisonRecords
from bench.records.record import Training, Transfer
from bench.statistics.accuracies import (
    SEEDS_FOR_RANKING,
    Estimate,
    JudgedAccuracyDifference,
    estimate_paired_over_seeds,
)
from bench.statistics.ratios import ALPHA
from bench.tables.formats import (
    INTERVAL,
    format_accuracy,
    format_accuracy_gain,
    format_bracketed_interval,
    format_interval,
    format_p_value,
    join_words,
    pluralize,
)
from bench.transfer.pareto import UNTRAINED
from bench.transfer.subject_scores import ScorePoint, WholeTaskScores, is_upper_bound, towers_at_budget
from reports.render.frames import group_by

MOST_NAMED = 4  # experiments that a sentence names
AFTER = {"equal images": "after equally many images", "equal device seconds": "after equal time on the device"}
Key = tuple[object, ...]  # of a claim
Claims = Mapping[Key, JudgedAccuracyDifference]  # all of the page


def ranking_differences(comparison: ComparisonRecords, answers: WholeTaskScores) -> dict[Key, Estimate]:
    """Return each tower's difference from the base on the first task, by experiment and budget of the question.

    Both towers have five training seeds or more in common.
    """
    found = _first_task_points(answers) if answers else []
    differences: dict[Key, Estimate] = {}
    for budget in answers.headline_budgets:
        towers = towers_at_budget(found, budget)
        base = next((point for point in towers if point.subject == comparison.base), None)
        for other in towers:
            if base is not None and other is not base:
                difference = estimate_paired_over_seeds(base.by_seed(), other.by_seed())
                if difference is not None:
                    differences[other.subject, budget] = difference
    return differences


def accuracy_answer(comparison: ComparisonRecords, answers: WholeTaskScores, claims: Claims) -> list[Markup]:
    """Compare the first experiment's tower with the base's, or say that it cannot be told; nothing without both."""
    if (pair := _headline_pair(comparison, answers)) is None:
        return []
    budget, base, lead = pair
    if (claim := claims.get((lead.subject, budget))) is not None:
        return _ranking_sentences(comparison, answers, {(lead.subject, budget): claim})
    intervals = [one for point in (lead, base) if (one := format_interval(point.accuracy, format_accuracy))]
    text = Markup(
        "It cannot be told whose image tower is more accurate {}: on {} {}'s scores {} and {}'s {} "
        "<small>({}over {}; {}, a ranking needs {}).</small>"
    )
    return [
        text.format(
            _after(budget),
            answers.tasks[0],
            comparison.label(lead.subject),
            format_accuracy(lead.accuracy.value),
            comparison.label(base.subject),
            format_accuracy(base.accuracy.value),
            f"{INTERVAL} intervals {join_words(intervals)} " if intervals else "",
            lead.accuracy.over,
            pluralize(len(lead.by_seed().keys() & base.by_seed().keys()), "paired seed"),
            SEEDS_FOR_RANKING,
        )
    ]


def _headline_pair(
    comparison: ComparisonRecords, answers: WholeTaskScores
) -> tuple[str, ScorePoint, ScorePoint] | None:
    """Return the last budget of the question, with the towers of the base and of the first experiment beside it."""
    for budget in answers.headline_budgets[-1:]:
        towers = {point.subject: point for point in towers_at_budget(_first_task_points(answers), budget)}
        if comparison.base in towers and len(towers) > 1:
            return budget, towers.pop(comparison.base), towers[headline_experiment(comparison, [*towers])]
    return None


def gain_sentences(comparison: ComparisonRecords, answers: WholeTaskScores) -> list[Markup]:
    """Report what training added to the accuracy on the first task, and what features reach without any."""
    if not answers and any(transfer.scores or transfer.metrics for _, transfer in comparison.of(Transfer)):
        return [Markup('Accuracies are listed under <a href="#learned">Few labels, other tasks, other heads</a>.')]
    if all(one.is_reference for one in answers):
        return [Markup("No tower was scored in this comparison, so it gives no accuracy.")]
    found = _first_task_points(answers)
    budget = next(iter(answers.headline_budgets), "")
    trained = [point for point in found if not point.is_reference]
    last = max(point.images for point in trained)
    towers = towers_at_budget(found, budget) or [point for point in trained if point.images == last]
    first = headline_experiment(comparison, [point.subject for point in towers])
    shown = sorted(towers, key=lambda point: point.subject != first)[:MOST_NAMED]
    gains = {point.subject: point.gain for point in shown if point.gain is not None}
    has_gains = len(gains) == len(shown)
    what = "the gain over the untrained tower is" if has_gains else "accuracies are"
    write = format_accuracy_gain if has_gains else format_accuracy
    figures = gains if has_gains else {point.subject: point.accuracy for point in shown}
    clauses = [
        Markup("{} {}{}").format(comparison.label(subject), write(one.value), format_bracketed_interval(one, write))
        for subject, one in figures.items()
    ]
    clauses += link_to_omitted(len(towers) - len(shown), "accuracy")
    sentences = [
        Markup("On {} by {}, {}: {}.").format(
            answers.tasks[0], found[0].runs[0].score.protocol, what, Markup(", ").join(clauses)
        )
    ]
    if has_gains:
        sentences.append(_describe_gains_over_random_init(comparison, gains))
    sentences += _describe_samples(comparison)
    return [*sentences, *_describe_bounds(found)]


def _describe_bounds(points: Sequence[ScorePoint]) -> list[Markup]:
    """Return a sentence on the lower bounds of a task and one on its upper bounds, where they were scored."""
    lower_bounds = []
    upper_bounds = []
    for point in points:
        if point.is_reference:
            text = f"{format_accuracy(point.accuracy.value)} ({UNTRAINED.get(point.subject, point.subject)})"
            bounds = upper_bounds if is_upper_bound(point.subject) else lower_bounds
            bounds.append(text)
    sentences = []
    if lower_bounds:
        sentences.append(Markup("Lower bounds, without training, are {}.").format(join_words(lower_bounds)))
    if upper_bounds:
        sentences.append(Markup("Towers that are known to be good reach {}.").format(join_words(upper_bounds)))
    return sentences


def _describe_gains_over_random_init(comparison: ComparisonRecords, gains: Mapping[str, Estimate]) -> Markup:
    """Say whether the intervals of gains tell trained towers from untrained ones."""
    by_verdict = group_by(gains, lambda subject: _gain_verdict(gains[subject]))
    clauses = []
    for verdict, subjects in by_verdict.items():
        names = join_words([*map(comparison.label, subjects)])
        if verdict in ("better", "worse"):
            is_all = 1 < len(gains) == len(subjects)
            clauses.append(f"{'all' if is_all else names} {'are' if len(subjects) > 1 else 'is'} {verdict}")
        else:
            clauses.append(f"{names} {verdict}")
    return Markup("By these intervals, {}.").format("; ".join(clauses))


def _gain_verdict(gain: Estimate) -> str:
    if gain.low is None or gain.high is None:
        return "cannot be judged without an interval"
    if gain.low <= 0 <= gain.high:
        return "cannot be told from the untrained tower"
    return "better" if gain.low > 0 else "worse"


def _describe_samples(comparison: ComparisonRecords) -> list[Markup]:
    """Say how many samples the towers were trained on, and in how many passes; nothing where it is not recorded."""
    trained = {
        (found.num_samples, one.training.images)
        for one, found in comparison.runs(Training)
        if found.num_samples is not None
    }
    clauses = [
        f"{pluralize(samples, 'sample')} in {images / samples:,.1f} passes ({images:,} images)"
        for samples, images in sorted(trained)
    ]
    return [Markup("The trainings saw {}.").format(join_words(clauses[:MOST_NAMED]))] if clauses else []


def _ranking_sentences(comparison: ComparisonRecords, answers: WholeTaskScores, claims: Claims) -> list[Markup]:
    """Compare each tower with the base on the first task over their common seeds, at every budget of the question."""
    clauses: dict[str, list[Markup]] = {}
    for budget in answers.headline_budgets:
        for subject in comparison.experiments:
            if (claim := claims.get((subject, budget))) is not None:
                agreement = _count_agreeing_tasks(comparison, answers, subject, budget)
                clauses.setdefault(subject, []).append(_versus_base_clause(comparison, budget, claim, agreement))
    first = headline_experiment(comparison, list(clauses)) if clauses else ""
    return [
        Markup("On {}, {} is {}.").format(
            answers.tasks[0], comparison.label(subject), Markup("; ").join(clauses[subject])
        )
        for subject in sorted(clauses, key=lambda subject: subject != first)
    ]


def _count_agreeing_tasks(comparison: ComparisonRecords, answers: WholeTaskScores, subject: str, budget: str) -> str:
    """Return on how many tasks the difference from the base has the sign of that on the first task."""
    signs = []
    for task in answers.tasks:
        towers = {one.subject: one.by_seed() for one in towers_at_budget(answers.main_points(task), budget)}
        base, other = towers.get(comparison.base or "", {}), towers.get(subject, {})
        if gains := [np.mean(other[seed]) - np.mean(base[seed]) for seed in base if seed in other]:
            signs.append(np.sign(fmean(gains)))
    return f"same direction on {signs.count(signs[0])} of {pluralize(len(signs), 'task')}"


def _versus_base_clause(
    comparison: ComparisonRecords, budget: str, claim: JudgedAccuracyDifference, agreement: str
) -> Markup:
    base, found = comparison.label(comparison.base or ""), claim.difference
    if claim.verdict in ("better", "worse"):
        words = Markup("<strong>{} than {}</strong>").format(claim.verdict, base)
    else:
        words = Markup("not distinguishable from {}").format(base)
    over = found.over.replace(" seeds", " paired seeds")
    p = "" if claim.p is None else f"; adjusted p {format_p_value(claim.p)}"
    interval = f"{INTERVAL} interval {format_interval(found, format_accuracy_gain)} over {over}{p}"
    figures = Markup(" {} <small>({}, {}; {})</small>")
    return words + figures.format(_after(budget), format_accuracy_gain(found.value), interval, agreement)


def _after(budget: str) -> str:
    return AFTER.get(budget, f"at {budget}")


def rank_others(comparison: ComparisonRecords, answers: WholeTaskScores, claims: Claims) -> list[Markup]:
    """Report the rankings beside that of the answer, and their rule."""
    pair = _headline_pair(comparison, answers)
    answered = (pair[2].subject, pair[0]) if pair else None
    rest = _ranking_sentences(comparison, answers, {key: one for key, one in claims.items() if key != answered})
    if answered not in claims and not rest:
        return []
    head = Markup("<strong>Other rankings.</strong> ") if rest else Markup("")
    return [head + Markup(" ").join([*rest, describe_adjustment(claims)])]


def describe_adjustment(claims: Claims) -> str:
    """Return the rule by which one accuracy is called better than another."""
    number = sum(claim.p is not None for claim in claims.values())
    return (
        f"“Better” and “worse” need p ≤ {ALPHA}, adjusted by Holm’s method for all {number} differences of accuracies "
        "that this page judges; intervals are not adjusted. Tasks are no random sample, and a ranking is of its task."
    )


def _first_task_points(answers: WholeTaskScores) -> list[ScorePoint]:
    """Return the points of the first task by its main protocol."""
    return answers.main_points(answers.tasks[0])


def link_to_omitted(number: int, section: str) -> list[Markup]:
    """Link to the section with the experiments that a sentence leaves out."""
    return [Markup('<a href="#{}">{} more below</a>').format(section, number)] if number > 0 else []


def headline_experiment(comparison: ComparisonRecords, names: Sequence[str]) -> str:
    """Return the experiment that the answer begins with: the project's question, or else the first beside the base."""
    asked = [name for name in names if comparison.experiments[name].method == HEADLINE[-1]]
    others = [name for name in names if name != comparison.base]
    return (asked or others or list(names))[0]
