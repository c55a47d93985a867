"""The tables of the throughput section."""

from collections.abc import Sequence

from bench.record import Fit, Memory
from reports.render.formats import GIB, MIB, NBSP, count, memory, p_value, percent, rate, ratio, span, times
from reports.render.frames import COUNTS, UTILISATION, Comparison, failures
from reports.render.tables import Cell, Column, Table, absent, figure, missing, named, plain, ratio_cell
from reports.render.words import VERDICTS
from reports.speed.speeds import Throughput, utilisations

EQUAL_BATCH, LARGEST_BATCH = "Throughput of each experiment", "Throughput of each at its largest batch"
INTERVAL = f"95{NBSP}%"
NO_INTERVAL = "one run"
ONE_RUN = "one run: it takes two for an interval"
IS_BASE = "the others are compared with this one"
MEMORY_TITLES = {
    "peak_allocated_bytes": "peak allocated",
    "peak_reserved_bytes": "peak reserved",
    "process_bytes": "process",
    "peak_rss_bytes": "peak resident",
    "peak_tensor_bytes": "tensors",
}
MEMORY_NOTES = {
    "peak_allocated_bytes": "tensors on the device",
    "peak_reserved_bytes": "the allocator's share of the device",
    "process_bytes": "on the device, by NVML",
    "peak_rss_bytes": "above imports and data",
    "peak_tensor_bytes": "counted, the same on every run",
}


def speed_table(comparison: Comparison, rows: Sequence[Throughput], title: str = EQUAL_BATCH) -> Table:
    """Set the measured ratio beside the one that FLOPs predict, with MFU."""
    base = comparison.label(comparison.base or "") if rows else "the base"
    columns = [
        Column("experiment", numeric=False),
        Column("images/s", f"median of runs, {INTERVAL}"),
        Column("runs"),
        Column("ratio", f"to {base}, {INTERVAL}"),
        Column("p", "Holm"),
        Column("verdict", numeric=False),
        Column("forward + backward", f"ratio, {INTERVAL}"),
        Column("FLOP ratio", "what FLOPs alone predict"),
        Column("MFU", "3 x forward over peak"),
    ]
    shown = [_speed_row(comparison, row) for row in rows]
    shown += [_untimed_row(comparison, name, len(columns)) for name in untimed(comparison, rows)]
    return plain(title, columns, shown)


def cost_table(comparison: Comparison, rows: Sequence[Throughput]) -> Table:
    """Show memory, how busy the device was, what targets cost, and sizes."""
    counts, unit = _memory(comparison)
    kept = [name for name in COUNTS if any(found.get(name) is not None for found in counts.values())]
    busy = utilisations(list(rows))
    by_name = {row.experiment: row for row in rows}
    columns = [
        Column("experiment", numeric=False),
        *(Column(MEMORY_TITLES[name], f"{_unit_name(unit)}, {MEMORY_NOTES[name]}") for name in kept),
        *([] if kept else [Column("peak memory", "GiB")]),
        *(Column(name.removeprefix(UTILISATION), "mean over the windows") for name in busy),
        Column("captions/s", "made into targets, once"),
        Column("tokens", "a caption, padding included"),
        Column("trained", "parameters"),
        Column("tower", "parameters"),
        Column("warm-up", "s, not counted"),
    ]
    names = [name for name in comparison.experiments if name in by_name or name in counts]
    shown = [
        [
            _name(comparison, name),
            *_memory_cells(counts.get(name, {}), kept, unit),
            *_cost_cells(by_name.get(name), busy),
        ]
        for name in names
    ]
    return plain("Memory, utilisation, targets and sizes", columns, shown)


def tries_table(comparison: Comparison) -> Table:
    """Show every batch size that was tried under a memory limit."""
    columns = [Column("experiment", numeric=False), Column("batch"), Column("fits", numeric=False)]
    tries = [(one, fit) for record, fit in comparison.of(Fit) if (one := record.experiment) is not None]
    tries.sort(key=lambda tried: (tried[0].method, tried[0].batch_size))
    rows = [
        [
            named(comparison.label(one.name), one.name),
            Cell(count(one.batch_size), "", one.batch_size),
            Cell("✓ fits", "", 1) if fit.fits else Cell("✕ out of memory", fit.reason, 0),
        ]
        for one, fit in tries
    ]
    return plain("Batches tried under the memory limit", columns, rows)


