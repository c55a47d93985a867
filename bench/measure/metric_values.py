"""Values of metrics, each from one process, from records and pytest-benchmark's documents. No torch here.

Times and resident memory vary between processes and are compared statistically; counters, such as allocated bytes, are
equal in every run of equal code.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from bench.environment.circumstances import summarize_machine_and_software
from bench.environment.files import (
    decode_json,
    prefix_errors,
    read_bytes_unless_larger,
    read_intact_files,
)
from bench.experiment.config import Experiment
from bench.measure.timed_run import TimedRun
from bench.records.record import (
    Memory,
    Record,
    Speed,
    is_record_file,
    list_record_files_of_report,
    read_record,
)

# Entry of `machine_info` in this project's documents; see `summarize_machine_and_software`.
FINGERPRINT = "fingerprint"
UNVERSIONED = ("", "unversioned", "unknown")  # pytest-benchmark's ids of an unknown commit


class PytestBenchmarkStats(msgspec.Struct, frozen=True):
    """The statistics of a benchmark in a pytest-benchmark document: its median time in seconds in one process."""

    median: Annotated[float, msgspec.Meta(gt=0)]


class PytestBenchmark(msgspec.Struct, frozen=True):
    """One benchmark of a pytest-benchmark document; `extra_info` holds counters by their metric's name."""

    name: str
    stats: PytestBenchmarkStats
    group: str | None = None
    fullname: str = ""
    extra_info: dict[str, Any] = {}


class PytestBenchmarkCommit(msgspec.Struct, frozen=True):
    """The timed commit as a pytest-benchmark document names it."""

    id: str = ""
    time: str | None = None  # of the commit, ISO 8601
    dirty: bool = False


class PytestBenchmarkFile(msgspec.Struct, frozen=True):
    """The fields of a pytest-benchmark document that are read."""

    benchmarks: tuple[PytestBenchmark, ...]
    datetime: str = ""
    machine_info: dict[str, Any] = {}
    commit_info: PytestBenchmarkCommit = PytestBenchmarkCommit()
    turn: str = ""  # equal in documents of interleaved processes; "" if not interleaved


def parse_benchmark_file(content: bytes, name: str) -> PytestBenchmarkFile:
    """Decode a document; `name` is the file's in the ValueError for invalid content."""
    with prefix_errors(f"{name}: not a document of pytest-benchmark"):
        return decode_json(content, PytestBenchmarkFile)


@dataclass(frozen=True, slots=True)
class Metric:
    """What is measured: a name, a unit, and the direction that is better."""

    name: str
    unit: str
    better: Literal["more", "less", "same"]  # "same": any change counts as worse
    is_counter: bool  # equal in every run of equal code


SECONDS = Metric("time", "s", "less", is_counter=False)
IMAGES_PER_SECOND = Metric("images per second", "images/s", "more", is_counter=False)
PEAK_RSS = Metric("peak resident memory", "B", "less", is_counter=False)
PEAK_ALLOCATED = Metric("peak allocated memory", "B", "less", is_counter=True)
PEAK_TENSORS = Metric("peak tensor bytes", "B", "less", is_counter=True)
PARAMETERS = Metric("parameters", "", "same", is_counter=True)
STEP_FLOPS = Metric("FLOPs of a step", "FLOP", "less", is_counter=True)
TOKENS = Metric("tokens per caption", "", "less", is_counter=True)
LOSS_AT_3 = Metric("loss at step 3", "nats", "same", is_counter=True)
# The counters in a benchmark's `extra_info`.
SUITE_COUNTERS = (PARAMETERS, PEAK_TENSORS, STEP_FLOPS, TOKENS, LOSS_AT_3)


@dataclass(frozen=True, slots=True)
class CommitOrWorkTree:
    """A commit, or a work tree with changes to it."""

    id: str
    is_dirty: bool = False

    @property
    def short_id(self) -> str:
        """The abbreviated id, with "+" for a changed work tree."""
        abbreviated = self.id[:8] or "unknown"
        return f"{abbreviated}+" if self.is_dirty else abbreviated


@dataclass(frozen=True, slots=True)
class BenchmarkId:
    """What identifies a benchmark, or an experiment with its settings."""

    name: str
    group: str
    settings: str = ""  # digest of an experiment's settings, equal in compared values

    @property
    def name_without_file(self) -> str:
        """The name without the file."""
        return self.name.split("::")[-1]


@dataclass(frozen=True, slots=True)
class MetricValue:
    """A metric's value in one process, with what was measured, where and at which commit."""

    benchmark: BenchmarkId
    metric: Metric
    value: float
    machine: str  # fingerprint, see `summarize_machine_and_software`
    commit: CommitOrWorkTree
    committed_at: str | None  # ISO 8601
    measured_at: str  # ISO 8601
    turn: str = ""  # equal for interleaved processes; "" if not interleaved
    experiment: Experiment | None = None  # None: a benchmark was measured


