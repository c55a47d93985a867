"""Figures in the formats that other tools read."""

import io
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean, median, stdev
from typing import Any, Literal

import numpy as np

from bench.history.figures import Figure, Subject
from bench.statistics import mean_interval
from reports.history.series import Line, figures_frame, history_of

Format = Literal["pytest-benchmark", "github-action-bigger", "github-action-smaller", "bencher", "csv", "parquet"]
LONGEST_BENCHMARK, LONGEST_MEASURE = 1024, 64  # letters of a name that bencher takes


def exported(figures: Sequence[Figure], form: Format) -> bytes:
    """Return the figures of the newest commit in this format; csv and parquet hold those of all commits.

    ValueError where the format can hold none of them, or where figures of several machines would be mixed.
    """
    return WRITERS[form](figures)


def newest(figures: Sequence[Figure]) -> list[Line]:
    """Return the newest commit's lines, of one point each; ValueError where several machines measured it."""
    history = history_of(figures)
    commit = history.commits[-1]
    found = history_of([figure for figure in figures if figure.commit == commit])
    if len(found.machines) > 1:
        raise ValueError(
            f"{commit.short} was measured on several machines, which this format cannot tell apart; name the files of "
            f"one: {'; '.join(found.machines)}"
        )
    return list(found.lines)


def _pytest_benchmark(figures: Sequence[Figure]) -> bytes:
    """Write every process' times as rounds of one benchmark, counters as its extra_info."""
    lines = newest(figures)
    timed = [line for line in lines if line.measure.unit in ("s", "images/s")]
    counted: dict[object, dict[str, float]] = defaultdict(dict)
    for line in lines:
        if line not in timed:
            counted[line.subject][line.measure.name] = line.points[0].value
    if not timed:
        raise ValueError("pytest-benchmark's format holds times, and there are none")
    first = next(figure for figure in figures if figure.commit == timed[0].points[0].commit)
    document = {
        "machine_info": {"fingerprint": timed[0].machine, "cpu": {}},
        "commit_info": {"id": first.commit.id, "time": first.committed_at, "dirty": first.commit.is_dirty},
        "benchmarks": [_benchmark(line, counted[line.subject]) for line in timed],
        "datetime": first.measured_at,
        "version": "5.3.1",
    }
    return _json(document)


def _benchmark(line: Line, extra: dict[str, float]) -> dict[str, Any]:
    """Return one benchmark; seconds are of a call, or of an image."""
    values = line.points[0].runs
    seconds = [value if line.measure.unit == "s" else 1 / value for value in values]
    return {
        "group": line.subject.group,
        "name": line.subject.short,
        "fullname": line.subject.name,
        "params": None,
        "param": None,
        "extra_info": extra | ({} if line.measure.unit == "s" else {line.measure.name: median(values)}),
        "options": {"disable_gc": False, "timer": "perf_counter", "warmup": True},
        "stats": _stats(seconds),
    }


def _stats(seconds: Sequence[float]) -> dict[str, Any]:
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


def _github_action(figures: Sequence[Figure], *, bigger: bool) -> bytes:
    """Write what is better the bigger, or the smaller: the action reads one direction from one file."""
    lines = newest(figures)
    names = _names(lines)
    rows = [
        {
            "name": f"{names[line.subject]}, {line.measure.name}",
            "unit": line.measure.unit or "1",
            "value": line.points[0].value,
            **({"range": f"± {stdev(values):.3g}"} if len(values := line.points[0].runs) > 1 else {}),
            "extra": f"{len(values)} processes; {line.machine}" if len(values) > 1 else f"1 process; {line.machine}",
        }
        for line in lines
        if line.measure.better == ("more" if bigger else "less")
    ]
    if not rows:
        raise ValueError(f"there is no figure that is better the {'bigger' if bigger else 'smaller'}")
    return _json(rows)


def _bencher(figures: Sequence[Figure]) -> bytes:
    """Write Bencher Metric Format: all measures of a benchmark, with the interval of the mean where there is one."""
    lines = newest(figures)
    names, found = _names(lines), defaultdict[str, dict[str, dict[str, float]]](dict)
    for line in lines:
        values = line.points[0].runs
        metric = {"value": line.points[0].value}
        if len(values) > 1 and not line.measure.is_counter:
            interval = mean_interval(values)
            metric |= {
                "lower_value": min(interval.low, metric["value"]),
                "upper_value": max(interval.high, metric["value"]),
            }
        measure = f"{line.measure.name} ({line.measure.unit})" if line.measure.unit else line.measure.name
        found[names[line.subject][-LONGEST_BENCHMARK:]][measure[:LONGEST_MEASURE]] = metric
    return _json(found)


def _names(lines: Sequence[Line]) -> dict[Subject, str]:
    """Tell experiments of one name and different settings apart."""
    subjects = list(dict.fromkeys(line.subject for line in lines))
    often = Counter(subject.name for subject in subjects)
    return {one: f"{one.name} ({one.settings})" if often[one.name] > 1 else one.name for one in subjects}


def _csv(figures: Sequence[Figure]) -> bytes:
    return figures_frame(history_of(figures)).to_csv(index=False, lineterminator="\n").encode()


def _parquet(figures: Sequence[Figure]) -> bytes:
    buffer = io.BytesIO()
    figures_frame(history_of(figures)).to_parquet(buffer, index=False)
    return buffer.getvalue()


def _json(content: object) -> bytes:
    return json.dumps(content, indent=1, allow_nan=False).encode()


WRITERS: dict[Format, Callable[[Sequence[Figure]], bytes]] = {
    "pytest-benchmark": _pytest_benchmark,
    "github-action-bigger": lambda figures: _github_action(figures, bigger=True),
    "github-action-smaller": lambda figures: _github_action(figures, bigger=False),
    "bencher": _bencher,
    "csv": _csv,
    "parquet": _parquet,
}
