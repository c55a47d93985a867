"""The sections on throughput (speeds, phases of a step, memory and sizes), and on measurements of extensions."""

from collections.abc import Sequence

from bench.interfaces.sections import (
    Block,
    BlockGroup,
    Chart,
    ComparisonView,
    FoldOutBlock,
    Heading,
    PageContext,
    PageSection,
    Paragraph,
)
from bench.measure.figures import extension_measurement_tables
from bench.measure.speed_tables import (
    memory_utilisation_and_parameter_table,
    step_phase_table,
    throughput_table,
)
from bench.tables.formats import NBSP, format_rate
from bench.tables.tables import Cell, Column, Table
from reports.speed.charts import (
    RatioRow,
    ratio_chart,
    throughput_chart,
)

RUNS_NOTE = f"Dots are runs, the bar is their median, the line below is the 95{NBSP}% interval of their mean."


def _build_speed_blocks(page: PageContext) -> Sequence[Block]:
    """Return the charts and tables of speeds, of the largest batches, and of memory."""
    comparison = page.comparison
    blocks: list[Block] = []
    if comparison.throughputs:
        blocks += _chart_blocks(comparison)
    else:
        blocks.append(Paragraph("No speed was measured in this comparison.", "empty"))
    speeds = throughput_table(comparison)
    if speeds.all_rows:
        blocks.append(speeds)
    if comparison.throughputs:
        blocks += [Heading("Time per step"), step_phase_table(comparison)]
    memory = memory_utilisation_and_parameter_table(comparison)
    if memory.all_rows:
        blocks += [Heading("Memory, utilisation, targets, sizes"), memory]
    return blocks


def _build_extension_measurement_blocks(page: PageContext) -> Sequence[Block] | None:
    comparison = page.comparison
    blocks: list[Block] = []
    for table in extension_measurement_tables(comparison.records, list(comparison.experiments)):
        blocks += [Heading(table.title), table]
    return blocks or None


EXTENSION_MEASUREMENTS = PageSection(
    "figures", "Figures of measurements", "Figures", _build_extension_measurement_blocks
)
SECTION = PageSection("throughput", "Throughput", "Throughput", _build_speed_blocks)


def _chart_blocks(comparison: ComparisonView) -> list[Block]:
    """Return the charts of speeds and, where experiments are compared, of ratios."""
    charts = [Chart(throughput_chart(comparison), "Images per second", [RUNS_NOTE])]
    rows = []
    for row in comparison.throughputs:
        if row.ratio is not None:
            label = comparison.short_label(row.experiment)
            rows.append(RatioRow(label, row.ratio, row.forward_backward, row.flop_ratio))
    if rows:
        base = comparison.short_label(comparison.base or "")
        label = f"times {base}'s images per second"
        charts.append(ratio_chart("Measured and FLOP-predicted ratios", rows, "ratios", label))
    figures = FoldOutBlock("The figures behind these charts", [_runs_table(comparison)], "behind")
    return [BlockGroup(charts, "pair"), figures]


def _runs_table(comparison: ComparisonView) -> Table:
    """Show the images per second of every run."""
    most = max(len(row.rounds) for row in comparison.throughputs)
    columns = [Column.left_aligned("experiment")]
    columns += [Column(f"run {number + 1}", "images/s") for number in range(most)]
    absent = Cell.not_applicable("this experiment has fewer runs")
    rows = []
    for row in comparison.throughputs:
        runs = [Cell.of(rate, format_rate) for rate in row.rounds.values()]
        runs += [absent] * (most - len(runs))
        rows.append([comparison.name_cell(row.experiment), *runs])
    return Table.of_rows("Images per second of every run", columns, rows)
