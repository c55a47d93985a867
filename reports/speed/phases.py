"""The phases of a training step as bars."""

from collections.abc import Sequence

from markupsafe import Markup

from bench.interfaces.sections import ComparisonRecords, Key
from bench.interfaces.throughput import PHASE, Throughput
from bench.measure.speed_tables import measured_phases
from bench.tables.formats import format_percent, format_rate
from reports.render.svg import INK, PAPER, SERIES, add_tooltip, svg
from reports.speed.charts import row_chart, write_row_label

PHASE_STYLES = {  # number of the colour, hatch and glyph of a phase; adjacent ones differ in more than their colour
    "data": (2, "++++", "▦"),
    "augmentation": (7, "----", "▤"),
    "image forward": (1, "", "■"),
    "text forward": (4, "\\\\\\\\", "▧"),
    "head and loss": (6, "xxxx", "▩"),
    "backward": (5, "", "■"),
    "optimizer": (3, "////", "▨"),
}


def phase_keys(rows: Sequence[Throughput]) -> list[Key]:
    """Return the keys of the phases that any row has."""
    styles = ((phase, PHASE_STYLES[phase]) for phase in measured_phases(rows))
    return [Key(f"{glyph} {phase}", series) for phase, (series, _, glyph) in styles]


def phase_chart(comparison: ComparisonRecords) -> Markup:
    """Draw the phases of a step in milliseconds, one bar per experiment."""
    split, described = [row for row in comparison.throughputs if row.figures["phases_ms"]], []
    with row_chart(len(split)) as (figure, axes):
        axes.set_xlim(
            0,
            1.04
            * max(_ms_or_zero(row, name) for row in split for name in ("phases_ms", "step_ms")),
        )
        for at, row in enumerate(split):
            start, durations = 0.0, []
            for phase in measured_phases([row]):
                (series, hatch, _), ms = PHASE_STYLES[phase], _ms_or_zero(row, PHASE + phase)
                colour = SERIES[series - 1]
                bar = axes.barh(
                    at + 0.08,
                    ms,
                    0.3,
                    start,
                    color=colour,
                    edgecolor=PAPER,
                    hatch=hatch,
                    linewidth=1,
                )
                add_tooltip(
                    bar[0],
                    f"{phase}: {format_rate(ms)} ms, {format_percent(ms / _ms_or_zero(row, 'phases_ms'))}",
                )
                start += ms
                durations.append(f"{phase} {format_rate(ms)}")
            whole = _ms_or_zero(row, "step_ms")
            axes.vlines(whole, at - 0.14, at + 0.3, color=INK, linewidth=2)
            write_row_label(axes, at, comparison.label(row.experiment), f"{format_rate(whole)} ms")
            described.append(f"{comparison.label(row.experiment)} {', '.join(durations)}")
        axes.set_xlabel("milliseconds per step")
        return svg(figure, "phases", f"Milliseconds per step by phase: {'; '.join(described)}.")


def _ms_or_zero(row: Throughput, column: str) -> float:
    return row.figures.get(column) or 0.0
