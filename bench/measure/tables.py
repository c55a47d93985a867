"""Tables of experiments, of the batches that were tried, and of what runs skipped or why they failed. No torch here."""

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
        (r.experiment, r.measured)
        for r in records
        if isinstance(r.measured, BatchTrial) and r.experiment
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
    counts = {
        (r.experiment.name, str(r.measured.__struct_config__.tag), what): number
        for r in records
        if isinstance(r.measured, RunOnSamples) and r.experiment
        for what, number in (
            r.measured.skipped | {EMPTY_CAPTION: r.measured.empty_captions}
        ).items()
    }
    note = "Images that cannot be decoded count each time that the run, of several processes rank 0, reads them."
    rows = [
        [
            Cell.of_name(label(name), name),
            Cell.of(run),
            Cell.of(what),
            Cell.of(number, format_count),
        ]
        for (name, run, what), number in counts.items()
        if number
    ]
    columns = [*Column.texts("experiment", "run", "what"), Column("samples")]
    return Table.of_rows("Samples skipped or without text", columns, rows, note)


def failure_table(records: Iterable[Record], label: Callable[[str], str] = str) -> Table:
    """List the runs that failed in the order of their starts, experiments by their labels."""
    columns = [*Column.texts("experiment", "run", "reason"), Column.text("started", "UTC")]
    failed = [
        (record, record.measured) for record in records if isinstance(record.measured, Failure)
    ]
    failed.sort(key=lambda found: found[0].circumstances.started_at)
    rows = [
        [
            Cell.of_name(label(r.experiment.name), r.experiment.name)
            if r.experiment
            else Cell("none"),
            *map(Cell.of, (failure.what, failure.reason, r.circumstances.started_at)),
        ]
        for r, failure in failed
    ]
    return Table.of_rows("Runs that failed", columns, rows)
