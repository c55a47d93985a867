"""Figures as tables on a terminal, and as JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from bench.config import MAY_DIFFER, Experiment
from bench.record import Memory, Record, Speed, Transfer, rates_of, require_comparable
from bench.statistics import accuracy_interval, ratios_of

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of figures, what is said under them, and both as JSON."""

    rows: Sequence[dict[str, Any]]
    note: str = ""

    def print(self, json_file: Path | None = None) -> None:
        """Print to standard output, and write the figures where asked to."""
        if json_file is not None:
            json_file.write_text(json.dumps({"rows": list(self.rows), "note": self.note}, indent=1, allow_nan=False))
        if self.rows:
            print(pd.DataFrame(self.rows, dtype=object).map(_shown).to_string(index=False))
            print(self.note, end="\n\n" if self.note else "")


def experiment_table(experiments: Iterable[Experiment]) -> Table:
    """List experiments."""
    return Table(
        [
            {
                "experiment": experiment.name,
                "method": experiment.method,
                "tower": experiment.tower,
                "px": experiment.image_size,
                "batch": experiment.batch_size,
                "images": experiment.images,
            }
            for experiment in experiments
        ]
    )


def speed_table(records: Sequence[Record], names: Sequence[str]) -> Table:
    """Compare the throughput of experiments to that of the first name that was timed."""
    rates = rates_of(records)
    if not rates:
        return Table([])
    require_comparable((r for r in records if isinstance(r.measured, Speed)), may_differ=MAY_DIFFER)
    steps = {
        r.experiment.name: r.measured.flops.step for r in records if isinstance(r.measured, Speed) and r.experiment
    }
    base, *others = (name for name in names if name in rates)
    ratios = ratios_of(rates[base], {name: rates[name] for name in others})
    memory = {r.experiment.name: r.measured for r in records if isinstance(r.measured, Memory) and r.experiment}
    rows = []
    for name in (base, *others):
        ratio = ratios.get(name)
        rows.append(
            {
                "experiment": name,
                "runs": len(rates[name]),
                "images/s": round(median(rates[name]), 1),
                "ratio": ratio and ratio.value,
                "low": ratio and ratio.low,
                "high": ratio and ratio.high,
                "p": ratio and ratio.p,
                "verdict": ratio and ratio.verdict,
                "by FLOPs": steps[base] / steps[name] if ratio else None,
                **_peaks_mib(memory.get(name)),
            }
        )
    note = f"ratio: images/s over those of {base}, with its 95 % interval over runs (fresh processes, this machine, "
    return Table(
        rows, note + "this hour). p: permutation, adjusted by Holm. by FLOPs: what the matrix products predict."
    )


def score_table(records: Sequence[Record]) -> Table:
    """List accuracies on the test parts."""
    rows = []
    for record in records:
        if isinstance(record.measured, Transfer):
            row: dict[str, Any] = {"features": record.measured.subject, "images": record.measured.images}
            if record.experiment is not None:
                row["seed"] = record.experiment.seed
            for score in record.measured.scores:
                if score.protocol == "linear probe":
                    row[score.task] = accuracy_interval([answer == "1" for answer in score.correct]).value
            rows.append(row)
    rows.sort(key=lambda row: (row["images"], row["features"]))
    return Table(rows, "Linear probe: share of the test pictures told right. One training seed ranks nothing.")


def _peaks_mib(memory: Memory | None) -> dict[str, float]:
    if memory is None:
        return {}
    peaks = {"peak resident MiB": memory.peak_rss_bytes, "peak allocated MiB": memory.peak_allocated_bytes}
    return {name: round(peak / MIB, 1) for name, peak in peaks.items() if peak is not None}


def _shown(value: object) -> str:
    if value is None or value != value:  # noqa: PLR0124 - pandas turns a missing figure into NaN
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if value < 10 else f"{value:,.1f}"  # noqa: PLR2004
    return f"{value:,}" if isinstance(value, int) else str(value)
