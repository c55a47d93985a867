"""Tables of a decomposition."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

from bench.console.tables import Table
from bench.explain.contrasts import LogRatio
from bench.explain.decomposition import Explained, Part, in_words
from bench.statistics import AS_FLOPS_SAY


def cause_table(found: Explained) -> Table:
    """List the factors, their product, the whole and the unexplained ratio."""
    rest = Part("unexplained", "", found.residue, None, found.step_residue, None)
    objective = [found.objective] if found.objective else []
    has_changes, has_shapley = bool(found.ladder.factors), found.parts[0].shapley is not None
    rows = []
    for part in (*found.parts, *objective, found.product, found.whole, rest):
        row: dict[str, Any] = {"cause": part.cause} | ({"change": part.change} if has_changes else {})
        row |= _interval("forward + backward", "", part.chain) | {"by FLOPs": part.by_flops}
        if has_shapley:
            row |= _interval("Shapley", "Shapley ", part.shapley) | {"Shapley by FLOPs": part.shapley_by_flops}
        row |= {"off FLOPs": part.off_flops and part.off_flops.mean, "+/-": part.off_flops and part.off_flops.margin}
        row |= {"verdict": part.verdict if part is not rest else found.judged}
        rows.append(row | _interval("whole step", "step ", part.step))
    parts, whole = found.rounds
    notes = [
        "Ratios of images/s with 95 % intervals over rounds of fresh processes. forward + backward: of a step timed in",
        "phases, without data and optimizer; whole step: of the windows, with both. by FLOPs: predicted by the matrix",
        "products of forward and backward; off FLOPs: log of measured (Shapley, if present) over predicted ratio,",
        f"consistent with FLOPs if its interval is within {AS_FLOPS_SAY:.2f}. Rounds of all configurations: {parts};",
        f"rounds of the two ends: {whole}. A biased configuration cancels in the product; off FLOPs reveals it.",
        *(["Shapley: mean over all orders in which factors and objective can change."] if has_shapley else []),
        *(f"Left out, {name}: {reason}." for name, reason in found.ladder.left_out.items()),
        "",
        in_words(found),
    ]
    return Table(f"From {found.against} to {found.first}", rows, "\n".join(notes))


def line_table(found: Explained) -> Table:
    """List counted and published ratios beside the measured ones; the table is empty if there are none."""
    lines = [{"what": line.what, "ratio": line.ratio, "source": line.source} for line in found.ladder.lines]
    measured = {"measured, the pair": found.whole, "measured, the objective alone": found.objective}
    rows = [
        {"what": what, "ratio": part.chain.value, "source": "forward + backward, table above"}
        for what, part in measured.items()
        if lines and part is not None and part.chain is not None
    ]
    return Table("Counted and published", [*lines, *rows])


def side_by_side(found: Mapping[str, Explained]) -> Table:
    """List decompositions in one column each: factors, wholes, and counted and published ratios."""
    columns = {name: _column(one) for name, one in found.items()}
    rows = [
        {"what": what} | {name: column.get(what) for name, column in columns.items()}
        for what in dict.fromkeys(chain.from_iterable(columns.values()))
    ]
    sources = {line.what: line.source for one in found.values() for line in one.ladder.lines}
    notes = [
        "Ratios of images/s, forward + backward. '-': not a factor of this recipe.",
        *(f"{what}: {source}." for what, source in sources.items()),
    ]
    return Table("Recipes side by side", rows, "\n".join(notes))


def _column(found: Explained) -> dict[str, Any]:
    parts = [*found.parts, *([found.objective] if found.objective else []), found.whole]
    return {
        **{part.cause: part.best and part.best.value for part in parts},
        "unexplained": found.residue and found.residue.value,
        "whole, by FLOPs counted here": found.whole.by_flops,
        **{line.what: line.ratio for line in found.ladder.lines},
    }


def _interval(name: str, prefix: str, ratio: LogRatio | None) -> dict[str, Any]:
    return {name: ratio and ratio.value, f"{prefix}low": ratio and ratio.low, f"{prefix}high": ratio and ratio.high}