def read_metric_values(paths: Sequence[Path], damaged_errors: list[str]) -> list[MetricValue]:
    """Read the records and pytest-benchmark documents in files and folders; other JSON files in folders are ignored.

    Only speed and memory records hold metric values. The error messages of damaged files in folders are appended to
    `damaged_errors`. ValueError if a path has no readable value.
    """
    metric_values: list[MetricValue] = []
    for path in paths:
        files, errors = read_intact_files(list_measurement_files(path), _read_metric_values_of_file)
        if errors and not files:  # a damaged file that was named, or a folder of damaged files
            raise ValueError(errors[0])
        damaged_errors += errors
        if not any(files):
            raise ValueError(
                f"{path} measured nothing: no figure in a record or a pytest-benchmark document was found"
            )
        for file in files:
            metric_values += file
    return metric_values


def list_measurement_files(file_or_folder: Path) -> list[Path]:
    """Return the path itself if it is a file; of a folder the records that `report build` reads, and other JSON files.

    Others are all below the folder that are neither records nor hidden. ValueError if the path does not exist.
    """
    if not file_or_folder.exists():
        raise ValueError(f"there is no file or folder {file_or_folder}")
    if file_or_folder.is_file():
        return [file_or_folder]
    files = list_record_files_of_report(file_or_folder)
    for file in file_or_folder.rglob("*.json"):
        is_hidden = "/." in f"/{file.relative_to(file_or_folder).as_posix()}"
        if not is_hidden and not is_record_file(file):
            files.append(file)
    return sorted(files)


def _read_metric_values_of_file(path: Path) -> list[MetricValue]:
    """Return the metric values of a record or of a pytest-benchmark document; none of another JSON file."""
    if is_record_file(path):
        return metric_values_of_record(read_record(path))
    content = read_bytes_unless_larger(path)
    with prefix_errors(f"{path}: not JSON"):
        decoded: object = decode_json(content, object)
    if not isinstance(decoded, dict) or "benchmarks" not in decoded:
        return []
    document = parse_benchmark_file(content, str(path))
    if not document.benchmarks:
        raise ValueError(f"{path} measured nothing: it holds no benchmark")
    return metric_values_of_benchmark_file(document)


def metric_values_of_benchmark_file(document: PytestBenchmarkFile) -> list[MetricValue]:
    """Return each benchmark's median time and counters."""
    metric_values = []
    info = document.commit_info
    machine = str(document.machine_info.get(FINGERPRINT, "unknown machine"))
    commit = CommitOrWorkTree("" if info.id in UNVERSIONED else info.id, info.dirty)
    for benchmark in document.benchmarks:
        name = benchmark.fullname or benchmark.name
        identity = BenchmarkId(name, benchmark.group or "no group")
        values = {SECONDS: benchmark.stats.median}
        for metric in SUITE_COUNTERS:
            if metric.name in benchmark.extra_info:
                values[metric] = float(benchmark.extra_info[metric.name])
        metric_values += [
            MetricValue(
                benchmark=identity,
                metric=metric,
                value=value,
                machine=machine,
                commit=commit,
                committed_at=info.time,
                measured_at=document.datetime,
                turn=document.turn,
            )
            for metric, value in values.items()
        ]
    return metric_values


def metric_values_of_record(record: Record) -> list[MetricValue]:
    """Return the values of a speed or memory record; none of another."""
    experiment = record.experiment
    measured = record.measured
    if experiment is None:
        return []
    values: dict[Metric, float | None] = {}
    if isinstance(measured, Speed):
        values = {
            IMAGES_PER_SECOND: TimedRun(
                experiment, measured
            ).images_per_second_preferably_undisturbed(),
            PARAMETERS: measured.trained_parameters,
            STEP_FLOPS: measured.flops.step,
            TOKENS: measured.tokens_per_caption,
        }
    elif isinstance(measured, Memory):
        values = {
            PEAK_RSS: measured.peak_rss_bytes
            or None,  # 0 has no ratio: within what the start had held
            PEAK_ALLOCATED: measured.peak_allocated_bytes,
            PEAK_TENSORS: measured.peak_tensor_bytes,
        }
    circumstances = record.circumstances
    identity = BenchmarkId(experiment.name, "experiments", _settings_digest(experiment))
    machine = summarize_machine_and_software(circumstances)
    commit = _parse_commit(circumstances.commit)
    return [
        MetricValue(
            benchmark=identity,
            metric=metric,
            value=float(value),
            machine=machine,
            commit=commit,
            committed_at=None,
            measured_at=circumstances.started_at,
            experiment=experiment,
        )
        for metric, value in values.items()
        if value is not None
    ]


def _parse_commit(text: str) -> CommitOrWorkTree:
    """Return a record's commit; its id is empty where only a digest of the sources is known, or nothing."""
    is_known = text not in UNVERSIONED and not text.startswith("sources-")
    identifier = text.removesuffix("-dirty") if is_known else ""
    return CommitOrWorkTree(identifier, text.endswith("-dirty"))


@cache
def _settings_digest(experiment: Experiment) -> str:
    """Return 8 digits that are equal only for experiments with equal settings."""
    encoded = msgspec.json.encode(experiment, order="deterministic")
    return hashlib.sha256(encoded).hexdigest()[:8]
