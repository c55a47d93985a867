"""Tables and sentences of a decomposition."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, get_args

from bench.experiment.settings import strip_settings
from bench.features.explain.decomposition import Contribution, Decomposition, LogRatio
from bench.features.explain.factors import UPDATE_CAUSES
from bench.features.explain.ladder import WAITING
from bench.statistics.verdicts import FLOPS_TOLERANCE, Agreement, Prediction
from bench.tables.formats import INTERVAL, format_interval, format_rate, format_ratio
from bench.tables.tables import Cell, Column, Table

VERDICTS: dict[Agreement, str] = {
    "agree": "product and whole ratio ",
    "disagree": "an unknown factor acts, product and whole ratio ",
    "inconclusive": "more rounds or a calmer machine are needed to test the product: ",
}  # the beginning of a verdict in a sentence
CAUSES_NOTE = (
    "Ratios of images/s with 95 % intervals over rounds of fresh processes. forward + backward: of a step timed "
    "in phases, without data and optimizer; whole step: of the windows, with both. FLOP-predicted: from the matrix "
    "products of forward and backward.\noff FLOPs: log of the measured (Shapley, if present) over the predicted ratio, "
    f"consistent with FLOPs if its interval is within {FLOPS_TOLERANCE:.2f}; it reveals a biased configuration, whose "
    "error cancels in the product. saved: microseconds per image of the whole step."
)
WAITING_NOTE = (
    f"{WAITING}: the time of the phase data, in which the device is idle. Other causes have whole steps without it, "
    "but for those that change what the loader does."
)
NOT_MEASURED = "some of its runs are missing"


def cause_table(found: Decomposition) -> Table:
    """List the factors, their product, the whole and the unexplained ratio."""
    rest = Contribution("unexplained", "", found.unexplained, None, found.step_unexplained, None)
    parts = [*found.parts, found.waiting, found.objective, found.product, found.whole, rest]
    shown = [part for part in parts if part is not None]
    has_shapley, has_changes = found.parts[0].shapley is not None, any(part.change for part in shown)
    columns = [
        *Column.texts("cause", *(["change"] if has_changes else [])),
        Column("forward + backward", INTERVAL),
        Column("FLOP-predicted"),
        *([Column("Shapley", INTERVAL), Column("FLOP-predicted Shapley")] if has_shapley else []),
        Column("off FLOPs", "ln(measured / predicted)"),
        Column.text("verdict"),
        Column("whole step", INTERVAL),
        Column("saved, us/image"),
    ]
    rows = [
        [
            Cell.of(part.cause),
            *([Cell.of(part.change)] if has_changes else []),
            Cell.estimate(part.chain, format_ratio, NOT_MEASURED),
            Cell.applicable(part.flop_ratio, format_ratio, NOT_MEASURED),
            *(_shapley_cells(part) if has_shapley else []),
            _deviation_cell(part.flops_deviation),
            Cell.applicable(found.verdict_text if part is rest else part.verdict, str, NOT_MEASURED),
            Cell.estimate(part.step, format_ratio, NOT_MEASURED),
            Cell.applicable(part.saved_seconds and 1e6 * part.saved_seconds, format_rate, NOT_MEASURED),
        ]
        for part in shown
    ]
    rounds_of_parts, rounds_of_whole = found.rounds
    notes = [
        CAUSES_NOTE,
        f"Rounds of all configurations: {rounds_of_parts}; rounds of the two ends: {rounds_of_whole}.",
        *([WAITING_NOTE] if found.waiting else []),
        *(["Shapley: mean over all orders in which factors and objective can change."] if has_shapley else []),
        *(f"Left out, {name}: {reason}." for name, reason in found.ladder.left_out.items()),
    ]
    return Table.of_rows(f"From {found.baseline} to {found.experiment}", columns, rows, "\n".join(notes))


def explained_table(found: Decomposition) -> Table:
    """List the factors, with the steps that were left out and a summary beneath."""
    table = cause_table(found)
    return replace(table, note=f"{table.note}\n{found.waits}\n\n{summarize(found)}")


def _shapley_cells(part: Contribution) -> list[Cell]:
    why = NOT_MEASURED if part.chain is None else "only the order of the chain was measured"
    return [Cell.estimate(part.shapley, format_ratio, why), Cell.applicable(part.shapley_flop_ratio, format_ratio, why)]


def _deviation_cell(found: LogRatio | None) -> Cell:
    if found is None:
        return Cell.not_applicable("no ratio is predicted for it, or none was measured")
    ends = (None, None) if found.margin is None else (found.mean - found.margin, found.mean + found.margin)
    return Cell(format_log_with_margin(found), value=found.mean, interval=ends)


def reference_table(found: Decomposition) -> Table:
    """List counted and published ratios beside the measured ones; the table is empty if there are none."""
    lines = [{"what": line.what, "ratio": line.ratio, "source": line.source} for line in found.ladder.references]
    measured = {"measured, the pair": found.whole, "measured, the objective alone": found.objective}
    rows = [
        {"what": what, "ratio": part.chain.value, "source": "forward + backward, table above"}
        for what, part in measured.items()
        if lines and part is not None and part.chain is not None
    ]
    return Table.of_figures("Counted and published", [*lines, *rows])


def decompositions_table(found: Mapping[str, Decomposition]) -> Table:
    """List decompositions in one column each: factors, wholes, and counted and published ratios."""
    columns = {name: _column(one) for name, one in found.items()}
    rows = [
        {"what": what} | {name: column.get(what) for name, column in columns.items()}
        for what in dict.fromkeys(chain.from_iterable(columns.values()))
    ]
    sources = {line.what: line.source for one in found.values() for line in one.ladder.references}
    notes = [
        "Ratios of images/s, forward + backward. '-': not a factor of this recipe.",
        *(f"{what}: {source}." for what, source in sources.items()),
    ]
    return Table.of_figures("Recipes side by side", rows, "\n".join(notes))


def _column(found: Decomposition) -> dict[str, Any]:
    parts = filter(None, (*found.parts, found.objective, found.whole))
    return {
        **{part.cause: part.best and part.best.value for part in parts},
        "unexplained": found.unexplained and found.unexplained.value,
        "whole, FLOP-predicted counted here": found.whole.flop_ratio,
        **{line.what: line.ratio for line in found.ladder.references},
    }


def summarize(found: Decomposition) -> str:
    """Summarise a decomposition in a few sentences."""
    whole, rest, parts = found.whole.chain, found.unexplained, [(part.cause, part.best) for part in found.parts]
    if whole is None or rest is None or any(best is None for _, best in parts):
        return "Some configurations were not measured, so the ratio cannot be decomposed."
    experiment, baseline = strip_settings(found.experiment), strip_settings(found.baseline)
    order = "over all orders" if found.parts[0].shapley is not None else "in this order"
    factors = ", ".join(f"{_format_ratio_value(best)} for {cause}" for cause, best in parts)
    ends, verdict = f"the end of the ladder ({experiment}) as at its beginning ({baseline})", VERDICTS[found.verdict]
    sentences = [
        f"Forward and backward are {_format_with_interval(whole)} as fast at {ends}.",
        f"The factors, {order}, are {factors}.",
        f"{_format_with_interval(rest)} is unexplained: {verdict}{found.verdict_text}.",
    ]
    if found.objective is not None and (objective := found.objective.chain) is not None:
        sentences.append(f"The objective alone, at the end of the ladder, is {_format_with_interval(objective)}.")
    if found.whole.flop_ratio is not None and found.whole.step is not None:
        sentences += [f"FLOPs predict {found.whole.flop_ratio:.2f}x.", *_describe_flops_verdicts(found.parts)]
        outside = [part for part in (*found.parts, found.waiting) if part and part.cause in (*UPDATE_CAUSES, WAITING)]
        listed = [f"{_format_ratio_value(part.step)} for {part.cause}" for part in outside]
        factors = f"; outside of forward and backward, factors are {', '.join(listed)}" if listed else ""
        sentences.append(f"With data and optimizer a step is {_format_ratio_value(found.whole.step)} as fast{factors}.")
    sentences += [f"{line.what.capitalize()}: {line.ratio:.2f}x." for line in found.ladder.references]
    sentences.append(f"Captions: {found.captions}.")
    return " ".join(sentences)


def describe_interval_at_double_rounds(found: Decomposition) -> str:
    """Say how wide the interval of the unexplained ratio is, and how wide it would be after twice as many rounds."""
    rest = found.unexplained
    if rest is None or rest.error is None or rest.margin is None:
        return "The product was not tested: some configurations have fewer than two rounds."
    rounds = rest.degrees_of_freedom + 1
    doubled = replace(rest, error=rest.error / math.sqrt(2), degrees_of_freedom=2 * rounds - 1).margin or 0.0
    now, then = (100 * math.expm1(margin) for margin in (rest.margin, doubled))
    return f"The unexplained ratio is known to ±{now:.1f} %; twice the time would give about ±{then:.1f} %."


def _describe_flops_verdicts(parts: Iterable[Contribution]) -> list[str]:
    """List the factors by their verdict against FLOPs."""
    causes: dict[Prediction, list[str]] = {verdict: [] for verdict in get_args(Prediction)}
    for part in parts:
        if part.verdict and part.flops_deviation:
            causes[part.verdict].append(f"{part.cause} ({format_log_with_margin(part.flops_deviation)})")
    listed = "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in causes.items() if names)
    scale = f"log of measured over predicted ratio; up to {FLOPS_TOLERANCE:.2f} is consistent with FLOPs"
    return [f"By factor, {listed} ({scale})."] if listed else []


def format_log_with_margin(found: LogRatio) -> str:
    """Format a logarithm with half of its interval."""
    return f"{found.mean:+.2f}" if found.margin is None else f"{found.mean:+.2f} ± {found.margin:.2f}"


def _format_ratio_value(found: LogRatio | None) -> str:
    return "?" if found is None else f"{format_ratio(found.value)}x"


def _format_with_interval(found: LogRatio) -> str:
    return f"{_format_ratio_value(found)} ({format_interval(found, format_ratio) or 'no interval'})"
