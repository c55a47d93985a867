"""An explanation as tables."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

from bench.console.tables import Table
from bench.explain.contrasts import LogRatio
from bench.explain.decomposition import Explained, Part, in_words
from bench.statistics import AS_FLOPS_SAY


def cause_table(found: Explained) -> Table:
    """List the causes, their product, the whole and what is left."""
    rest = Part("not explained", "", found.residue, None, found.step_residue, None)
    objective = [found.objective] if found.objective else []
    has_changes, has_shapley = bool(found.ladder.factors), found.parts[0].shapley is not None
    rows = [
        {"cause": part.cause}
        | ({"change": part.change} if has_changes else {})
        | {"forward + backward": part.chain and part.chain.value}
        | _ends("", part.chain)
        | {"by FLOPs": part.by_flops}
        | ({"Shapley": part.shapley and part.shapley.value} | _ends("Shapley ", part.shapley) if has_shapley else {})
        | ({"Shapley by FLOPs": part.shapley_by_flops} if has_shapley else {})
        | {"off FLOPs": part.off_flops and part.off_flops.mean, "+/-": part.off_flops and part.off_flops.margin}
        | {"verdict": part.verdict if part is not rest else found.judged}
        | {"whole step": part.step and part.step.value}
        | _ends("step ", part.step)
        for part in (*found.parts, *objective, found.product, found.whole, rest)
    ]
    parts, whole = found.rounds
    notes = [
        "Ratios of images/s, with 95 % intervals over rounds of fresh processes. forward + backward: of a step timed",
        "in phases, data and optimizer left out; whole step: of the windows, with both. by FLOPs: what the matrix",
        "products of forward and backward predict; off FLOPs: the logarithm of measured over predicted, of the Shapley",
        f"values where there are: as FLOPs say where all of its interval is within {AS_FLOPS_SAY:.2f}. Rounds of all",
        f"cells, for the parts: {parts}; of the two ends alone, for the whole: {whole}. A cell that is wrong cancels",
        "in the product; what FLOPs say is the check for that.",
        *(["Shapley: the mean over all orders in which factors and objective may change."] if has_shapley else []),
        *(f"Left out, {name}: {reason}." for name, reason in found.ladder.left_out.items()),
        "",
        in_words(found),
    ]
    return Table(f"From {found.against} to {found.first}", rows, "\n".join(notes))


def line_table(found: Explained) -> Table:
    """List what is counted and what others say, beside what was measured; nothing where there is neither."""
    lines = [{"what": line.what, "ratio": line.ratio, "source": line.source} for line in found.ladder.lines]
    measured = {"measured, the pair": found.whole, "measured, the objective alone": found.objective}
    rows = [
        {"what": what, "ratio": part.chain.value, "source": "forward + backward, from above"}
        for what, part in measured.items()
        if lines and part is not None and part.chain is not None
    ]
    return Table("Counted and published", [*lines, *rows])


def side_by_side(found: Mapping[str, Explained]) -> Table:
    """Set explanations beside each other, a column each: causes, wholes, and what is counted and published."""
    columns = {name: _column(one) for name, one in found.items()}
    rows = [
        {"what": what} | {name: column.get(what) for name, column in columns.items()}
        for what in dict.fromkeys(chain.from_iterable(columns.values()))
    ]
    sources = {line.what: line.source for one in found.values() for line in one.ladder.lines}
    notes = [
        "Ratios of images/s, forward + backward. '-': it is no cause there.",
        *(f"{what}: {source}." for what, source in sources.items()),
    ]
    return Table("Recipes side by side", rows, "\n".join(notes))


def _column(found: Explained) -> dict[str, Any]:
    parts = [*found.parts, *([found.objective] if found.objective else []), found.whole]
    return {
        **{part.cause: part.best and part.best.value for part in parts},
        "not explained": found.residue and found.residue.value,
        "the whole, by FLOPs counted here": found.whole.by_flops,
        **{line.what: line.ratio for line in found.ladder.lines},
    }


def _ends(prefix: str, ratio: LogRatio | None) -> dict[str, Any]:
    low, high = (None, None) if ratio is None else (ratio.low, ratio.high)
    return {f"{prefix}low": low, f"{prefix}high": high}
