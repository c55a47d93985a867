"""Where a step's time goes: its phases as bars and as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bench.record import PHASES
from bench.statistics import Bound, bound_by
from reports.render.formats import count, listed, milliseconds, percent, ratio
from reports.render.frames import PHASE, Comparison
from reports.render.svg import INK, PAPER, SERIES, drawing, hovered, svg
from reports.render.tables import Cell, Column, Table, absent, figure, missing, named, plain
from reports.speed.charts import FOOT, WIDTH, head, rows_of
from reports.speed.speeds import Throughput

ROW = 46
AGREEING = 0.1  # sum of phases and whole step, relative
NO_PHASES = "this run was not split into phases"
NO_SUCH_PHASE = "no such phase: it reads no text, or its forward is compiled and one piece"


@dataclass(frozen=True, slots=True)
class Look:
    """How a phase is drawn, here and in the legend; neighbours differ in more than their colour."""

    series: int
    hatch: str
    glyph: str


LOOKS = {
    "data": Look(2, "++++", "▦"),
    "forward": Look(1, "", "■"),
    "image forward": Look(1, "", "■"),
    "text forward": Look(4, "\\\\\\\\", "▧"),
    "head and loss": Look(6, "xxxx", "▩"),
    "backward": Look(5, "", "■"),
    "optimizer": Look(3, "////", "▨"),
}


def phases_of(rows: Sequence[Throughput]) -> list[str]:
    """Return the phases that any row has, in the step's order."""
    return [phase for phase in PHASES if any(row.figures.get(PHASE + phase) is not None for row in rows)]


def phase_keys(rows: Sequence[Throughput]) -> list[tuple[str, str, str]]:
    """Return class, glyph and name of each phase, for the legend."""
    return [(f"c{LOOKS[phase].series}", LOOKS[phase].glyph, phase) for phase in phases_of(rows)]


def bound_sentence(comparison: Comparison, rows: Sequence[Throughput]) -> str:
    """Say in words what the steps wait for."""
    shares = {row.experiment: _data_share(row) for row in rows}
    known = {name: share for name, share in shares.items() if share is not None}
    if not known:
        return ""
    told = f"from {percent(min(known.values()))} to {percent(max(known.values()))}"
    starved = [
        comparison.label(name) for name, share in known.items() if _bound(comparison, name, share) == "input-bound"
    ]
    if starved:
        return (
            f"Input-bound: {listed(starved)}. Their ratios compare loading, not methods; data takes {told} of a step."
        )
    return f"Compute-bound, all of them: data takes {told} of a step."


def phase_chart(comparison: Comparison, rows: Sequence[Throughput]) -> Markup:
    """Draw the phases of a step as one bar for each experiment, from zero."""
    split = [row for row in rows if row.figures["phases_ms"]]
    with drawing(WIDTH, ROW * len(split) + FOOT) as drawn:
        axes = rows_of(drawn, len(split), ROW)
        axes.set_xlim(0, 1.04 * max(max(_ms(row, "phases_ms"), _ms(row, "step_ms")) for row in split))
        for at, row in enumerate(split):
            start = 0.0
            for phase in phases_of([row]):
                one, width = LOOKS[phase], _ms(row, PHASE + phase)
                colour = SERIES[one.series - 1]
                bar = axes.barh(
                    at + 0.08, width, 0.3, start, color=colour, edgecolor=PAPER, hatch=one.hatch, linewidth=1
                )
                hovered(bar[0], f"{phase}: {milliseconds(width)} ms, {percent(width / _ms(row, 'phases_ms'))}")
                start += width
            whole = _ms(row, "step_ms")
            axes.vlines(whole, at - 0.14, at + 0.3, color=INK, linewidth=2)
            head(axes, at, comparison.label(row.experiment), f"{milliseconds(whole)} ms", 0.34)
        axes.set_xlabel("milliseconds a step")
        told = "; ".join(
            f"{comparison.label(row.experiment)} "
            + ", ".join(f"{phase} {milliseconds(_ms(row, PHASE + phase))}" for phase in phases_of([row]))
            for row in split
        )
        return svg(drawn, "phases", f"Milliseconds of a step by phase: {told}.")


def phase_table(comparison: Comparison, rows: Sequence[Throughput]) -> Table:
    """Say where a step's time goes, whether its parts add up to the whole, and what bounds it."""
    phases = phases_of(rows)
    columns = [
        Column("experiment", numeric=False),
        Column("batch", "images a step"),
        *(Column(phase, "ms a step") for phase in phases),
        Column("sum of phases", "ms a step"),
        Column("whole step", "ms, from the windows"),
        Column("sum over whole", "check: about 1"),
        Column("waits for data", "of the phases"),
        Column("bound", numeric=False),
    ]
    return plain("Where a step's time goes", columns, [_phase_row(comparison, row, phases) for row in rows])


def _phase_row(comparison: Comparison, row: Throughput, phases: Sequence[str]) -> list[Cell]:
    of = row.figures
    total, whole, share = of["phases_ms"], of["step_ms"], _data_share(row)
    return [
        named(comparison.label(row.experiment), row.experiment),
        figure(of["batch_size"], count, ""),
        *(_phase_cell(of.get(PHASE + phase), total) for phase in phases),
        figure(total, milliseconds, NO_PHASES),
        figure(whole, milliseconds, ""),
        _check(total, whole),
        figure(share, percent, NO_PHASES),
        missing(NO_PHASES) if share is None else Cell(_bound(comparison, row.experiment, share), "", share),
    ]


def _bound(comparison: Comparison, name: str, share: float) -> Bound:
    return bound_by(share, ahead=comparison.experiments[name].workers > 0)


def _data_share(row: Throughput) -> float | None:
    total = row.figures["phases_ms"]
    return _ms(row, PHASE + "data") / total if total else None


def _phase_cell(value: float | None, total: float | None) -> Cell:
    if value is None:
        return absent(NO_SUCH_PHASE) if total else missing(NO_PHASES)
    return Cell(milliseconds(value), "", value)


def _check(total: float | None, whole: float | None) -> Cell:
    """Compare the sum of the phases with the whole step; say where they are a tenth apart."""
    if not total or not whole:
        return missing(NO_PHASES)
    found = total / whole
    return Cell(ratio(found), "" if abs(found - 1) <= AGREEING else "does not add up", found)


def _ms(row: Throughput, column: str) -> float:
    return row.figures.get(column) or 0.0