def runs_table(comparison: Comparison, rows: Sequence[Throughput]) -> Table:
    """Show every run behind the chart."""
    most = max((len(row.runs) for row in rows), default=0)
    columns = [
        Column("experiment", numeric=False),
        *(Column(f"run {number + 1}", "images/s") for number in range(most)),
    ]
    shown = [
        [_name(comparison, row.experiment), *(Cell(rate(run), "", run) for run in row.runs)]
        + [absent("it has fewer runs")] * (most - len(row.runs))
        for row in rows
    ]
    return plain("Images per second of every run", columns, shown)


def untimed(comparison: Comparison, rows: Sequence[Throughput]) -> list[str]:
    """Return the experiments whose timed runs all failed: they keep their row."""
    timed = {row.experiment for row in rows}
    failed = {record.experiment.name for record, _ in failures(comparison) if record.experiment is not None}
    return [name for name in comparison.experiments if name in failed and name not in timed]


def _speed_row(comparison: Comparison, row: Throughput) -> list[Cell]:
    is_base = row.experiment == comparison.base
    why = IS_BASE if is_base else (comparison.incomparable or "there is nothing to compare it with")
    found, no_p = row.ratio, absent(why)
    return [
        _name(comparison, row.experiment),
        Cell(rate(row.images_per_second), _interval_note(row), row.images_per_second),
        Cell(str(len(row.runs)), "", len(row.runs)),
        Cell("1", "base", 1) if is_base else ratio_cell(found, ratio, why),
        no_p if found is None else Cell(p_value(found.p), "", found.p) if found.p is not None else absent(ONE_RUN),
        no_p if found is None else Cell(VERDICTS[found.verdict], "", found.verdict),
        Cell("1", "base", 1) if is_base else ratio_cell(row.forward_backward, ratio, why),
        Cell("1", "base", 1) if is_base else figure(row.flop_ratio, ratio, why),
        figure(row.figures["model_flops_utilisation"], percent, row.peak_source),
    ]


def _untimed_row(comparison: Comparison, name: str, width: int) -> list[Cell]:
    empty = missing("every timed run of this experiment failed")
    row = [_name(comparison, name), *[empty] * (width - 1)]
    row[5] = Cell("✕ failed", "see failures", "failed", anchor="failures")
    return row


def _interval_note(row: Throughput) -> str:
    return span(row.interval.low, row.interval.high, rate) if row.interval else NO_INTERVAL


def _memory_cells(counts: dict[str, int | None], kept: Sequence[str], unit: int) -> list[Cell]:
    why = "this device keeps no such count" if counts else "no memory run is recorded"
    return [figure(counts.get(column), lambda size: memory(int(size), unit), why) for column in kept or ["none"]]


def _cost_cells(row: Throughput | None, busy: Sequence[str]) -> list[Cell]:
    of = row.figures if row else {}

    def known(column: str, why: str = "no timed run is recorded") -> Cell:
        return figure(of.get(column), count if column.endswith("parameters") else rate, why)

    reads_text = row is None or of.get("tokens_per_caption") is not None
    return [
        *(known(column, "not read on this device") for column in busy),
        known("captions_per_second"),
        known("tokens_per_caption") if reads_text else absent("it reads no text"),
        known("trained_parameters"),
        known("tower_parameters"),
        known("warmup_seconds"),
    ]


def _memory(comparison: Comparison) -> tuple[dict[str, dict[str, int | None]], int]:
    """Return each experiment's peaks, and the unit in which they read well."""
    counts = {
        record.experiment.name: {name: getattr(found, name) for name in COUNTS}
        for record, found in comparison.of(Memory)
        if record.experiment is not None
    }
    largest = max((size for peaks in counts.values() for size in peaks.values() if size is not None), default=GIB)
    return counts, GIB if largest >= GIB else MIB


def _unit_name(unit: int) -> str:
    return "GiB" if unit == GIB else "MiB"


def _name(comparison: Comparison, name: str) -> Cell:
    return named(comparison.label(name), name)


def runs_note(rows: Sequence[Throughput]) -> str:
    """Say what the figures' n is and what their intervals are over."""
    numbers = sorted({len(row.runs) for row in rows})
    if not numbers:
        return ""
    told = times(numbers[0], "run") if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} runs"
    if numbers == [1]:
        return (
            f"n: {told} each, one fresh process. One run has no spread: there is no interval and nothing can be called."
        )
    return (
        f"n: {told} each, every run a fresh process. Intervals are over these runs, on this machine in this hour; "
        "they say nothing of other machines, seeds or data. A ratio is that of the runs' geometric means, so it may "
        "differ in the last digit from the ratio of the medians shown."
    )
