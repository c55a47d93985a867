"""The section on an explained ratio: its causes as a waterfall chart and a table."""

from collections.abc import Sequence

from markupsafe import Markup

from bench.experiment.settings import strip_bracketed_settings
from bench.features.explain.decomposition import RatioDecomposition, decompose_ratio_by_ladder
from bench.features.explain.tables import cause_table
from bench.interfaces.sections import Block, Chart, ChartGlyphMeaning, PageContext, PageQuestion
from bench.tables.formats import NBSP, format_ratio
from reports.render.svg import MUTED, SERIES, add_tooltip, figure_to_svg
from reports.speed.charts import draw_ratio_bar, fit_ratio_axis, open_row_chart

KEYS = (
    ChartGlyphMeaning("■ cause", 1),
    ChartGlyphMeaning("■ whole ratio", 2),
    ChartGlyphMeaning("◆ FLOP-predicted", 3),
)
CHART_NOTE = (
    "Ratio of images per second, forward and backward; the axis is logarithmic, so that bars add up. Lines are "
    f"95{NBSP}% intervals. The table below gives the figures."
)


def build_explanation(page: PageContext) -> Sequence[Block] | None:
    """Return the question, the chart and the table of the page's ladder; None if it has no timed runs."""
    result = decompose_ratio_by_ladder(page.comparison.records)
    if result is None or result.total.forward_backward is None:
        return None
    names = [result.experiment, result.baseline]
    stripped = [strip_bracketed_settings(name) for name in names]
    # Two experiments that differ in settings alone keep them in their names.
    title = " against ".join(names if stripped[0] == stripped[1] else stripped)
    chart = Chart(draw_waterfall_chart(result), title, [CHART_NOTE], KEYS, width="narrow")
    question = PageQuestion(f"Where does the ratio come from? {title}")
    return [question, chart, cause_table(result)]


def draw_waterfall_chart(result: RatioDecomposition) -> Markup:
    """Draw each cause as a bar that starts at the end of the previous one, then the whole ratio; return an SVG."""
    total = result.total.forward_backward
    assert total is not None
    num_causes = len(result.causes)
    with open_row_chart(num_causes + 1) as (figure, axes):
        axes.set_xscale("log")
        axes.axvline(1, color=MUTED, linewidth=1)
        start = 1.0
        descriptions = []
        for row, cause in enumerate(result.causes):
            ratio = cause.forward_backward
            if ratio is None:
                continue
            draw_ratio_bar(axes, row, cause.cause, start, ratio, SERIES[0])
            if cause.flop_ratio is not None:
                predicted = start * cause.flop_ratio
                marks = axes.plot([predicted], [row + 0.3], "D", color=SERIES[2], markersize=6)
                add_tooltip(marks[0], f"FLOP-predicted {format_ratio(cause.flop_ratio)}x")
            start *= ratio.value
            descriptions.append(f"{cause.cause} {format_ratio(ratio.value)}")
        draw_ratio_bar(axes, num_causes, "whole ratio", 1.0, total, SERIES[1])
        descriptions.append(f"whole ratio {format_ratio(total.value)}")
        fit_ratio_axis(axes)
        axes.set_xlabel("ratio of images per second")
        return figure_to_svg(figure, "waterfall", f"Causes of a ratio: {'; '.join(descriptions)}.")
