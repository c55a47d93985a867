"""The section on an explained ratio: its causes as a waterfall chart, a table and sentences."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from bench.explain.decomposition import Contribution, Decomposition, LogRatio, decompose
from bench.explain.tables import format_log_with_margin, strip_settings, summarize
from bench.statistics import FLOPS_TOLERANCE, Estimate
from reports.render.formats import format_interval, ratio
from reports.render.frames import ComparisonRecords
from reports.render.svg import INK, MUTED, PAPER, SERIES, add_tooltip, svg
from reports.render.tables import Cell, Column, HtmlTable
from reports.speed.charts import NARROWEST, row_chart, write_row_label

TICKS = (0.1, 0.2, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 7, 10, 20, 50, 100)
MOST_TICKS = 7
NOT_MEASURED = "some of its runs are missing"
NO_FLOPS = "it changes no FLOPs"
NO_ORDERS = "only the order of the chain was measured"


def explanation_section(comparison: ComparisonRecords) -> Mapping[str, object] | None:
    """Return the section; None where the comparison has no explanation."""
    found = decompose(comparison.records)
    if found is None or found.whole.chain is None or found.unexplained is None:
        return None
    short = [strip_settings(name) for name in (found.experiment, found.baseline)]
    return {
        "title": " against ".join(short if short[0] != short[1] else (found.experiment, found.baseline)),
        "summary": summarize(found),
        "chart": waterfall_chart(found),
        "table": _causes_table(found),
        "rounds": found.rounds,
        "left_out": found.ladder.left_out,
        "as_flops_say": ratio(FLOPS_TOLERANCE),
    }


def waterfall_chart(found: Decomposition) -> Markup:
    """Draw each cause as a bar that starts at the end of the previous one, then unexplained, whole and other ratios."""
    assert found.whole.chain is not None
    assert found.unexplained is not None
    whole = found.whole.chain
    parts = [(part, part.best) for part in found.parts if part.best is not None]
    lines = found.ladder.references
    with row_chart(len(parts) + 2 + len(lines)) as (figure, axes):
        axes.set_xscale("log")
        axes.axvline(1, color=MUTED, linewidth=1)
        reached, ends = 1.0, [*NARROWEST]
        for at, (part, one) in enumerate(parts):
            ends += draw_ratio_bar(axes, at, part.cause, reached, one, SERIES[0])
            if (predicted := part.best_flop_ratio) is not None:
                mark = axes.plot([reached * predicted], [at + 0.3], "D", color=SERIES[2], markersize=6)
                add_tooltip(mark[0], f"FLOP-predicted {ratio(predicted)}x")
                ends.append(reached * predicted)
            reached *= one.value
        at = len(parts)
        ends += draw_ratio_bar(axes, at, "unexplained", reached, found.unexplained, SERIES[3], hatch="////")
        ends += draw_ratio_bar(axes, at + 1, "whole ratio, measured", 1.0, whole, SERIES[1])
        for row, line in enumerate(lines, at + 2):
            write_row_label(axes, row, line.what, f"{ratio(line.ratio)}x")
            axes.plot([line.ratio], [row + 0.06], "D", color=INK, markersize=6)
            ends.append(line.ratio)
        scale_ratios(axes, ends)
        axes.set_xlabel("ratio of images per second")
        causes = "; ".join(f"{part.cause} {ratio(one.value)}" for part, one in parts)
        rest = f"unexplained {ratio(found.unexplained.value)}; whole ratio {ratio(whole.value)}"
        return svg(figure, "waterfall", f"Causes of a ratio: {causes}; {rest}.")


def draw_ratio_bar(
    axes: Axes, row: int, label: str, start: float, one: LogRatio | Estimate, colour: str, hatch: str = ""
) -> list[float]:
    """Draw a ratio as a bar with its interval at its end; return the values that the axis must contain."""
    write_row_label(axes, row, label, f"{ratio(one.value)}x")
    end = start * one.value
    bar = axes.barh(row + 0.06, end - start, 0.3, start, color=colour, edgecolor=PAPER, hatch=hatch, linewidth=1)
    add_tooltip(bar[0], f"{ratio(one.value)}x{format_interval(one, ratio, ', 95 % ')}")
    if one.low is None or one.high is None:
        return [start, end]
    axes.hlines(row + 0.06, start * one.low, start * one.high, color=INK, linewidth=2)
    return [start, end, start * one.low, start * one.high]


def scale_ratios(axes: Axes, values: Sequence[float]) -> None:
    """Scale the axis of ratios to contain the values, with few ticks."""
    low, high = min(values) / 1.03, max(values) * 1.03
    axes.set_xlim(low, high)
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks[:: -(-len(ticks) // MOST_TICKS)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _causes_table(found: Decomposition) -> HtmlTable:
    has_shapley = any(part.shapley for part in found.parts)
    shapley = [Column("Shapley value", "over all orders"), Column("Shapley, FLOP-predicted")]
    columns = [
        Column.text("cause"),
        Column("forward and backward", "95 % interval"),
        Column("FLOP-predicted"),
        *(shapley if has_shapley else []),
        Column.text("verdict", "ln(measured / predicted)"),
        Column("whole step", "95 % interval"),
    ]
    shown = filter(None, (*found.parts, found.waiting, found.objective, found.product, found.whole))
    rows = [_cause_row(part, has_shapley=has_shapley) for part in shown]
    rest = Contribution("unexplained", "", found.unexplained, None, found.step_unexplained, None)
    rows.append(_cause_row(rest, has_shapley=has_shapley, verdict=Cell(found.verdict_text)))
    rows += [
        [Cell(line.what, line.source, line.what), Cell.of(line.ratio, ratio)]
        + [Cell.not_applicable("from another source")] * (len(columns) - 2)
        for line in found.ladder.references
    ]
    return HtmlTable.of_rows("The causes of the ratio", columns, rows)


def _cause_row(part: Contribution, *, has_shapley: bool, verdict: Cell | None = None) -> list[Cell]:
    return [
        Cell(part.cause, part.change, part.cause),
        _ratio_cell(part.chain),
        Cell.figure(part.flop_ratio, ratio, NO_FLOPS),
        *([_ratio_cell(part.shapley), Cell.figure(part.shapley_flop_ratio, ratio, NO_ORDERS)] if has_shapley else []),
        verdict or _verdict_cell(part),
        _ratio_cell(part.step),
    ]


def _verdict_cell(part: Contribution) -> Cell:
    """Return whether a cause is consistent with FLOPs, with its difference from them."""
    if part.flops_deviation is None or part.verdict is None:
        return Cell.not_applicable(NOT_MEASURED)
    return Cell.of(part.verdict, note=format_log_with_margin(part.flops_deviation))


def _ratio_cell(log_ratio: LogRatio | None) -> Cell:
    return (
        Cell.not_applicable(NOT_MEASURED)
        if log_ratio is None
        else Cell.of(log_ratio.value, ratio, format_interval(log_ratio, ratio))
    )
