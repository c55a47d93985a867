"""Figures and curves in the formats of other tools: documents of benchmarks, tables, event files of TensorBoard."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any, Literal

import numpy as np

from bench.config import Experiment
from bench.data.image_sizes import images_before
from bench.environment.files import atomic_write, plain_name, read_intact_files
from bench.history.observations import BenchmarkId, Observation, json_files, observations_of_record
from bench.measure.throughput import window_rates
from bench.record import Memory, Record, Speed, Training, Transfer, is_record, read_record
from bench.statistics import mean_interval
from reports.history.series import Series, build_history, figures_frame
from reports.render.formats import pluralize
from reports.render.frames import experiment_name, loss_curve_parts

Format = Literal["pytest-benchmark", "github-action-bigger", "github-action-smaller", "bencher", "csv", "parquet"]
LONGEST_BENCHMARK, LONGEST_MEASURE = 1024, 64  # characters of a name that Bencher accepts
EVENTS = "events.out.tfevents.0"  # the file name by which TensorBoard finds a run
VERSION = "brain.Event:2"  # of the file's format


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
        raise ValueError("pytest-benchmark's format needs times, and there are none; choose csv or bencher")
    first = next(figure for figure in figures if figure.commit == timed[0].points[0].commit)
    document = {
        "machine_info": {"fingerprint": timed[0].machine, "cpu": {}},
        "commit_info": {"id": first.commit.id, "time": first.committed_at, "dirty": first.commit.is_dirty},
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
        "extra_info": extra | ({} if line.metric.unit == "s" else {line.metric.name: median(values)}),
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


def _write_github_action(figures: Sequence[Observation], *, bigger: bool) -> bytes:
    """Write the figures with one direction: the action reads a file as bigger-is-better or smaller-is-better."""
    lines = newest_series(figures)
    names = _unique_names(lines)
    rows = [
        {
            "name": f"{names[line.benchmark]}, {line.metric.name}",
            "unit": line.metric.unit or "1",
            "value": line.points[0].value,
            **({"range": f"± {stdev(values):.3g}"} if len(values := line.points[0].runs) > 1 else {}),
            "extra": f"{pluralize(len(values), 'process', 'processes')}; {line.machine}",
        }
        for line in lines
        if line.metric.better == ("more" if bigger else "less")
    ]
    if not rows:
        raise ValueError(f"no figure is {'bigger' if bigger else 'smaller'}-is-better; choose the other format")
    return _encode_json(rows)


def _write_bencher(figures: Sequence[Observation]) -> bytes:
    """Write Bencher Metric Format: all metrics of a benchmark, with the interval of their mean."""
    lines = newest_series(figures)
    names, found = _unique_names(lines), defaultdict[str, dict[str, dict[str, float]]](dict)
    for line in lines:
        values = line.points[0].runs
        metric = {"value": line.points[0].value}
        if len(values) > 1 and not line.metric.is_counter:
            interval = mean_interval(values)
            lower, upper = min(interval.low, metric["value"]), max(interval.high, metric["value"])
            metric |= {"lower_value": lower, "upper_value": upper}
        measure = f"{line.metric.name} ({line.metric.unit})" if line.metric.unit else line.metric.name
        found[names[line.benchmark][-LONGEST_BENCHMARK:]][measure[:LONGEST_MEASURE]] = metric
    return _encode_json(found)


def _unique_names(lines: Sequence[Series]) -> dict[BenchmarkId, str]:
    """Return the names of subjects, with the settings where several subjects share a name."""
    subjects = list(dict.fromkeys(line.benchmark for line in lines))
    counts = Counter(subject.name for subject in subjects)
    return {one: f"{one.name} ({one.settings})" if counts[one.name] > 1 else one.name for one in subjects}


def _encode_json(content: object) -> bytes:
    return json.dumps(content, indent=1, allow_nan=False).encode()


WRITERS: dict[Format, Callable[[Sequence[Observation]], bytes]] = {
    "pytest-benchmark": _write_pytest_benchmark,
    "github-action-bigger": lambda figures: _write_github_action(figures, bigger=True),
    "github-action-smaller": lambda figures: _write_github_action(figures, bigger=False),
    "bencher": _write_bencher,
    "csv": lambda figures: figures_frame(build_history(figures)).to_csv(index=False, lineterminator="\n").encode(),
    "parquet": lambda figures: figures_frame(build_history(figures)).to_parquet(index=False),
}


@dataclass(frozen=True, slots=True, order=True)
class Scalar:
    """A point of a curve; the part of its name before the slash groups curves."""

    images: int  # images seen, by all processes together
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Scalars:
    """The points of one subject with one seed in one comparison, in the order of images seen."""

    comparison: str
    subject: str
    experiment: Experiment | None  # None: the subject was not trained
    began_at: str  # UTC, ISO 8601
    points: tuple[Scalar, ...]

    @property
    def folder(self) -> Path:
        """The folder COMPARISON/SUBJECT.seedN, with unsafe characters of the names replaced."""
        seed = "" if self.experiment is None else f".seed{self.experiment.seed}"
        return Path(plain_name(self.comparison)) / f"{plain_name(self.subject.replace(' ', '-'))}{seed}"


def read_scalars(locations: Sequence[Path], damaged: list[str]) -> list[Scalars]:
    """Read records from files, and from folders recursively; append the errors of damaged ones to `damaged`.

    Raises ValueError where no record has a loss, a speed, a memory or a score.
    """
    paths = [path for location in locations for path in json_files(location) if is_record(path)]
    records, errors = read_intact_files(paths, read_record)
    if not (found := scalars_of(records)):
        text = "; ".join([", ".join(map(str, locations)), *errors[:1]])
        raise ValueError(f"{text}: no record of a training, a speed, a memory or a score; name a folder of records")
    damaged += errors
    return found


def scalars_of(records: Iterable[Record]) -> list[Scalars]:
    """Group the points by comparison, subject and seed, in this order."""
    groups: dict[tuple[str, str, int], list[Record]] = defaultdict(list)
    for record in records:
        if isinstance(record.measured, (Transfer, Training, Speed, Memory)):
            subject = getattr(record.measured, "subject", experiment_name(record))
            seed = -1 if record.experiment is None else record.experiment.seed
            groups[record.comparison, subject, seed].append(record)
    return [
        Scalars(
            comparison,
            subject,
            group[0].experiment,
            min(record.circumstances.started_at for record in group),
            tuple(sorted(point for record in group for point in _record_points(record))),
        )
        for (comparison, subject, _), group in sorted(groups.items())
    ]


def _record_points(record: Record) -> Iterator[Scalar]:
    experiment, measured, processes = record.experiment, record.measured, record.circumstances.processes
    match measured:
        case Transfer():
            yield from _score_points(measured)
        case Training() if experiment is not None:
            for part, losses in loss_curve_parts(experiment, measured, processes):
                yield from (Scalar(images, f"loss/{part}", loss) for images, loss in losses)
        case Speed() if experiment is not None:
            for number, rate in enumerate(window_rates(experiment, measured), 1):
                seen = images_before(experiment, experiment.warmup_steps + number * experiment.steps_per_window)
                yield Scalar(seen * processes, f"images per second/round {measured.round + 1}", rate)
        case Memory() if experiment is not None:
            seen = images_before(experiment, measured.steps) * processes
            for figure in observations_of_record(record):
                yield Scalar(seen, f"memory/{figure.metric.name}, bytes", figure.value)


def _score_points(transfer: Transfer) -> Iterator[Scalar]:
    """Yield the scores on whole tasks, averaged over draws; those with few labels have no curve."""
    values: dict[str, list[float]] = defaultdict(list)
    for score in transfer.scores:
        if score.per_class is None and score.label_share is None:
            share = score.correct.count("1") / len(score.correct)
            values[f"accuracy/{score.task}, {score.protocol}"].append(share)
    for metric in transfer.metrics:
        if metric.per_class is None and metric.num_test:  # without test images it is a metric of class names
            values[f"{metric.name}/{metric.task}, {metric.protocol}"].append(metric.value)
    yield from (Scalar(transfer.images, name, fmean(found)) for name, found in values.items())


def write_event_files(found: Sequence[Scalars], out: Path) -> None:
    """Write OUT/COMPARISON/SUBJECT.seedN for each, with images seen as steps; equal records give equal bytes.

    Raises ValueError where tensorboard is not installed.
    """
    if find_spec("tensorboard") is None:
        raise ValueError("--format tensorboard needs a package: python -m pip install -e '.[tensorboard]'")
    from tensorboard.summary.writer.record_writer import RecordWriter

    for one in found:
        with atomic_write(out / one.folder / EVENTS) as temporary, temporary.open("wb") as file:
            writer = RecordWriter(file)
            for event in _events(one):
                writer.write(event.SerializeToString())


def _events(one: Scalars) -> Iterator[Any]:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    began = datetime.fromisoformat(one.began_at).timestamp()
    yield Event(wall_time=began, file_version=VERSION)
    for point in one.points:
        value = Summary.Value(tag=point.name, simple_value=point.value)
        yield Event(wall_time=began, step=point.images, summary=Summary(value=[value]))
