"""The page's answer on accuracy, and what the towers learned; methods are ranked only from five training seeds on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bench.experiment.experiments import HEADLINE
from bench.interfaces.catalog import REFERENCE_TOWER
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
from bench.transfer.subject_scores import (
    ScorePoint,
    WholeTaskScores,
    towers_at_budget,
)
from reports.render.frames import group_by

MOST_NAMED = 4  # experiments that a sentence names
AFTER = {
    "equal images": "after equally many images",
    "equal device seconds": "after equal time on the device",
}
Key = tuple[object, ...]  # of a claim
Claims = Mapping[Key, JudgedAccuracyDifference]  # all of the page


def ranking_differences(
    comparison: ComparisonRecords, answers: WholeTaskScores
) -> dict[Key, Estimate]:
    """Return each tower's difference from the base on the first task, by experiment and budget of the question.

    Both towers have five training seeds or more in common.
    """
    differences = dict[Key, Estimate]()
    for budget in answers.headline_budgets:
        towers = {
            point.subject: point for point in towers_at_budget(_first_task_points(answers), budget)
        }
        base = towers.pop(comparison.base or "", None)
        for subject, tower in towers.items():
            difference = (
                estimate_paired_over_seeds(base.by_seed(), tower.by_seed()) if base else None
            )
            if difference is not None:
                differences[subject, budget] = difference
    return differences


@dataclass(frozen=True, slots=True)
class HeadlinePair:
    """The two towers that the answer compares on the first task, at a budget of the page's question."""

    budget: str
    base: ScorePoint
    lead: ScorePoint

    @property
    def key(self) -> Key:
        return self.lead.subject, self.budget


def accuracy_answer(
    comparison: ComparisonRecords, answers: WholeTaskScores, claims: Claims
) -> list[Markup]:
    """Compare the first experiment's tower with the base's, or say that it cannot be told; nothing without both."""
    pair = _headline_pair(comparison, answers)
    if pair is None:
        return []
    if pair.key in claims:
        return _ranking_sentences(comparison, answers, {pair.key: claims[pair.key]})
    intervals = [
        format_interval(point.accuracy, format_accuracy) for point in (pair.lead, pair.base)
    ]
    interval_text = f"{INTERVAL} intervals {join_words(intervals)} " if all(intervals) else ""
    paired_seeds = pair.lead.by_seed().keys() & pair.base.by_seed().keys()
    text = Markup(
        "It cannot be told whose image tower is more accurate {}: on {} {}'s scores {} and {}'s {} "
        "<small>({}over {}; {}, a ranking needs {}).</small>"
    )
    return [
        text.format(
            _after(pair.budget),
            answers.tasks[0],
            comparison.label(pair.lead.subject),
            format_accuracy(pair.lead.accuracy.value),
            comparison.label(pair.base.subject),
            format_accuracy(pair.base.accuracy.value),
            interval_text,
            pair.lead.accuracy.over,
            pluralize(len(paired_seeds), "paired seed"),
            SEEDS_FOR_RANKING,
        )
    ]


def _headline_pair(comparison: ComparisonRecords, answers: WholeTaskScores) -> HeadlinePair | None:
    """Return the towers of the base and of the first experiment beside it, at the last budget of the question."""
    if not answers.headline_budgets:
        return None
    budget = answers.headline_budgets[-1]
    towers = {
        point.subject: point for point in towers_at_budget(_first_task_points(answers), budget)
    }
    if comparison.base not in towers or len(towers) == 1:
        return None
    base = towers.pop(comparison.base)
    return HeadlinePair(budget, base, towers[headline_experiment(comparison, list(towers))])


def gain_sentences(comparison: ComparisonRecords, answers: WholeTaskScores) -> list[Markup]:
    """Report what training added to the accuracy on the first task, and the bounds that it is compared with."""
    if not answers and any(
        transfer.scores or transfer.metrics for _, transfer in comparison.of(Transfer)
    ):
        return [
            Markup(
                'Accuracies are listed under <a href="#learned">Few labels, other tasks, other heads</a>.'
            )
        ]
    points = _first_task_points(answers) if answers else []
    towers = _headline_towers(answers, points)
    if not towers:
        return [Markup("No tower was scored in this comparison, so it gives no accuracy.")]
    first = headline_experiment(comparison, [point.subject for point in towers])
    shown = sorted(towers, key=lambda point: point.subject != first)[:MOST_NAMED]
    gains = {point.subject: point.gain for point in shown if point.gain is not None}
    has_gains = len(gains) == len(shown)
    title = "the gain over the untrained tower is" if has_gains else "accuracies are"
    write: Callable[[float], str] = format_accuracy_gain if has_gains else format_accuracy
    figures = gains if has_gains else {point.subject: point.accuracy for point in shown}
    clauses = []
    for subject, estimate in figures.items():
        interval = format_bracketed_interval(estimate, write)
        clauses.append(
            Markup("{} {}{}").format(comparison.label(subject), write(estimate.value), interval)
        )
    clauses += link_to_omitted(len(towers) - len(shown), "accuracy")
    protocol = answers.main_protocol(answers.tasks[0])
    sentence = Markup("On {} by {}, {}: {}.").format(
        answers.tasks[0], protocol, title, Markup(", ").join(clauses)
    )
    verdicts = [_describe_gains_over_random_init(comparison, gains)] if has_gains else []
    return [sentence, *verdicts, *_describe_samples(comparison), *_describe_bounds(points)]


