"""The section on an explained ratio: its causes as a waterfall chart, a table and sentences."""

from collections.abc import Sequence

from markupsafe import Markup

from bench.experiment.settings import strip_settings
from bench.features.explain.decomposition import Decomposition, decompose
from bench.features.explain.tables import cause_table, reference_table, summarize
from bench.interfaces.sections import Block, Chart, Key, PageContext, Question, Text
from bench.tables.formats import NBSP, format_ratio
from reports.render.svg import INK, MUTED, SERIES, add_tooltip, svg
from reports.speed.charts import NARROWEST, draw_ratio_bar, row_chart, scale_ratios, write_row_label

KEYS = (Key("■ cause", 1), Key("▨ unexplained", 4), Key("■ whole ratio", 2), Key("◆ FLOP-predicted", 3))
CHART_NOTE = (
    "Ratio of images per second, forward and backward; the axis is logarithmic, so that bars add up. Lines are "
    f"95{NBSP}% intervals. The table below gives the figures."
)


def build(page: PageContext) -> Sequence[Block] | None:
    """Return the chart, table and sentences of the page's ladder, if its runs are there."""
    found = decompose(page.comparison.records)
    if found is None or found.whole.chain is None or found.unexplained is None:
        return None
    short = [strip_settings(name) for name in (found.experiment, found.baseline)]
    title = " against ".join(short if short[0] != short[1] else (found.experiment, found.baseline))
    chart = Chart(waterfall_chart(found), title, [CHART_NOTE], KEYS, width="narrow")
    tables = [table for table in (cause_table(found), reference_table(found)) if table.cells]
    return [Question(f"Where does the ratio come from? {title}"), Text(summarize(found)), chart, *tables]


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
                add_tooltip(mark[0], f"FLOP-predicted {format_ratio(predicted)}x")
                ends.append(reached * predicted)
            reached *= one.value
        at = len(parts)
        ends += draw_ratio_bar(axes, at, "unexplained", reached, found.unexplained, SERIES[3], hatch="////")
        ends += draw_ratio_bar(axes, at + 1, "whole ratio, measured", 1.0, whole, SERIES[1])
        for row, line in enumerate(lines, at + 2):
            write_row_label(axes, row, line.what, f"{format_ratio(line.ratio)}x")
            axes.plot([line.ratio], [row + 0.06], "D", color=INK, markersize=6)
            ends.append(line.ratio)
        scale_ratios(axes, ends)
        axes.set_xlabel("ratio of images per second")
        causes = "; ".join(f"{part.cause} {format_ratio(one.value)}" for part, one in parts)
        rest = f"unexplained {format_ratio(found.unexplained.value)}; whole ratio {format_ratio(whole.value)}"
        return svg(figure, "waterfall", f"Causes of a ratio: {causes}; {rest}.")
