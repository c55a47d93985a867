"""An explanation as tables."""

from typing import Any

from bench.contrasts import LogRatio
from bench.explained import Explained, Part, in_words
from bench.tables import Table

RESIDUE = "not explained"


def cause_table(found: Explained) -> Table:
    """List the causes, their product, the whole and what is left."""
    has_shapley = any(part.shapley for part in found.parts)
    rows = [_row(part, has_shapley=has_shapley) for part in found.parts]
    if found.objective is not None:
        rows.append(_row(found.objective, has_shapley=has_shapley))
    rows += [_row(found.product, has_shapley=has_shapley), _row(found.whole, has_shapley=has_shapley)]
    rows.append(
        {"cause": RESIDUE, "change": ""}
        | _figures("forward + backward", found.residue)
        | {"by FLOPs": None}
        | ({"Shapley": None, "Shapley low": None, "Shapley high": None} if has_shapley else {})
        | _figures("whole step", found.step_residue)
    )
    parts, whole = found.rounds
    notes = [
        "Ratios of images/s, with 95 % intervals over rounds of fresh processes. forward + backward: of a step timed",
        "in phases, data and optimizer left out; whole step: of the windows, with both. by FLOPs: what the matrix",
        "products of forward and backward predict.",
        f"Parts are from {parts} rounds of all cells, the whole from {whole} rounds of the two ends alone.",
    ]
    if has_shapley:
        notes.append("Shapley: the mean over all orders in which the factors and the objective may change.")
    notes += [f"Left out, {name}: {reason}." for name, reason in found.ladder.left_out.items()]
    return Table(f"{found.first} against {found.against}", rows, "\n".join([*notes, "", in_words(found)]))


def line_table(found: Explained) -> Table:
    """List what is counted and what others say, beside what was measured."""
    rows: list[dict[str, Any]] = [
        {"what": line.what, "ratio": line.ratio, "source": line.source} for line in found.ladder.lines
    ]
    if not rows:
        return Table("Beside it", [])
    measured = {"measured here, as published": found.whole, "measured here, the objective alone": found.objective}
    if found.objective is None:
        measured = {"measured here, one recipe": found.whole}
    rows += [
        {"what": what, "ratio": part.chain.value, "source": "forward + backward"}
        for what, part in measured.items()
        if part is not None and part.chain is not None
    ]
    return Table("Beside it", rows)


def _row(part: Part, *, has_shapley: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"cause": part.cause, "change": part.change}
    row |= _figures("forward + backward", part.chain) | {"by FLOPs": part.by_flops}
    row |= _figures("Shapley", part.shapley) if has_shapley else {}
    return row | _figures("whole step", part.step)


def _figures(name: str, ratio: LogRatio | None) -> dict[str, Any]:
    ends = (None, None) if ratio is None else (ratio.low, ratio.high)
    prefix = "" if name == "forward + backward" else f"{name} "
    value = None if ratio is None else ratio.value
    return {name: value, f"{prefix}low": ends[0], f"{prefix}high": ends[1]}
