"""The answer's sentences on accuracy: figures of the first task, and a ranking only where the seeds allow one."""

from collections.abc import Sequence

from markupsafe import Markup

from bench.record import Transfer
from reports.accuracy.scores import (
    FLOOR,
    PROBE,
    SEEDS_FOR_RANKING,
    Paired,
    Point,
    Scored,
    answering,
    at_budget,
    fewest_seeds,
    paired,
    points,
    tasks,
)
from reports.render.formats import NBSP, accuracy, gain, span
from reports.render.frames import Comparison

INTERVAL = f"95{NBSP}% interval"
MOST_TOLD = 4  # experiments beside the first that a sentence names


def accuracy_sentences(comparison: Comparison, answers: Sequence[Scored]) -> list[Markup]:
    """Tell the first task's linear probe at each budget that two budgets differ in; rank only from five seeds on."""
    trained = [one for one in answers if not one.is_reference]
    if not answers and any(transfer.scores or transfer.metrics for _, transfer in comparison.of(Transfer)):
        return [
            Markup('What the towers know stands under <a href="#learned">Few labels, other tasks, other heads</a>.')
        ]
    if not trained:
        return [Markup("No tower was scored in this comparison: it says nothing of accuracy.")]
    found = _lead_points(answers)
    told: list[Markup] = []
    for budget in answering(answers):
        rows = at_budget(found, budget)
        if rows:
            told.append(_budget_sentence(comparison, budget, rows, [] if told else _references(found)))
    if not told:
        last = max(point.images for point in found)
        told = [_budget_sentence(comparison, f"{last:,} images", [p for p in found if p.images == last], [])]
    scope = Markup("On {} by {}: ").format(tasks(answers)[0], found[0].runs[0].score.protocol)
    return [scope + Markup("; ").join(told) + Markup(". ") + _standing(comparison, answers, found)]


def _budget_sentence(
    comparison: Comparison, budget: str, rows: Sequence[Point], references: Sequence[tuple[str, Point]]
) -> Markup:
    first = lead_of(comparison, [point.subject for point in rows])
    ordered = sorted(rows, key=lambda point: point.subject != first)
    clauses = [
        Markup("{} <strong>{}</strong>").format(_possessive(comparison.label(point.subject)), _told(point))
        for point in ordered[1 : 1 + MOST_TOLD]
    ]
    clauses += the_rest(len(ordered) - 1 - MOST_TOLD, "accuracy")
    clauses += [Markup("{} {}").format(name, _told(point)) for name, point in references]
    images = {point.images for point in rows}
    size = f" ({images.pop():,} images)" if len(images) == 1 else ""
    head = Markup("at {}{} {} tower scores <strong>{}</strong>").format(
        budget, size, _possessive(comparison.label(ordered[0].subject)), _told(ordered[0])
    )
    return head + Markup("").join(Markup(", {}").format(clause) for clause in clauses)


def _standing(comparison: Comparison, answers: Sequence[Scored], found: Sequence[Point]) -> Markup:
    """Say what may be concluded from this number of seeds: of the first experiment here, of the others in the notes."""
    seeds, tests = fewest_seeds(answers), len(found[0].runs[0].score.correct)
    if seeds == 1:
        return Markup("{} test images; <strong>one seed: no ranking.</strong>").format(f"{tests:,}")
    if seeds < SEEDS_FOR_RANKING:
        return Markup("Means over {} seeds; <strong>under {} paired seeds: no ranking.</strong>").format(
            seeds, SEEDS_FOR_RANKING
        )
    told = _rankings(comparison, answers, found)
    first = next(iter(told.values()), Markup("No two towers have {} seeds in common.").format(SEEDS_FOR_RANKING))
    return Markup("Means over {} seeds. {}").format(seeds, first)


def _rankings(comparison: Comparison, answers: Sequence[Scored], found: Sequence[Point]) -> dict[str, Markup]:
    """Compare each tower with the base's over their common seeds, at every budget."""
    clauses: dict[str, list[Markup]] = {}
    for budget in answering(answers):
        rows = at_budget(found, budget)
        base = next((point for point in rows if point.subject == comparison.base), None)
        for other in rows:
            pair = paired(base, other) if base is not None and other is not base else None
            if pair is not None:
                clauses.setdefault(other.subject, []).append(_verdict(comparison, budget, pair))
    if not clauses:
        return {}
    first = lead_of(comparison, list(clauses))
    return {
        subject: Markup("{} is {}.").format(comparison.label(subject), Markup("; ").join(clauses[subject]))
        for subject in sorted(clauses, key=lambda subject: subject != first)
    }


def _verdict(comparison: Comparison, budget: str, pair: Paired) -> Markup:
    between, base = pair.difference, comparison.label(comparison.base or "")
    if between.low <= 0 <= between.high:
        verdict = Markup("not to be told from {} at {}").format(base, budget)
    else:
        word = "better" if between.value > 0 else "worse"
        verdict = Markup("<strong>{} than {}</strong> at {}").format(word, base, budget)
    ends = span(between.low, between.high, gain)
    return verdict + f" ({gain(between.value)}, {INTERVAL} {ends} over {pair.seeds} paired seeds)"


def other_rankings(comparison: Comparison, answers: Sequence[Scored]) -> list[Markup]:
    """Tell the rankings that the lead leaves out."""
    if fewest_seeds(answers) < SEEDS_FOR_RANKING:
        return []
    found = _lead_points(answers)
    rest = list(_rankings(comparison, answers, found).values())[1:]
    if not rest:
        return []
    return [
        Markup(
            "<strong>The others on {}.</strong> {} Each interval stands alone: it is not widened for their number."
        ).format(found[0].runs[0].score.task, Markup(" ").join(rest))
    ]


def _lead_points(answers: Sequence[Scored]) -> list[Point]:
    """Return what the answer tells: the first task's linear probe."""
    task = tasks(answers)[0]
    return points(answers, task, PROBE) or points(answers, task, answers[0].score.protocol)


def _references(found: Sequence[Point]) -> list[tuple[str, Point]]:
    names = {FLOOR: "an untrained tower"}
    return [(names.get(point.subject, point.subject), point) for point in found if point.is_reference]


def _told(point: Point) -> str:
    return accuracy(point.accuracy.value)


def the_rest(number: int, section: str) -> list[Markup]:
    """Say where those are that a sentence leaves out."""
    return [Markup('<a href="#{}">{} more below</a>').format(section, number)] if number > 0 else []


def lead_of(comparison: Comparison, names: Sequence[str]) -> str:
    """Return which experiment the answer begins with: CatLIP's where there is one, else the first beside the base."""
    catlip = [name for name in names if comparison.experiments[name].method == "catlip"]
    others = [name for name in names if name != comparison.base]
    return (catlip or others or list(names))[0]


def _possessive(label: str) -> str:
    return f"{label}'s"
