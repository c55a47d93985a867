"""The section on training losses."""

from collections.abc import Sequence

from markupsafe import Markup

from bench.interfaces.sections import (
    Block,
    BlockGroup,
    Chart,
    ComparisonView,
    FoldOutBlock,
    PageContext,
    PageSection,
    Paragraph,
)
from bench.records.record import Training
from bench.tables.formats import format_count
from bench.tables.tables import Cell, Column, Table
from reports.accuracy.charts import loss_curves_chart
from reports.render.loss_curves import collect_loss_curves

LOSSES_NOTE = Markup(
    "Each method minimises a different loss, so heights are not comparable across charts. Coloured lines are trunks at "
    "a constant learning rate; black or white lines are cool-downs that branch off. A point is the mean of the steps "
    'since the previous point, with at most 120 points per trunk; the records under <a href="#data">Data</a> hold '
    "every step."
)


def _build_loss_blocks(page: PageContext) -> Sequence[Block]:
    """Return a chart for each trained experiment, and the table of their figures."""
    comparison = page.comparison
    trained = {
        experiment.name for experiment, _ in comparison.experiments_and_contents_of(Training)
    }
    names = [name for name in comparison.experiments if name in trained]
    if not names:
        return [Paragraph("This comparison has no record of a training.", "empty")]
    charts = []
    for name in names:
        chart = loss_curves_chart(comparison, name, collect_loss_curves(comparison, name))
        charts.append(Chart(chart, comparison.short_label(name)))
    table = _loss_curves_table(comparison, names)
    return [
        Paragraph(LOSSES_NOTE, "under"),
        BlockGroup(charts, "panels"),
        FoldOutBlock("The figures behind these charts", [table], "behind"),
    ]


SECTION = PageSection("losses", "Training losses", "Losses", _build_loss_blocks)


def _loss_curves_table(comparison: ComparisonView, names: Sequence[str]) -> Table:
    """Show the loss curves at ten points each."""
    columns = [
        *Column.all_left_aligned("experiment", "part"),
        Column("seed"),
        Column("images seen"),
        Column("loss", "nats, mean since the previous row"),
    ]
    rows = []
    for name in names:
        for curve in collect_loss_curves(comparison, name, max_points=10):
            for images, loss in curve.points:
                row = [
                    comparison.name_cell(name),
                    Cell.of(curve.part),
                    Cell.of(curve.seed),
                    Cell.of(images, format_count),
                    Cell.of(loss, "{:.4g}".format),
                ]
                rows.append(row)
    return Table.of_rows("Training losses", columns, rows)
