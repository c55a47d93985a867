"""The phases of a training step as bars and as a table."""

from collections.abc import Sequence

from markupsafe import Markup

from bench.formats import format_count, format_percent, format_rate, format_ratio, join_words
from bench.measure.summary import PHASE, Throughput
from bench.record import PHASES
from bench.sections import ComparisonRecords, Key
from bench.statistics import Bottleneck, bound_by, phases_add_up
from bench.tables import Cell, Column, Table
from reports.render.frames import experiment_cell
from reports.render.svg import INK, PAPER, SERIES, add_tooltip, svg
from reports.speed.charts import row_chart, write_row_label

NO_PHASES = "this run was not split into phases"
NO_SUCH_PHASE = "no such phase: the method reads no text"


PHASE_STYLES = {  # number of the colour, hatch and glyph of a phase; adjacent ones differ in more than their colour
    "data": (2, "++++", "▦"),
    "augmentation": (7, "----", "▤"),
    "image forward": (1, "", "■"),
    "text forward": (4, "\\\\\\\\", "▧"),
    "head and loss": (6, "xxxx", "▩"),
    "backward": (5, "", "■"),
    "optimizer": (3, "////", "▨"),
}


def measured_phases(rows: Sequence[Throughput]) -> list[str]:
    """Return the phases that any row has, in the order of the step."""
    return [phase for phase in PHASES if any(row.figures.get(PHASE + phase) is not None for row in rows)]


def phase_keys(rows: Sequence[Throughput]) -> list[Key]:
    """Return the keys of the phases that any row has."""
    styles = ((phase, PHASE_STYLES[phase]) for phase in measured_phases(rows))
    return [Key(f"{glyph} {phase}", series) for phase, (series, _, glyph) in styles]


def describe_input_bound(comparison: ComparisonRecords) -> str:
    """Return a sentence on the experiments that are input-bound."""
    known = [(row, share) for row in comparison.throughputs if (share := row.data_share) is not None]
    if not known:
        return ""
    starved = [comparison.label(row.experiment) for row, share in known if _bottleneck(row, share) == "input-bound"]
    shares = [share for _, share in known]
    subject = "All experiments are compute-bound:"
    if starved:
        subject = f"Input-bound: {join_words(starved)}. Their ratios compare loading, not methods;"
    return f"{subject} data takes from {format_percent(min(shares))} to {format_percent(max(shares))} of a step."


def phase_chart(comparison: ComparisonRecords) -> Markup:
    """Draw the phases of a step in milliseconds, one bar per experiment."""
    split, described = [row for row in comparison.throughputs if row.figures["phases_ms"]], []
    with row_chart(len(split)) as (figure, axes):
        axes.set_xlim(0, 1.04 * max(_ms_or_zero(row, name) for row in split for name in ("phases_ms", "step_ms")))
        for at, row in enumerate(split):
            start, durations = 0.0, []
            for phase in measured_phases([row]):
                (series, hatch, _), ms = PHASE_STYLES[phase], _ms_or_zero(row, PHASE + phase)
                colour = SERIES[series - 1]
                bar = axes.barh(at + 0.08, ms, 0.3, start, color=colour, edgecolor=PAPER, hatch=hatch, linewidth=1)
                add_tooltip(
                    bar[0], f"{phase}: {format_rate(ms)} ms, {format_percent(ms / _ms_or_zero(row, 'phases_ms'))}"
                )
                start += ms
                durations.append(f"{phase} {format_rate(ms)}")
            whole = _ms_or_zero(row, "step_ms")
            axes.vlines(whole, at - 0.14, at + 0.3, color=INK, linewidth=2)
            write_row_label(axes, at, comparison.label(row.experiment), f"{format_rate(whole)} ms")
            described.append(f"{comparison.label(row.experiment)} {', '.join(durations)}")
        axes.set_xlabel("milliseconds per step")
        return svg(figure, "phases", f"Milliseconds per step by phase: {'; '.join(described)}.")


def phase_table(comparison: ComparisonRecords) -> Table:
    """Show the phases of a step, the check of their sum, and whether data or compute limits it."""
    rows = comparison.throughputs
    phases, has_workers = measured_phases(rows), any(row.loader_workers for row in rows)
    columns = [
        Column.text("experiment"),
        Column("batch", "images per step"),
        *(Column(phase, "ms per step") for phase in phases),
        Column("sum of phases", "ms per step"),
        Column("whole step", "ms, from the windows"),
        Column("sum over whole", "check: near 1"),
        Column("data", "share of the phases"),
        *([Column("waited for batches", "share of the windows")] if has_workers else []),
        Column.text("bound"),
    ]
    shown = [_phase_row(comparison, row, phases, has_workers=has_workers) for row in rows]
    return Table.of_rows("Where a step's time goes", columns, shown)


def _phase_row(
    comparison: ComparisonRecords, row: Throughput, phases: Sequence[str], *, has_workers: bool
) -> list[Cell]:
    of = row.figures
    total, whole, share = of["phases_ms"], of["step_ms"], row.data_share
    no_phase = Cell.not_applicable(NO_SUCH_PHASE) if total else Cell.unmeasured(NO_PHASES)
    return [
        experiment_cell(comparison, row.experiment),
        Cell.measured(of["batch_size"], format_count, ""),
        *(no_phase if (ms := of.get(PHASE + phase)) is None else Cell.of(ms, format_rate) for phase in phases),
        Cell.measured(total, format_rate, NO_PHASES),
        Cell.measured(whole, format_rate, ""),
        _sum_check_cell(total, whole),
        Cell.measured(share, format_percent, NO_PHASES),
        *(
            [Cell.measured(of["data_wait_share"], format_percent, "this run has no record of it")]
            if has_workers
            else []
        ),
        Cell.unmeasured(NO_PHASES) if share is None else Cell(_bottleneck(row, share), "", share),
    ]


def _bottleneck(row: Throughput, share: float) -> Bottleneck:
    return bound_by(share, prefetches=row.loader_workers > 0)


def _sum_check_cell(total: float | None, whole: float | None) -> Cell:
    """Compare the sum of the phases with the whole step; mark a difference of more than 10 %."""
    if not total or not whole:
        return Cell.unmeasured(NO_PHASES)
    found = total / whole
    return Cell(format_ratio(found), "" if phases_add_up(found) else "differs from the whole step", found)


def _ms_or_zero(row: Throughput, column: str) -> float:
    return row.figures.get(column) or 0.0
