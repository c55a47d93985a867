"""Tables of what runs skipped and why they failed. No torch here."""

from collections.abc import Callable, Iterable
from typing import Any

from bench.records.record import Failure, Record, RunOnSamples
from bench.statistics.ratios import RateRatio
from bench.tables.tables import Table


def ratio_cells(ratio: RateRatio | None) -> dict[str, Any]:
    """Return the cells ratio, low, high, p and verdict of a table's row, by column; all None without a ratio."""
    if ratio is None:
        return dict.fromkeys(("ratio", "low", "high", "p", "verdict"))
    return {
        "ratio": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
        "p": ratio.p,
        "verdict": ratio.verdict,
    }


def sample_flaw_table(records: Iterable[Record], to_label: Callable[[str], str] = str) -> Table:
    """Count the samples that runs skipped, by what is wrong with them.

    `to_label` turns an experiment's name into what is shown.
    """
    rows = {}
    for record in records:
        run = record.measured
        if not isinstance(run, RunOnSamples):
            continue
        experiment = to_label(record.experiment_name)
        kind = str(run.__struct_config__.tag)
        for flaw, number in run.skipped.items():
            if number:
                row = {"experiment": experiment, "run": kind, "what": flaw, "samples": number}
                rows[experiment, kind, flaw] = row
    note = "Images that cannot be decoded count each time that the run, of several processes rank 0, reads them."
    return Table.from_dicts("Samples skipped", list(rows.values()), note)


def failed_run_table(records: Iterable[Record], to_label: Callable[[str], str] = str) -> Table:
    """List failed runs in the order of their starts; `to_label` turns an experiment's name into what is shown."""
    rows = []
    for record in sorted(records, key=lambda record: record.circumstances.started_at):
        failure = record.measured
        if isinstance(failure, Failure):
            row = {
                "experiment": to_label(record.experiment_name) or "none",
                "run": failure.what,
                "reason": failure.reason,
                "started, UTC": record.circumstances.started_at,
            }
            rows.append(row)
    return Table.from_dicts("Runs that failed", rows)
