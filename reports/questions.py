"""What a reader asks after the answer: certainty, other sizes, what was learned, the time, and what to do next."""

from collections.abc import Sequence
from datetime import UTC, datetime
from math import fsum

from markupsafe import Markup

from bench.interfaces.sections import ComparisonRecords, Facts, PageContext
from bench.records.record import Record, Speed, Training
from bench.statistics.ratios import ALPHA, MIN_ROUNDS, SMALLEST_EFFECT
from bench.tables.formats import format_p_value, format_percent, format_ratio, format_seconds, pluralize
from bench.transfer.subject_scores import WholeTaskScores
from reports.accuracy.ranking import MOST_NAMED, gain_sentences, link_to_omitted
from reports.answer import headline_row, largest_batch_sentences
from reports.next_command import larger_scale_commands, next_command
from reports.render.frames import group_by


def reader_questions(page: PageContext, answers: WholeTaskScores) -> Facts:
    """Answer each question from the records; one that they do not answer is left out."""
    comparison = page.comparison
    questions: dict[str, Sequence[str]] = {
        "Am I sure?": _verdicts(comparison),
        "Does it hold at my size?": [*_predictions(page), *largest_batch_sentences(page.largest)],
        "What did the towers learn?": gain_sentences(comparison, answers),
        "How long did it take?": _durations(page.records),
        "What do I do next?": next_command(page, answers),
    }
    return Facts({question: found for question, found in questions.items() if found}, "glossary")


def _verdicts(comparison: ComparisonRecords) -> list[Markup]:
    """Report the verdict on each ratio with its p, and how many rounds are missing for one."""
    compared = [(row, row.ratio) for row in comparison.throughputs if row.ratio is not None]
    if not compared:
        return []
    verdicts = [
        Markup("{} <strong>{}</strong>{}").format(
            comparison.label(row.experiment),
            found.verdict,
            "" if found.p is None else f" (p {format_p_value(found.p)})",
        )
        for row, found in compared[:MOST_NAMED]
    ]
    verdicts += link_to_omitted(len(compared) - MOST_NAMED, "throughput")
    fewest = min(min(found.runs) for _, found in compared)
    rule = f"“Faster” and “slower” need p ≤ {ALPHA} and a difference of {format_percent(SMALLEST_EFFECT, 0)}."
    if fewest < MIN_ROUNDS and not any(found.verdict in ("faster", "slower") for _, found in compared):
        rule = f"{pluralize(fewest, 'run')} per experiment are too few for a verdict: it needs {MIN_ROUNDS} rounds."
    text = Markup("Verdicts on images per second, against {}: {}. {}")
    return [text.format(comparison.label(comparison.base or ""), Markup(", ").join(verdicts), rule)]


def _predictions(page: PageContext) -> list[Markup]:
    """Report the FLOP-predicted ratio at this size, and the commands for a larger one."""
    if (lead := headline_row(page.comparison)) is None:
        return []
    predicted = (
        f"FLOPs predict a ratio of {format_ratio(lead.flop_ratio)}" if lead.flop_ratio else "FLOPs predict no ratio"
    )
    found = Markup("{} at this size; at another size both differ.").format(predicted)
    if commands := larger_scale_commands(page, lead):
        tell = Markup(" predicts it from the data sheet of a GPU, and on your own GPU ").join(commands)
        found += Markup(" For a larger tower, {} measures it.").format(tell)
    return [found]


def _durations(records: Sequence[Record]) -> list[str]:
    """Return the time from the first start to the last known end of each comparison, and the sum of all trainings."""
    seconds = 0.0
    for found in group_by(records, lambda one: one.comparison).values():
        starts = [*map(_start_seconds, found)]
        ends = [start + _known_seconds(one) for start, one in zip(starts, found, strict=True)]
        seconds += max(ends) - min(starts)
    trainings = [one.measured.seconds for one in records if isinstance(one.measured, Training)]
    text = f"All runs took {format_seconds(seconds)}, from the first start to the last known end."
    spent = f" {pluralize(len(trainings), 'training')} took {format_seconds(fsum(trainings))} in all."
    return [text + (spent if trainings else "")]


def _start_seconds(record: Record) -> float:
    start = datetime.fromisoformat(record.circumstances.started_at)
    return (start if start.tzinfo else start.replace(tzinfo=UTC)).timestamp()


def _known_seconds(record: Record) -> float:
    """Return how long the run took at least; 0 for kinds of runs that do not record it."""
    measured = record.measured
    if isinstance(measured, Training):
        return measured.seconds
    return measured.warmup_seconds + fsum(measured.window_seconds) if isinstance(measured, Speed) else 0.0
