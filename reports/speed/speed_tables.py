"""The tables of the throughput section."""

import math
from collections.abc import Sequence
from dataclasses import replace

from bench.data.caption_lengths import describe_captions
from bench.formats import (
    GIB,
    INTERVAL,
    UNIT_NAMES,
    format_count,
    format_interval,
    format_memory,
    format_p_value,
    format_percent,
    format_rate,
    format_ratio,
    memory_unit,
    pluralize,
)
from bench.measure.summary import UTILISATION, Throughput
from bench.published import published_mfu_rows
from bench.record import Failure, Memory, Speed
from bench.sections import ComparisonRecords
from bench.statistics import Ratio
from bench.tables import Cell, Column, Table
from reports.render.frames import BASE_CELL, IS_BASE, MEMORY_COUNTS, experiment_cell, experiment_name

EQUAL_BATCH, LARGEST_BATCH = "Throughput of each experiment", "Throughput of each at its largest batch"
VERDICTS: dict[str, str] = {
    "faster": "▲\N{NO-BREAK SPACE}faster",
    "slower": "▼\N{NO-BREAK SPACE}slower",
    "no difference": "=\N{NO-BREAK SPACE}no\N{NO-BREAK SPACE}difference",
    "inconclusive": "?\N{NO-BREAK SPACE}inconclusive",
    "disturbed": "?\N{NO-BREAK SPACE}inconclusive: disturbed",
}
ONE_RUN = "one run: an interval needs two"


def throughput_table(comparison: ComparisonRecords, title: str = EQUAL_BATCH) -> Table:
    """Show speed, measured and FLOP-predicted ratios, verdicts and MFU."""
    base = comparison.label(comparison.base or "") if comparison.throughputs else "the base"
    columns = [
        Column.text("experiment"),
        Column("images/s", f"median of runs, {INTERVAL}"),
        Column("runs"),
        Column("ratio", f"to {base}, {INTERVAL}"),
        Column("of all windows", "ratio, with those that other work slowed"),
        Column("p", "Holm"),
        Column.text("verdict"),
        Column("forward + backward", f"ratio, {INTERVAL}"),
        Column("FLOP ratio", "predicted from FLOPs alone"),
        Column("MFU", "3 x forward over peak"),
        Column("HFU", "all FLOPs of the step over peak"),
    ]
    shown = [_speed_row(comparison, row) for row in comparison.throughputs]
    shown += [_untimed_row(comparison, name, len(columns)) for name in untimed_experiments(comparison)]
    return Table.of_rows(title, columns, shown)


def published_mfu_table(comparison: ComparisonRecords) -> Table | None:
    """Show the MFU of published trainings; None where none was measured on a GPU."""
    if not any(row.mfu for row in comparison.throughputs) or all(
        one.circumstances.device == "cpu" for one, _ in comparison.of(Speed)
    ):
        return None
    columns = [*Column.texts("training", "GPUs"), Column("MFU", "3 x forward over dense peak"), Column.text("source")]
    shown = [
        [*map(Cell, names), Cell.of(mfu, format_percent), Cell(source)] for *names, mfu, source in published_mfu_rows()
    ]
    return Table.of_rows("MFU of published trainings", columns, shown)


def memory_and_size_table(comparison: ComparisonRecords) -> Table:
    """Show memory, utilisation, the cost of targets, and numbers of parameters."""
    counts = {
        one.name: {name: getattr(found, name) for name in MEMORY_COUNTS} for one, found in comparison.runs(Memory)
    }
    sizes = [size for peaks in counts.values() for size in peaks.values() if size is not None]
    unit = memory_unit(max(sizes, default=GIB))
    kept = [name for name in MEMORY_COUNTS if any(found.get(name) is not None for found in counts.values())]
    busy = list(
        dict.fromkeys(name for row in comparison.throughputs for name in row.figures if name.startswith(UTILISATION))
    )
    by_name = {row.experiment: row for row in comparison.throughputs}
    columns = [
        Column.text("experiment"),
        *(Column(title, f"{UNIT_NAMES[unit]}, {note}") for title, note in map(MEMORY_COUNTS.__getitem__, kept)),
        *([] if kept else [Column("peak memory", "GiB")]),
        *(Column(name.removeprefix(UTILISATION), "mean over the windows") for name in busy),
        Column("captions/s", "converted to targets, once"),
        Column("tokens", "per caption, with padding"),
        Column("trained", "parameters"),
        Column("tower", "parameters"),
        Column("warm-up", "s, not timed"),
    ]
    names = [name for name in comparison.experiments if name in by_name or name in counts]
    shown = []
    for name in names:
        peaks = counts.get(name, {})
        why = "this device has no such counter" if peaks else "no memory run is recorded"
        memory = [
            Cell.measured(peaks.get(column), lambda size: format_memory(size, unit), why) for column in kept or ["none"]
        ]
        shown.append([experiment_cell(comparison, name), *memory, *_usage_and_size_cells(by_name.get(name), busy)])
    return Table.of_rows("Memory, utilisation, targets and sizes", columns, shown)


