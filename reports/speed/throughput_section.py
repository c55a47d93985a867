"""The section on throughput: speeds, largest batches, batch sizes, phases of a step, memory and sizes."""

from collections.abc import Sequence

from bench.interfaces.sections import (
    Block,
    Chart,
    ComparisonRecords,
    Fold,
    Group,
    Heading,
    Key,
    PageContext,
    Section,
    Text,
)
from bench.measure.speed_tables import (
    largest_batch_table,
    memory_and_size_table,
    phase_table,
    throughput_table,
)
from bench.measure.tables import batch_trial_table
from bench.records.record import BatchTrial
from bench.tables.formats import GIB, NBSP, format_rate
from bench.tables.tables import Cell, Column, Table
from reports.render.document import csv_file
from reports.render.frames import memory_frame, speeds_frame
from reports.speed import phases
from reports.speed.charts import ratio_chart, throughput_chart

RATIO_KEYS = (
    Key("● whole step", 1),
    Key("■ forward and backward alone", 2),
    Key("◆ FLOP-predicted", 3),
)


def _build(page: PageContext) -> Sequence[Block]:
    comparison = page.comparison
    return [
        *_speed_blocks(comparison),
        *(_largest_batch_blocks(page.largest) if page.largest is not None else []),
        *_step_blocks(comparison),
        *_memory_and_size_blocks(comparison),
        *csv_file("speeds.csv", "every timed run, derived figures", speeds_frame(comparison)),
        *csv_file("memory.csv", "peaks of the memory runs", memory_frame(comparison)),
    ]


SECTION = Section("throughput", "Throughput", "Throughput", _build)


def _speed_blocks(comparison: ComparisonRecords) -> list[Block]:
    rows, blocks = comparison.throughputs, list[Block]()
    has_ratios = any(row.ratio is not None for row in rows)
    if rows:
        note = f"Dots are runs, the bar is their median, the line below is the 95{NBSP}% interval of their mean."
        table = _runs_table(comparison)
        charts = [Chart(throughput_chart(comparison), "Images per second", [note], table=table)]
        if has_ratios:
            note = (
                f"Lines are 95{NBSP}% intervals. Ratios inside the grey band (±2{NBSP}%) are not called a difference. "
                "The table below gives the figures."
            )
            charts.append(
                Chart(
                    ratio_chart(comparison),
                    "Measured and FLOP-predicted ratios",
                    [note],
                    RATIO_KEYS,
                )
            )
        blocks.append(Group(charts, "pair"))
    if (speeds := throughput_table(comparison)).cells:
        blocks.append(speeds)
    return blocks


def _largest_batch_blocks(largest: ComparisonRecords) -> list[Block]:
    limits = sorted({trial.limit_bytes / GIB for _, trial in largest.of(BatchTrial)})
    return [
        Heading(
            f"Largest batch size of each experiment under {' and '.join(map(str, limits))}{NBSP}GiB"
        ),
        largest_batch_table(largest),
        Fold("Trials", [batch_trial_table(largest.records, largest.label)], "behind"),
    ]


def _step_blocks(comparison: ComparisonRecords) -> list[Block]:
    if not comparison.throughputs:
        return [Text("No speed was measured in this comparison.", "empty")]
    blocks: list[Block] = [Heading("Time per step")]
    if any(row.figures["phases_ms"] for row in comparison.throughputs):
        keys = [*phases.phase_keys(comparison.throughputs), Key("┃ whole step, from the windows")]
        note, chart = "The table below gives the figures.", phases.phase_chart(comparison)
        blocks.append(Chart(chart, "Phases of a step", [note], keys, width="narrow"))
    blocks.append(phase_table(comparison))
    return blocks


def _memory_and_size_blocks(comparison: ComparisonRecords) -> list[Block]:
    table = memory_and_size_table(comparison)
    return [Heading("Memory, utilisation, targets, sizes"), table] if table.cells else []


def _runs_table(comparison: ComparisonRecords) -> Table:
    """Show the images per second of every run."""
    most = max((len(row.rounds) for row in comparison.throughputs), default=0)
    columns = [
        Column.text("experiment"),
        *(Column(f"run {number + 1}", "images/s") for number in range(most)),
    ]
    shown = [
        [
            comparison.name_cell(row.experiment),
            *(Cell.of(rate, format_rate) for rate in row.rounds.values()),
            *[Cell.not_applicable("this experiment has fewer runs")] * (most - len(row.rounds)),
        ]
        for row in comparison.throughputs
    ]
    return Table.of_rows("Images per second of every run", columns, shown)
