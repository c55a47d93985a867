"""The answer: two or three sentences made from the records, and what must be said beside them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bench.record import Fit, Speed
from bench.statistics import Ratio, fewest_rounds
from reports.accuracy.ranking import INTERVAL, MOST_TOLD, accuracy_sentences, lead_of, other_rankings, the_rest
from reports.accuracy.scores import Scored
from reports.render.formats import GIB, NBSP, listed, percent, rate, ratio, span, times
from reports.render.frames import Comparison, failures
from reports.speed.speeds import DISTURBING_PERCENT, Throughput, engineering_gap, mfu, others_busy


@dataclass(frozen=True, slots=True)
class Answer:
    """`lead` answers; `notes` explain; `warnings` say what keeps the answer from being taken as it stands."""

    lead: Sequence[Markup]
    notes: Sequence[Markup]
    warnings: Sequence[Markup]


def answer_of(
    comparison: Comparison,
    rows: Sequence[Throughput],
    largest: tuple[Comparison, Sequence[Throughput]] | None,
    answers: Sequence[Scored],
) -> Answer:
    """Say what the records say; `largest` are the experiments at their largest batch, where these were timed."""
    notes = [*other_rankings(comparison, answers), *_unexplained(comparison, rows), *_too_few_runs(rows)]
    warnings = [
        *_incomparable(comparison),
        *_disturbed(comparison, rows),
        *_engineering(comparison, rows),
        *_failed(comparison),
    ]
    lead = [*_speed(comparison, rows), *_at_largest(largest), *accuracy_sentences(comparison, answers)]
    return Answer(lead, notes, warnings)


def _speed(comparison: Comparison, rows: Sequence[Throughput]) -> list[Markup]:
    if not rows:
        return [Markup("No speed was measured in this comparison.")]
    compared = [row for row in rows if row.ratio is not None]
    machine = _machine(comparison)
    if not compared:
        told = [
            Markup("{} trains <strong>{}</strong> images per second ({})").format(
                comparison.label(row.experiment),
                rate(row.images_per_second),
                f"median of {times(len(row.runs), 'run')}" if len(row.runs) > 1 else "one run: no interval",
            )
            for row in rows
        ]
        return [Markup("{}, {}.").format(machine, Markup("; ").join(told))]
    first = lead_of(comparison, [row.experiment for row in compared])
    base = next(row for row in rows if row.experiment == comparison.base)
    lead = next(row for row in compared if row.experiment == first)
    return [_ratio_sentence(comparison, lead, base, machine)]


def _at_largest(largest: tuple[Comparison, Sequence[Throughput]] | None) -> list[Markup]:
    """Tell a ratio of experiments that each fill the same memory: never one with that at equal batch."""
    comparison, rows = largest or (None, [])
    compared = [row for row in rows if row.ratio is not None]
    if comparison is None or not compared:
        return []
    first = lead_of(comparison, [row.experiment for row in compared])
    row = next(row for row in compared if row.experiment == first)
    assert row.ratio is not None
    return [
        Markup(
            "Each at its largest batch under {}, {} trains <strong>{} times</strong> as many as {} ({}; {})."
        ).format(
            listed(sorted({f"{fit.limit_bytes / GIB:g}{NBSP}GiB" for _, fit in comparison.of(Fit)})),
            comparison.label(row.experiment),
            ratio(row.ratio.value),
            comparison.label(comparison.base or ""),
            _over_runs(row.ratio),
            f"verdict: {row.ratio.verdict}",
        )
    ]


def _ratio_sentence(comparison: Comparison, row: Throughput, base: Throughput, machine: str) -> Markup:
    assert row.ratio is not None
    return Markup("{}, {} trains <strong>{} times</strong> as many images per second as {} ({}; {}; {}{}).").format(
        machine,
        comparison.label(row.experiment),
        ratio(row.ratio.value),
        comparison.label(comparison.base or ""),
        _over_runs(row.ratio),
        f"verdict: {row.ratio.verdict}",
        f"its FLOPs alone predict {ratio(row.flop_ratio)}" if row.flop_ratio else "FLOPs unknown",
        _against_base(row, base),
    )


def _against_base(row: Throughput, base: Throughput) -> str:
    known = all(one.figures["model_flops_utilisation"] for one in (row, base))
    return f"; MFU {percent(mfu(row))} against {percent(mfu(base))}" if known else ""


def _over_runs(found: Ratio) -> str:
    if found.low is None or found.high is None:
        return "one run each: no interval" if found.runs == (1, 1) else "too few runs: no interval"
    runs = f"{found.runs[0]} runs each" if len(set(found.runs)) == 1 else f"{found.runs[1]} and {found.runs[0]} runs"
    return f"{INTERVAL} {span(found.low, found.high, ratio)} over {runs}"


def _unexplained(comparison: Comparison, rows: Sequence[Throughput]) -> list[Markup]:
    """Say what FLOPs leave unexplained, where it is more than 8 %, and what it may come from."""
    base = next((row for row in rows if row.experiment == comparison.base), None)
    found = [(row, factor) for row in rows if (factor := row.unexplained()) is not None]
    left = sorted(found, key=lambda pair: -abs(math.log(pair[1])))
    if base is None or not left:
        return []
    clauses = [
        Markup("{} {} times as fast as {} where FLOPs predict {}, a factor of {} left over").format(
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
    one_run = all(len(row.runs) == 1 for row in shown)
    known = [row for row in shown if row.figures["model_flops_utilisation"]]
    utilisation = listed([f"{comparison.label(row.experiment)} {percent(mfu(row))}" for row in known])
    return [
        Markup(
            "<strong>FLOPs do not explain all of it.</strong> Forward and backward alone: {}. Likely reasons: matrix "
            "products too narrow to fill the device, and elementwise work (norms, activations, softmax) that takes "
            "time and is not counted as FLOPs.{}"
        ).format(
            Markup("; ").join(clauses),
            (f" MFU: {utilisation}." if known else "") + (" One run each: luck is a reason too." if one_run else ""),
        )
    ]


def _too_few_runs(rows: Sequence[Throughput]) -> list[Markup]:
    compared = [row.ratio for row in rows if row.ratio is not None]
    needed = fewest_rounds(len(compared)) if compared else 0
    fewest = min((min(found.runs) for found in compared), default=needed)
    if fewest >= needed:
        return []
    return [
        Markup(
            "<strong>Too few runs for a verdict.</strong> {} an experiment cannot reach p ≤ .01: {} rounds are needed "
            "before {} can be called faster or slower."
        ).format(times(fewest, "run"), needed, "this ratio" if len(compared) == 1 else f"these {len(compared)} ratios")
    ]


def _incomparable(comparison: Comparison) -> list[Markup]:
    if comparison.incomparable is None:
        return []
    return [Markup("<strong>No ratios are shown:</strong> {}.").format(comparison.incomparable)]


def _disturbed(comparison: Comparison, rows: Sequence[Throughput]) -> list[Markup]:
    """Say where others worked on the machine while it was timed."""
    shares = {row.experiment: max(others_busy(row), default=0.0) for row in rows}
    worst = max(shares, key=lambda name: shares[name], default=None)
    if worst is None or shares[worst] < DISTURBING_PERCENT:
        return []
    return [
        Markup(
            "<strong>The machine was not idle.</strong> Other processes kept {} of it busy while {} was timed (median "
            "of its runs): speeds and ratios may be theirs."
        ).format(percent(shares[worst] / 100, 0), comparison.label(worst))
    ]


def _engineering(comparison: Comparison, rows: Sequence[Throughput]) -> list[Markup]:
    gap = engineering_gap(list(rows))
    if gap is None:
        return []
    least, largest = gap
    return [
        Markup(
            "<strong>Engineering is being compared, not methods.</strong> {} uses {} of the device's peak and {} only "
            "{}: a difference of {} times in MFU says that one implementation fills the device better."
        ).format(
            comparison.label(largest.experiment),
            percent(mfu(largest)),
            comparison.label(least.experiment),
            percent(mfu(least)),
            ratio(mfu(largest) / mfu(least)),
        )
    ]


def _failed(comparison: Comparison) -> list[Markup]:
    number = len(failures(comparison))
    if not number:
        return []
    return [Markup('<strong>{} failed.</strong> <a href="#failures">See why</a>.').format(times(number, "run"))]


def _machine(comparison: Comparison) -> str:
    """Say where the speeds were measured."""
    machines = list(dict.fromkeys(record.circumstances.machine for record, _ in comparison.of(Speed)))
    return f"On {'this machine' if len(machines) == 1 else 'different machines'} ({listed(machines)})"
