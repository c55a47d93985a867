"""Tables of the batches that were tried, and of what runs skipped or why they failed. No torch here."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bench.experiment.settings import strip_settings
from bench.records.record import BatchTrial, Failure, Record, RunOnSamples
from bench.statistics.ratios import Ratio
from bench.tables.formats import GIB, format_count
from bench.tables.tables import Cell, Column, Table

EMPTY_CAPTION = "empty caption (used)"


def ratio_columns(ratio: Ratio | None) -> dict[str, Any]:
    """Return the cells of a table that show a ratio, its 95 % interval, p and verdict."""
    names = {"ratio": "value", "low": "low", "high": "high", "p": "p", "verdict": "verdict"}
    return {column: ratio and getattr(ratio, name) for column, name in names.items()}


def batch_trial_table(records: Sequence[Record], label: Callable[[str], str] = str) -> Table:
    """List every batch size that was tried under a memory limit, experiments by their labels."""
    columns = [
        Column.text("experiment"),
        Column("batch"),
        Column("limit, GiB"),
        Column.text("fits"),
    ]
    trials = [
        (record.experiment, record.measured)
        for record in records
        if isinstance(record.measured, BatchTrial) and record.experiment
    ]
    trials.sort(key=lambda trial: (strip_settings(trial[0].name), trial[0].training.batch_size))
    rows = [
        [
            Cell.of_name(label(experiment.name), experiment.name),
            Cell.of(experiment.training.batch_size, format_count),
            Cell.of(trial.limit_bytes / GIB, "{:g}".format),
            Cell("yes" if trial.fits else "no: out of memory", trial.reason),
        ]
        for experiment, trial in trials
    ]
    return Table.of_rows("Batches tried under the memory limit", columns, rows)


def sample_table(records: Iterable[Record], label: Callable[[str], str] = str) -> Table:
    """List the samples that runs skipped, by what is wrong with them, or used with an empty caption."""
    rows = {}
    for record in records:
        run = record.measured
        if not isinstance(run, RunOnSamples):
            continue
        name = Cell.of_name(label(record.experiment_name), record.experiment_name)
        kind = str(run.__struct_config__.tag)
        for flaw, number in (run.skipped | {EMPTY_CAPTION: run.empty_captions}).items():
            if number:
                row = [name, Cell.of(kind), Cell.of(flaw), Cell.of(number, format_count)]
                rows[record.experiment_name, kind, flaw] = row
    columns = [*Column.texts("experiment", "run", "what"), Column("samples")]
    note = "Images that cannot be decoded count each time that the run, of several processes rank 0, reads them."
    return Table.of_rows("Samples skipped or without text", columns, [*rows.values()], note)


def failure_table(records: Iterable[Record], label: Callable[[str], str] = str) -> Table:
    """List the runs that failed in the order of their starts, experiments by their labels."""
    columns = [*Column.texts("experiment", "run", "reason"), Column.text("started", "UTC")]
    rows = []
    for record in sorted(records, key=lambda record: record.circumstances.started_at):
        if isinstance(record.measured, Failure):
            name = record.experiment_name
            texts = (
                record.measured.what,
                record.measured.reason,
                record.circumstances.started_at,
            )
            experiment = Cell.of_name(label(name), name) if name else Cell("none")
            rows.append([experiment, *map(Cell.of, texts)])
    return Table.of_rows("Runs that failed", columns, rows)
