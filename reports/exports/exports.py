"""The verb `export`: figures in the formats of other tools."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any, Literal

import numpy as np
from tyro.conf import Positional

from bench.console.console import log_damaged_files
from bench.measure.observations import Observation, read_observations
from reports.render.document import encode_csv, write_page
from reports.series import Series, build_history, figures_frame

Format = Literal["csv", "parquet", "pytest-benchmark"]


@dataclass(frozen=True)
class ExportFigures:
    """Write figures in the format of another tool, and print their path."""

    results: Positional[tuple[Path, ...]]
    """Files or folders of documents and records."""
    format: Format
    out: Path
    """Path of the file."""

    def run(self) -> int:
        """Read the figures and write the file."""
        damaged = list[str]()
        figures = read_observations(self.results, damaged)
        write_page(self.out, export_figures(figures, self.format))
        return log_damaged_files(damaged)


def export_figures(figures: Sequence[Observation], form: Format) -> bytes:
    """Return the figures of the newest commit in this format; csv and parquet contain those of all commits.

    Raises ValueError where the format can represent none of them, or where it would mix machines.
    """
    return WRITERS[form](figures)


def newest_series(figures: Sequence[Observation]) -> list[Series]:
    """Return the series of the newest commit, of one point each; raise ValueError if several machines measured it."""
    commit = build_history(figures).commits[-1]
    history = build_history([figure for figure in figures if figure.commit == commit])
    if len(history.machines) > 1:
        raise ValueError(
            f"{commit.short} was measured on several machines, but this format has no machines; name the files of "
            f"one: {'; '.join(history.machines)}"
        )
    return list(history.series)


def _write_pytest_benchmark(figures: Sequence[Observation]) -> bytes:
    """Write the times of the processes as rounds of a benchmark, and counters as its extra_info."""
    lines = newest_series(figures)
    timed = [line for line in lines if line.metric.unit in ("s", "images/s")]
    counters: dict[object, dict[str, float]] = defaultdict(dict)
    for line in lines:
        if line not in timed:
            counters[line.benchmark][line.metric.name] = line.points[0].value
    if not timed:
        raise ValueError("pytest-benchmark's format needs times, and there are none; choose csv")
    first = next(figure for figure in figures if figure.commit == timed[0].points[0].commit)
    document = {
        "machine_info": {"fingerprint": timed[0].machine, "cpu": {}},
        "commit_info": {
            "id": first.commit.id,
            "time": first.committed_at,
            "dirty": first.commit.is_dirty,
        },
        "benchmarks": [_benchmark_entry(line, counters[line.benchmark]) for line in timed],
        "datetime": first.measured_at,
        "version": "5.3.1",
    }
    return _encode_json(document)


def _benchmark_entry(line: Series, extra: dict[str, float]) -> dict[str, Any]:
    """Return one benchmark, in seconds per call or per image."""
    values = line.points[0].runs
    seconds = [value if line.metric.unit == "s" else 1 / value for value in values]
    return {
        "group": line.benchmark.group,
        "name": line.benchmark.short,
        "fullname": line.benchmark.name,
        "params": None,
        "param": None,
        "extra_info": extra
        | ({} if line.metric.unit == "s" else {line.metric.name: median(values)}),
        "options": {"disable_gc": False, "timer": "perf_counter", "warmup": True},
        "stats": _round_stats(seconds),
    }


def _round_stats(seconds: Sequence[float]) -> dict[str, Any]:
    first, middle, third = (float(np.quantile(seconds, share)) for share in (0.25, 0.5, 0.75))
    low, high = first - 1.5 * (third - first), third + 1.5 * (third - first)
    inside = [value for value in seconds if low <= value <= high]
    mean, spread = fmean(seconds), stdev(seconds) if len(seconds) > 1 else 0.0
    far = sum(abs(value - mean) > spread for value in seconds)
    return {
        "min": min(seconds),
        "max": max(seconds),
        "mean": mean,
        "stddev": spread,
        "rounds": len(seconds),
        "median": middle,
        "iqr": third - first,
        "q1": first,
        "q3": third,
        "iqr_outliers": len(seconds) - len(inside),
        "stddev_outliers": far,
        "outliers": f"{far};{len(seconds) - len(inside)}",
        "ld15iqr": min(inside),
        "hd15iqr": max(inside),
        "ops": 1 / mean,
        "total": math.fsum(seconds),
        "data": list(seconds),
        "iterations": 1,
    }


def _encode_json(content: object) -> bytes:
    return json.dumps(content, indent=1, allow_nan=False).encode()


WRITERS: dict[Format, Callable[[Sequence[Observation]], bytes]] = {
    "pytest-benchmark": _write_pytest_benchmark,
    "csv": lambda figures: encode_csv(figures_frame(build_history(figures))),
    "parquet": lambda figures: figures_frame(build_history(figures)).to_parquet(index=False),
}
