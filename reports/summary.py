"""The answer of the page: two or three sentences, with notes and warnings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bench.measure.summary import Throughput, engineering_gap
from bench.record import BatchTrial, Speed
from bench.statistics import Ratio, fewest_rounds, is_disturbed
from reports.accuracy.ranking import INTERVAL, MOST_TOLD, accuracy_sentences, lead_of, other_rankings, the_rest
from reports.accuracy.scores import Scored
from reports.render.formats import GIB, NBSP, format_rate, listed, percent, ratio, span, times
from reports.render.frames import ComparisonRecords, failures


@dataclass(frozen=True, slots=True)
class Answer:
    """The sentences of the answer, notes that explain them, and warnings that limit them."""

    lead: Sequence[Markup]
    notes: Sequence[Markup]
    warnings: Sequence[Markup]


def answer_of(
    comparison: ComparisonRecords,
    rows: Sequence[Throughput],
    largest: tuple[ComparisonRecords, Sequence[Throughput]] | None,
    answers: Sequence[Scored],
) -> Answer:
    """Summarise the records; `largest` are the experiments at their largest batch size, where these were timed."""
    notes = [*other_rankings(comparison, answers), *_unexplained(comparison, rows), *_too_few_runs(rows)]
    lead = [*_speed(comparison, rows), *_at_largest(largest), *accuracy_sentences(comparison, answers)]
    return Answer(lead, notes, _warnings(comparison, rows))


def _speed(comparison: ComparisonRecords, rows: Sequence[Throughput]) -> list[Markup]:
    if not rows:
        return [Markup("No speed was measured in this comparison.")]
    compared = [row for row in rows if row.ratio is not None]
    machine = _machine(comparison)
    if not compared:
        sentences = [
            Markup("{} trains <strong>{}</strong> images per second ({})").format(
                comparison.label(row.experiment),
                format_rate(row.images_per_second),
                f"median of {times(len(row.runs), 'run')}" if len(row.runs) > 1 else "one run: no interval",
            )
            for row in rows
        ]
        return [Markup("{}, {}.").format(machine, Markup("; ").join(sentences))]
    first = lead_of(comparison, [row.experiment for row in compared])
    base = next(row for row in rows if row.experiment == comparison.base)
    lead = next(row for row in compared if row.experiment == first)
    return [_ratio_sentence(comparison, lead, base, machine)]


def _at_largest(largest: tuple[ComparisonRecords, Sequence[Throughput]] | None) -> list[Markup]:
    """Report the ratio of experiments that each fill the same memory, apart from the ratio at equal batch size."""
    comparison, rows = largest or (None, [])
    compared = [row for row in rows if row.ratio is not None]
    if comparison is None or not compared:
        return []
    first = lead_of(comparison, [row.experiment for row in compared])
    row = next(row for row in compared if row.experiment == first)
    assert row.ratio is not None
    return [
        Markup(
            "Each at its largest batch size under {}, {} trains <strong>{} times</strong> as many images as {} "
            "({}; {})."
        ).format(
            listed(sorted({f"{fit.limit_bytes / GIB:g}{NBSP}GiB" for _, fit in comparison.of(BatchTrial)})),
            comparison.label(row.experiment),
            ratio(row.ratio.value),
            comparison.label(comparison.base or ""),
            _over_runs(row.ratio),
            f"verdict: {row.ratio.verdict}",
        )
    ]


def _ratio_sentence(comparison: ComparisonRecords, row: Throughput, base: Throughput, machine: str) -> Markup:
    assert row.ratio is not None
    return Markup("{}, {} trains <strong>{} times</strong> as many images per second as {} ({}; {}; {}{}).").format(
        machine,
        comparison.label(row.experiment),
        ratio(row.ratio.value),
        comparison.label(comparison.base or ""),
        _over_runs(row.ratio),
        f"verdict: {row.ratio.verdict}",
        f"FLOP-predicted ratio {ratio(row.flop_ratio)}" if row.flop_ratio else "FLOPs unknown",
        _against_base(row, base),
    )


def _against_base(row: Throughput, base: Throughput) -> str:
    return f"; MFU {percent(row.mfu)} against {percent(base.mfu)}" if row.mfu and base.mfu else ""


def _over_runs(found: Ratio) -> str:
    if found.low is None or found.high is None:
        return "one run each: no interval" if found.runs == (1, 1) else "too few runs: no interval"
    runs = f"{found.runs[0]} runs each" if len(set(found.runs)) == 1 else f"{found.runs[1]} and {found.runs[0]} runs"
    return f"{INTERVAL} {span(found.low, found.high, ratio)} over {runs}"


def _unexplained(comparison: ComparisonRecords, rows: Sequence[Throughput]) -> list[Markup]:
    """Report ratios that differ from the FLOP-predicted ones by more than 8 %, with likely reasons."""
    base = next((row for row in rows if row.experiment == comparison.base), None)
    found = [(row, factor) for row in rows if (factor := row.unexplained()) is not None]
    left = sorted(found, key=lambda pair: -abs(math.log(pair[1])))
    if base is None or not left:
        return []
    clauses = [
        Markup("{} is {} times as fast as {}, the FLOP-predicted ratio is {}, which leaves a factor of {}").format(
            comparison.label(row.experiment),
            ratio(row.forward_backward.value),
            comparison.label(base.experiment),
            ratio(row.flop_ratio or 1.0),
            ratio(factor),
        )
        for row, factor in left[:MOST_TOLD]
        if row.forward_backward
    ]
    clauses += the_rest(len(left) - MOST_TOLD, "throughput")
    shown = [base, *(row for row, _ in left[:MOST_TOLD])]
    utilisation = listed([f"{comparison.label(row.experiment)} {percent(row.mfu)}" for row in shown if row.mfu])
    one_run = " With one run each, run-to-run variation is another." if all(len(row.runs) == 1 for row in shown) else ""
    return [
        Markup(
            "<strong>FLOPs do not explain the whole difference.</strong> Forward and backward alone: {}. Likely "
            "reasons: matrix products too small to fill the device, and elementwise work (norms, activations, softmax) "
            "that takes time and is not counted as FLOPs.{}"
        ).format(Markup("; ").join(clauses), one_run + (f" MFU: {utilisation}." if utilisation else ""))
    ]


def _too_few_runs(rows: Sequence[Throughput]) -> list[Markup]:
    compared = [row.ratio for row in rows if row.ratio is not None]
    needed = fewest_rounds(len(compared)) if compared else 0
    fewest = min((min(found.runs) for found in compared), default=needed)
    if fewest >= needed:
        return []
    return [
        Markup(
            "<strong>Too few runs for a verdict.</strong> {} per experiment cannot reach p ≤ 0.01: {} rounds are "
            "needed before {} can be called faster or slower."
        ).format(times(fewest, "run"), needed, "this ratio" if len(compared) == 1 else f"these {len(compared)} ratios")
    ]


def _warnings(comparison: ComparisonRecords, rows: Sequence[Throughput]) -> list[Markup]:
    found = []
    if comparison.incomparable is not None:
        found.append(Markup("<strong>No ratios are shown:</strong> {}.").format(comparison.incomparable))
    worst = max(rows, key=lambda row: row.others_busy_percent, default=None)
    if worst is not None and is_disturbed(worst.others_busy_percent):
        words = Markup(
            "<strong>The machine was not idle.</strong> Other processes kept {} of it busy while {} was timed (median "
            "of its runs), which may have changed speeds and ratios."
        )
        found.append(words.format(percent(worst.others_busy_percent / 100, 0), comparison.label(worst.experiment)))
    if (gap := engineering_gap(rows)) is not None:
        words = Markup(
            "<strong>Engineering is being compared, not methods.</strong> {} uses {} of the device's peak and {} only "
            "{}: a factor of {} in MFU means that one implementation fills the device better."
        )
        (low, least), (high, largest) = ((comparison.label(row.experiment), row.mfu or 1.0) for row in gap)
        found.append(words.format(high, percent(largest), low, percent(least), ratio(largest / least)))
    if number := len(failures(comparison)):
        words = Markup('<strong>{} failed.</strong> <a href="#failures">See the reasons</a>.')
        found.append(words.format(times(number, "run")))
    return found


def _machine(comparison: ComparisonRecords) -> str:
    """Name the machines of the speed records."""
    machines = list(dict.fromkeys(record.circumstances.machine for record, _ in comparison.of(Speed)))
    return f"On {'this machine' if len(machines) == 1 else 'different machines'} ({listed(machines)})"
