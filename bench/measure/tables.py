"""Tables of what runs skipped and why they failed. No torch here."""

from collections.abc import Callable, Iterable
from typing import Any

from bench.records.record import Failure, Record, RunOnSamples
from bench.statistics.ratios import Ratio
from bench.tables.tables import Table

EMPTY_CAPTION = "empty caption (used)"


def ratio_cells(ratio: Ratio | None) -> dict[str, Any]:
    """Return the columns ratio, low, high, p and verdict of a table's row; all None without a ratio."""
    columns = {"ratio": None if ratio is None else ratio.value}
    return columns | {name: getattr(ratio, name, None) for name in ("low", "high", "p", "verdict")}


def sample_flaw_table(records: Iterable[Record], label: Callable[[str], str] = str) -> Table:
    """Count the samples that runs skipped, by what is wrong with them, and those used with an empty caption.

    `label` turns an experiment's name into what is shown.
    """
    counts = {}
    for record in records:
        run = record.measured
        if isinstance(run, RunOnSamples):
            experiment = label(record.experiment_name)
            kind = str(run.__struct_config__.tag)
            for flaw, number in run.skipped.items():
                counts[experiment, kind, flaw] = number
            counts[experiment, kind, EMPTY_CAPTION] = run.empty_captions
    rows = []
    for (experiment, kind, flaw), number in counts.items():
        if number:
            row = {"experiment": experiment, "run": kind, "what": flaw, "samples": number}
            rows.append(row)
    note = "Images that cannot be decoded count each time that the run, of several processes rank 0, reads them."
    return Table.from_dicts("Samples skipped or without text", rows, note)


def failure_table(records: Iterable[Record], label: Callable[[str], str] = str) -> Table:
    """List the runs that failed in the order of their starts; `label` turns an experiment's name into what is shown."""
    rows = []
    for record in sorted(records, key=lambda record: record.circumstances.started_at):
        failure = record.measured
        if isinstance(failure, Failure):
            row = {
                "experiment": label(record.experiment_name) or "none",
                "run": failure.what,
                "reason": failure.reason,
                "started, UTC": record.circumstances.started_at,
            }
            rows.append(row)
    return Table.from_dicts("Runs that failed", rows)
