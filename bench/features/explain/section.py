"""The section on an explained ratio: its causes as a waterfall chart, a table and sentences."""

from collections.abc import Sequence

from markupsafe import Markup

from bench.features.explain.decomposition import Contribution, Decomposition, LogRatio, decompose
from bench.features.explain.tables import format_log_with_margin, summarize
from bench.formats import NBSP, format_interval, ratio
from bench.sections import Block, Chart, Key, PageContext, Question, Text
from bench.settings import strip_settings
from bench.statistics import FLOPS_TOLERANCE
from bench.tables import Cell, Column, Table
from reports.render.svg import INK, MUTED, SERIES, add_tooltip, svg
from reports.speed.charts import NARROWEST, draw_ratio_bar, row_chart, scale_ratios, write_row_label

KEYS = (Key("■ cause", 1), Key("▨ unexplained", 4), Key("■ whole ratio", 2), Key("◆ FLOP-predicted", 3))
CHART_NOTE = (
    "Ratio of images per second, forward and backward; the axis is logarithmic, so that bars add up. Lines are "
    f"95{NBSP}% intervals. The table below gives the figures."
)
NOT_MEASURED = "some of its runs are missing"
NO_FLOPS = "it changes no FLOPs"
NO_ORDERS = "only the order of the chain was measured"


def build(page: PageContext) -> Sequence[Block] | None:
    """Return the chart, table and sentences of the page's ladder, if its runs are there."""
    found = decompose(page.comparison.records)
    if found is None or found.whole.chain is None or found.unexplained is None:
        return None
    short = [strip_settings(name) for name in (found.experiment, found.baseline)]
    title = " against ".join(short if short[0] != short[1] else (found.experiment, found.baseline))
    chart = Chart(waterfall_chart(found), title, [CHART_NOTE], KEYS, width="narrow")
    causes, whole = found.rounds
    note = (
        f"Ratios of images/s over rounds of fresh processes: {causes} rounds of all configurations for the causes, "
        f"{whole} rounds of the first and the last for the whole ratio. Forward and backward are timed in phases, "
        "without data and optimizer; the whole step includes both. A cause is consistent with FLOPs if the interval of "
        f"ln(measured / predicted) lies within ±{ratio(FLOPS_TOLERANCE)}. A biased configuration changes the two "
        "adjacent causes in opposite directions and leaves their product unchanged; the comparison with FLOPs detects "
        "it."
    )
    left_out = "".join(f" Left out, {name}: {reason}." for name, reason in found.ladder.left_out.items())
    return [
        Question(f"Where does the ratio come from? {title}"),
        Text(summarize(found)),
        chart,
        _causes_table(found),
        Text(note + left_out, "under"),
    ]


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


def _causes_table(found: Decomposition) -> Table:
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
    return Table.of_rows("The causes of the ratio", columns, rows)


def _cause_row(part: Contribution, *, has_shapley: bool, verdict: Cell | None = None) -> list[Cell]:
    return [
        Cell(part.cause, part.change, part.cause),
        _ratio_cell(part.chain),
        _predicted_cell(part.flop_ratio, NO_FLOPS),
        *([_ratio_cell(part.shapley), _predicted_cell(part.shapley_flop_ratio, NO_ORDERS)] if has_shapley else []),
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


def _predicted_cell(predicted: float | None, why: str) -> Cell:
    return Cell.not_applicable(why) if predicted is None else Cell.of(predicted, ratio)