def runs_table(comparison: ComparisonRecords) -> Table:
    """Show the images per second of every run, and by how much other work slowed it."""
    most = max((len(row.rounds) for row in comparison.throughputs), default=0)
    columns = [Column.text("experiment"), *(Column(f"run {number + 1}", "images/s") for number in range(most))]
    shown = [
        [
            experiment_cell(comparison, row.experiment),
            *(Cell.of(rate, format_rate, _slowed_note(row.log_slowdown[one])) for one, rate in row.rounds.items()),
            *[Cell.not_applicable("this experiment has fewer runs")] * (most - len(row.rounds)),
        ]
        for row in comparison.throughputs
    ]
    return Table.of_rows("Images per second of every run", columns, shown)


def untimed_experiments(comparison: ComparisonRecords) -> list[str]:
    """Return the experiments whose timed runs all failed."""
    timed = {row.experiment for row in comparison.throughputs}
    failed = {experiment_name(record) for record, _ in comparison.of(Failure)}
    return [name for name in comparison.experiments if name in failed and name not in timed]


def _speed_row(comparison: ComparisonRecords, row: Throughput) -> list[Cell]:
    is_base = row.experiment == comparison.base
    why = IS_BASE if is_base else (comparison.incomparable or "no other experiment was timed")
    p = verdict = Cell.not_applicable(why)
    if row.ratio is not None:
        p = Cell.applicable(row.ratio.p, format_p_value, ONE_RUN)
        verdict = Cell(VERDICTS[row.ratio.verdict], "", row.ratio.verdict)
    return [
        experiment_cell(comparison, row.experiment),
        Cell.of(row.images_per_second, format_rate, format_interval(row.interval, format_rate) or "one run"),
        Cell.of(len(row.rounds)),
        BASE_CELL if is_base else _add_interval_before_widening(Cell.estimate(row.ratio, format_ratio, why), row.ratio),
        BASE_CELL if is_base else Cell.estimate(row.unweighted_ratio, format_ratio, why),
        p,
        verdict,
        BASE_CELL if is_base else Cell.estimate(row.forward_backward, format_ratio, why),
        BASE_CELL if is_base else Cell.measured(row.flop_ratio, format_ratio, why),
        Cell.measured(row.mfu, format_percent, row.peak_source),
        Cell.measured(row.figures["hardware_flops_utilisation"], format_percent, row.peak_source),
    ]


def _add_interval_before_widening(cell: Cell, found: Ratio | None) -> Cell:
    if found is None or found.interval_before_widening is None:
        return cell
    return replace(
        cell, note=f"{cell.note}; widened, from {' to '.join(map(format_ratio, found.interval_before_widening))}"
    )


def _slowed_note(log_slowdown: float) -> str:
    return f"slowed by {format_percent(math.expm1(log_slowdown), 0)}" if log_slowdown else ""


def _untimed_row(comparison: ComparisonRecords, name: str, width: int) -> list[Cell]:
    empty = Cell.unmeasured("every timed run of this experiment failed")
    row = [experiment_cell(comparison, name), *[empty] * (width - 1)]
    row[6] = Cell("✕ failed", "see failures", "failed", anchor="failures")
    return row


def _usage_and_size_cells(row: Throughput | None, busy: Sequence[str]) -> list[Cell]:
    of = row.figures if row else {}

    def known(column: str, why: str = "no timed run is recorded") -> Cell:
        return Cell.measured(of.get(column), format_count if column.endswith("parameters") else format_rate, why)

    reads_text = row is None or of.get("tokens_per_caption") is not None
    return [
        *(known(column, "not read on this device") for column in busy),
        known("captions_per_second"),
        known("tokens_per_caption") if reads_text else Cell.not_applicable("the method reads no text"),
        known("trained_parameters"),
        known("tower_parameters"),
        replace(known("warmup_seconds"), note=row.heating if row else ""),
    ]


def describe_intervals(comparison: ComparisonRecords) -> str:
    """Return sentences on the number of runs, the unit of repetition of the intervals, and the captions."""
    numbers = sorted({len(row.rounds) for row in comparison.throughputs})
    if not numbers:
        return ""
    text = pluralize(numbers[0], "run") if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} runs"
    captions = f"Captions: {describe_captions(comparison.experiments.values())}."
    if numbers == [1]:
        return f"n: {text} each, in a fresh process. One run gives neither an interval nor a verdict. {captions}"
    return (
        f"n: {text} each, every run in a fresh process. Intervals are over these runs on this machine at this time and "
        "do not cover other machines, seeds or data. A ratio is one of geometric means over runs, so it may differ in "
        f"its last digit from the ratio of the medians shown. {captions}"
    )
