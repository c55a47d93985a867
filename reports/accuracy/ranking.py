"""The sentences on accuracy in the page's answer; methods are ranked only from five training seeds on."""

from collections.abc import Sequence

from markupsafe import Markup

from bench.catalog import RANDOM_INIT
from bench.record import Transfer
from bench.statistics import SEEDS_FOR_RANKING, Estimate, difference_verdict, estimate_paired_over_seeds
from reports.accuracy.scores import (
    PROBE,
    Scored,
    ScorePoint,
    answered_tasks,
    answering,
    at_budget,
    fewest_seeds,
    points,
)
from reports.render.formats import NBSP, accuracy, gain, span
from reports.render.frames import ComparisonRecords

INTERVAL = f"95{NBSP}% interval"
MOST_TOLD = 4  # experiments beside the first that a sentence names


def accuracy_sentences(comparison: ComparisonRecords, answers: Sequence[Scored]) -> list[Markup]:
    """Report the linear probe of the first task at each budget of the question, and the ranking."""
    if not answers and any(transfer.scores or transfer.metrics for _, transfer in comparison.of(Transfer)):
        return [Markup('Accuracies are listed under <a href="#learned">Few labels, other tasks, other heads</a>.')]
    if all(one.is_reference for one in answers):
        return [Markup("No tower was scored in this comparison, so it gives no accuracy.")]
    found = _lead_points(answers)
    sentences: list[Markup] = []
    for budget in answering(answers):
        if rows := at_budget(found, budget):
            sentences.append(_budget_sentence(comparison, budget, rows, [] if sentences else _references(found)))
    if not sentences:
        last = max(point.images for point in found)
        sentences = [_budget_sentence(comparison, f"{last:,} images", [p for p in found if p.images == last], [])]
    scope = Markup("On {} by {}: ").format(answered_tasks(answers)[0], found[0].runs[0].score.protocol)
    return [scope + Markup("; ").join(sentences) + Markup(". ") + _standing(comparison, answers, found)]


def _budget_sentence(
    comparison: ComparisonRecords, budget: str, rows: Sequence[ScorePoint], references: Sequence[tuple[str, ScorePoint]]
) -> Markup:
    first = lead_of(comparison, [point.subject for point in rows])
    lead, *others = sorted(rows, key=lambda point: point.subject != first)
    clauses = [
        Markup("{}'s <strong>{}</strong>").format(comparison.label(point.subject), accuracy(point.accuracy.value))
        for point in others[:MOST_TOLD]
    ]
    clauses += the_rest(len(others) - MOST_TOLD, "accuracy")
    clauses += [Markup("{} {}").format(name, accuracy(point.accuracy.value)) for name, point in references]
    images = {point.images for point in rows}
    size = f" ({images.pop():,} images)" if len(images) == 1 else ""
    head = Markup("at {}{} {}'s tower scores <strong>{}</strong>").format(
        budget, size, comparison.label(lead.subject), accuracy(lead.accuracy.value)
    )
    return Markup(", ").join([head, *clauses])


def _standing(comparison: ComparisonRecords, answers: Sequence[Scored], found: Sequence[ScorePoint]) -> Markup:
    """Rank the first experiment where the seeds allow it; `other_rankings` has the others."""
    seeds, tests = fewest_seeds(answers), len(found[0].runs[0].score.correct)
    if seeds == 1:
        return Markup("{} test images; <strong>one seed: no ranking.</strong>").format(f"{tests:,}")
    if seeds < SEEDS_FOR_RANKING:
        return Markup("Means over {} seeds; <strong>under {} paired seeds: no ranking.</strong>").format(
            seeds, SEEDS_FOR_RANKING
        )
    sentences = _rankings(comparison, answers, found)
    first = next(iter(sentences), Markup("No two towers have {} seeds in common.").format(SEEDS_FOR_RANKING))
    return Markup("Means over {} seeds. {}").format(seeds, first)


def _rankings(comparison: ComparisonRecords, answers: Sequence[Scored], found: Sequence[ScorePoint]) -> list[Markup]:
    """Compare each tower with the base over their common seeds, at every budget of the question."""
    clauses: dict[str, list[Markup]] = {}
    for budget in answering(answers):
        rows = at_budget(found, budget)
        base = next((point for point in rows if point.subject == comparison.base), None)
        for other in rows:
            if base is None or other is base:
                continue
            if (difference := estimate_paired_over_seeds(base.by_seed(), other.by_seed())) is not None:
                clauses.setdefault(other.subject, []).append(_verdict(comparison, budget, difference))
    first = lead_of(comparison, list(clauses)) if clauses else ""
    return [
        Markup("{} is {}.").format(comparison.label(subject), Markup("; ").join(clauses[subject]))
        for subject in sorted(clauses, key=lambda subject: subject != first)
    ]


def _verdict(comparison: ComparisonRecords, budget: str, found: Estimate) -> Markup:
    assert found.low is not None
    assert found.high is not None
    base, verdict = comparison.label(comparison.base or ""), difference_verdict(found)
    if verdict == "not distinguishable":
        words = Markup("not distinguishable from {}").format(base)
    else:
        words = Markup("<strong>{} than {}</strong>").format(verdict, base)
    interval = f"{INTERVAL} {span(found.low, found.high, gain)} over {found.over.replace(' ', ' paired ')}"
    return words + f" at {budget} ({gain(found.value)}, {interval})"


def other_rankings(comparison: ComparisonRecords, answers: Sequence[Scored]) -> list[Markup]:
    """Report the rankings beside that of the first experiment."""
    if fewest_seeds(answers) < SEEDS_FOR_RANKING:
        return []
    found = _lead_points(answers)
    rest = _rankings(comparison, answers, found)[1:]
    if not rest:
        return []
    head = Markup("<strong>The other experiments on {}.</strong> {} Intervals are not adjusted for their number.")
    return [head.format(found[0].runs[0].score.task, Markup(" ").join(rest))]


def _lead_points(answers: Sequence[Scored]) -> list[ScorePoint]:
    """Return the points of the first task by the linear probe, or by the first protocol where there is none."""
    task = answered_tasks(answers)[0]
    return points(answers, task, PROBE) or points(answers, task, answers[0].score.protocol)


def _references(found: Sequence[ScorePoint]) -> list[tuple[str, ScorePoint]]:
    names = {RANDOM_INIT: "the random-init baseline"}
    return [(names.get(point.subject, point.subject), point) for point in found if point.is_reference]


def the_rest(number: int, section: str) -> list[Markup]:
    """Link to the section with the experiments that a sentence leaves out."""
    return [Markup('<a href="#{}">{} more below</a>').format(section, number)] if number > 0 else []


def lead_of(comparison: ComparisonRecords, names: Sequence[str]) -> str:
    """Return the experiment that the answer begins with: CatLIP's if there is one, else the first beside the base."""
    catlip = [name for name in names if comparison.experiments[name].method == "catlip"]
    others = [name for name in names if name != comparison.base]
    return (catlip or others or list(names))[0]