def _headline_towers(answers: WholeTaskScores, points: Sequence[ScorePoint]) -> list[ScorePoint]:
    """Return the trained towers at the first budget, or the most trained ones where none was cooled down for it."""
    trained = [point for point in points if not point.is_reference]
    at_budget = (
        towers_at_budget(points, answers.headline_budgets[0]) if answers.headline_budgets else []
    )
    most_images = max((point.images for point in trained), default=0)
    return at_budget or [point for point in trained if point.images == most_images]


def _describe_bounds(points: Sequence[ScorePoint]) -> list[Markup]:
    """Return a sentence on the lower bounds of a task and one on its upper bounds, where they were scored."""
    lower_bounds = list[str]()
    upper_bounds = list[str]()
    for point in points:
        if point.is_reference:
            text = f"{format_accuracy(point.accuracy.value)} ({point.subject})"
            bounds = upper_bounds if point.subject == REFERENCE_TOWER else lower_bounds
            bounds.append(text)
    sentences = []
    if lower_bounds:
        sentences.append(
            Markup("Lower bounds, without training, are {}.").format(join_words(lower_bounds))
        )
    if upper_bounds:
        sentences.append(
            Markup("Towers that are known to be good reach {}.").format(join_words(upper_bounds))
        )
    return sentences


def _describe_gains_over_random_init(
    comparison: ComparisonRecords, gains: Mapping[str, Estimate]
) -> Markup:
    """Say whether the intervals of gains tell trained towers from untrained ones."""
    clauses = []
    for verdict, subjects in group_by(gains, lambda subject: _gain_verdict(gains[subject])).items():
        names = join_words([*map(comparison.label, subjects)])
        if verdict in ("better", "worse"):
            is_all = 1 < len(gains) == len(subjects)
            clauses.append(
                f"{'all' if is_all else names} {'are' if len(subjects) > 1 else 'is'} {verdict}"
            )
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
    trainings = set()
    for experiment, training in comparison.runs(Training):
        if training.num_samples is not None:
            trainings.add((training.num_samples, experiment.training.images))
    clauses = [
        f"{pluralize(samples, 'sample')} in {images / samples:,.1f} passes ({images:,} images)"
        for samples, images in sorted(trainings)
    ]
    return (
        [Markup("The trainings saw {}.").format(join_words(clauses[:MOST_NAMED]))]
        if clauses
        else []
    )


def _ranking_sentences(
    comparison: ComparisonRecords, answers: WholeTaskScores, claims: Claims
) -> list[Markup]:
    """Compare each tower with the base on the first task over their common seeds, at every budget of the question."""
    clauses = dict[str, list[Markup]]()
    for budget in answers.headline_budgets:
        for subject in comparison.experiments:
            if (subject, budget) in claims:
                clause = _versus_base_clause(comparison, budget, claims[subject, budget])
                clauses.setdefault(subject, []).append(clause)
    if not clauses:
        return []
    first = headline_experiment(comparison, list(clauses))
    sentences = []
    for subject in sorted(clauses, key=lambda subject: subject != first):
        text = Markup("; ").join(clauses[subject])
        sentences.append(
            Markup("On {}, {} is {}.").format(answers.tasks[0], comparison.label(subject), text)
        )
    return sentences


def _versus_base_clause(
    comparison: ComparisonRecords, budget: str, claim: JudgedAccuracyDifference
) -> Markup:
    base = comparison.label(comparison.base or "")
    difference = claim.difference
    if claim.verdict in ("better", "worse"):
        words = Markup("<strong>{} than {}</strong>").format(claim.verdict, base)
    else:
        words = Markup("not distinguishable from {}").format(base)
    over = difference.over.replace(" seeds", " paired seeds")
    p_value = "" if claim.p is None else f"; adjusted p {format_p_value(claim.p)}"
    interval = f"{INTERVAL} interval {format_interval(difference, format_accuracy_gain)} over {over}{p_value}"
    figures = Markup(" {} <small>({}, {})</small>")
    return words + figures.format(_after(budget), format_accuracy_gain(difference.value), interval)


def _after(budget: str) -> str:
    return AFTER.get(budget, f"at {budget}")


def rank_others(
    comparison: ComparisonRecords, answers: WholeTaskScores, claims: Claims
) -> list[Markup]:
    """Report the rankings beside the one in the answer, and their rule."""
    if not claims:
        return []
    pair = _headline_pair(comparison, answers)
    others = {key: claim for key, claim in claims.items() if pair is None or key != pair.key}
    sentences = _ranking_sentences(comparison, answers, others)
    head = Markup("<strong>Other rankings.</strong> ") if sentences else Markup("")
    return [head + Markup(" ").join([*sentences, _describe_adjustment(claims)])]


def _describe_adjustment(claims: Claims) -> str:
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
