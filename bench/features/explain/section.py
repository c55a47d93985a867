"""The section on an explained ratio: its causes as a chart and a table."""

from collections.abc import Sequence

from bench.experiment.settings import strip_bracketed_settings
from bench.features.explain.decomposition import decompose_ratio_by_ladder
from bench.features.explain.tables import cause_table
from bench.interfaces.sections import Block, BlockGroup, PageContext, PageQuestion
from reports.speed.charts import RatioRow, ratio_chart


def build_explanation(page: PageContext) -> Sequence[Block] | None:
    """Return the question, the chart and the table of the page's ladder; None if it has no timed runs."""
    result = decompose_ratio_by_ladder(page.comparison.records)
    if result is None or result.total.forward_backward is None:
        return None
    names = [result.experiment, result.baseline]
    stripped = [strip_bracketed_settings(name) for name in names]
    # Two experiments that differ in settings alone keep them in their names.
    title = " against ".join(names if stripped[0] == stripped[1] else stripped)
    rows = [
        RatioRow(cause.cause, cause.whole_step, cause.forward_backward, cause.flop_ratio)
        for cause in [*result.causes, result.total]
    ]
    label = "ratio of images per second after and before a cause"
    chart = ratio_chart(title, rows, "causes", label)
    question = PageQuestion(f"Where does the ratio come from? {title}")
    return [question, BlockGroup([chart], "pair"), cause_table(result)]
