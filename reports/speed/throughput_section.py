"""The section on throughput: speeds, largest batches, batch sizes, phases of a step, memory and sizes."""

from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from bench.formats import GIB, NBSP
from bench.measure.ranks import find_slow_ranks, rank_table
from bench.measure.tables import batch_trial_table
from bench.record import BatchTrial
from bench.sections import Block, Chart, ComparisonRecords, Fold, Group, Heading, Key, PageContext, Section, Text
from reports.render.document import csv_file
from reports.render.frames import memory_frame, speeds_frame
from reports.speed import phases, speed_tables
from reports.speed.batches import batch_size_blocks
from reports.speed.charts import ratio_chart, throughput_chart

RATIO_KEYS = (Key("● whole step", 1), Key("■ forward and backward alone", 2), Key("◆ FLOP-predicted", 3))
HFU_NOTE = (
    "HFU counts every matrix product of the step, recomputed ones included; it is below MFU where the backward leaves "
    "some out, as those for a gradient of the images."
)
FORWARD_BACKWARD_NOTE = (
    "Forward + backward is of the steps that are timed in phases, without data and optimizer. Here steps that other "
    "work slowed count less, but the table of phases has medians over all steps: on a busy machine the ratios differ."
)


def _build(page: PageContext) -> Sequence[Block]:
    comparison = page.comparison
    return [
        *_speed_blocks(comparison),
        *(_largest_batch_blocks(page.largest) if page.largest is not None else []),
        *batch_size_blocks(comparison, page.records),
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
        table = speed_tables.runs_table(comparison)
        charts = [Chart(throughput_chart(comparison), "Images per second", [note], table=table)]
        if has_ratios:
            note = (
                f"Lines are 95{NBSP}% intervals. Ratios inside the grey band (±2{NBSP}%) are not called a difference. "
                "The table below gives the figures."
            )
            charts.append(Chart(ratio_chart(comparison), "Measured and FLOP-predicted ratios", [note], RATIO_KEYS))
        blocks.append(Group(charts, "pair"))
    if rows or speed_tables.untimed_experiments(comparison):
        sources = dict.fromkeys(row.peak_source for row in rows)
        sentences = [
            speed_tables.describe_intervals(comparison),
            *(f"MFU is 3 x forward FLOPs per image x images/s over the peak: {source}." for source in sources),
            HFU_NOTE,
            FORWARD_BACKWARD_NOTE,
            f"“Faster” and “slower” require p ≤ 0.01 and an effect of 2{NBSP}% or more." if has_ratios else "",
        ]
        blocks += [speed_tables.throughput_table(comparison), Text(" ".join(filter(None, sentences)), "under")]
        if (published := speed_tables.published_mfu_table(comparison)) is not None:
            blocks.append(Fold(published.title, [published], "behind"))
    return blocks


def _largest_batch_blocks(largest: ComparisonRecords) -> list[Block]:
    limits = sorted({trial.limit_bytes / GIB for _, trial in largest.of(BatchTrial)})
    note = f"{speed_tables.describe_intervals(largest)} The limit excludes imports and data."
    return [
        Heading(f"Largest batch size of each experiment under {' and '.join(map(str, limits))}{NBSP}GiB"),
        speed_tables.throughput_table(largest, speed_tables.LARGEST_BATCH),
        Text(f"{note} Each trial runs in its own process.", "under"),
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
    note = (
        "Phases are timed in a separate pass with a device synchronisation between them; figures are medians over "
        "steps, then over runs. The ratio of their sum to the whole step is a check: well above 1, phases overlap "
        "without synchronisation; well below 1, some time belongs to no phase. A step is input-bound if data takes "
        "longer than all other phases, so that a background loader would also be waited for."
    )
    blocks += [
        phases.phase_table(comparison),
        Text(f"{phases.describe_input_bound(comparison)} {note}".lstrip(), "under"),
    ]
    if (ranks := rank_table(comparison.records, comparison.experiments, comparison.label)).cells:
        slow = find_slow_ranks(comparison.records, comparison.experiments)
        blocks += [Text(Markup("<strong>{}</strong>").format(str(one))) for one in slow]
        blocks.append(Fold(ranks.title, [replace(ranks, note="")], "behind"))
    return blocks


def _memory_and_size_blocks(comparison: ComparisonRecords) -> list[Block]:
    if not (table := speed_tables.memory_and_size_table(comparison)).cells:
        return []
    reasons = dict.fromkeys(reason for row in comparison.throughputs for reason in row.not_measured)
    note = (
        "Memory is the peak of one run in its own process, without imports and data; “tensors” sums the tensors of one "
        "step, independently of the allocator. Utilisation is a mean over the timed windows, then a median over runs. "
        "Captions/s is the rate of converting captions to targets, once per data set. An en dash means not measured "
        "and differs from zero."
    )
    missing = "".join(f" Not measured, or only in part: {reason}." for reason in reasons)
    return [Heading("Memory, utilisation, targets, sizes"), table, Text(note + missing, "under")]
