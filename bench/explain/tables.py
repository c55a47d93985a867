"""An explanation as tables."""

from typing import Any

from bench.explain.contrasts import LogRatio
from bench.explain.explained import Explained, Part, in_words
from bench.tables import Table


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
        | {"whole step": part.step and part.step.value}
        | _ends("step ", part.step)
        for part in (*found.parts, *objective, found.product, found.whole, rest)
    ]
    parts, whole = found.rounds
    notes = [
        "Ratios of images/s, with 95 % intervals over rounds of fresh processes. forward + backward: of a step timed",
        "in phases, data and optimizer left out; whole step: of the windows, with both. by FLOPs: what the matrix",
        f"products of forward and backward predict. Rounds of all cells, for the parts: {parts}; of the two ends",
        f"alone, for the whole: {whole}.",
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


def _ends(prefix: str, ratio: LogRatio | None) -> dict[str, Any]:
    low, high = (None, None) if ratio is None else (ratio.low, ratio.high)
    return {f"{prefix}low": low, f"{prefix}high": high}
