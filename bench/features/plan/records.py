"""One device's step time, power and largest batch, from records. No torch here."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple, TypeVar

from bench.console.console import PROGRAM, log
from bench.environment.circumstances import Circumstances
from bench.environment.files import read_intact_files
from bench.environment.gpu_specs import GB, GpuSpec, find_gpu_spec
from bench.experiment.config import Experiment, differing_fields, fields_with, format_differences
from bench.features.plan.collectives import FP32_BYTES, ParameterCounts, shard_count
from bench.features.plan.model import ComputeProfile
from bench.measure.throughput import images_per_second, images_per_step, timed_runs
from bench.records.record import (
    BYTES_PER_PARAMETER,
    BatchTrial,
    LinkSpeed,
    Memory,
    Record,
    Speed,
    read_record,
    read_records,
    record_files,
)
from bench.tables.formats import GIB

M = TypeVar("M", Speed, Memory, BatchTrial)
# Fields that do not change the time per image.
FIELDS_WITHOUT_TIME = {
    *fields_with("by batch"),
    *("seed", "head_initialisation", "images", "warmup_images", "learning_rate", "sharding", "windows"),
}
FORWARD = ("augmentation", "image forward", "text forward", "head and loss")
POWER = "power W, by the energy counter"


@dataclass(frozen=True, slots=True)
class TimedRuns:
    """The timed runs of one experiment on one device."""

    experiment: Experiment  # as timed, at its batch
    where: Circumstances
    runs: Sequence[Speed]

    @property
    def watts(self) -> float | None:
        """Mean power of the device during the runs; None if it was not measured."""
        powers = [run.utilisation[POWER] for run in self.runs if POWER in run.utilisation]
        return fmean(powers) if powers else None


def newest_timed_records(path: Path, experiments: Sequence[Experiment]) -> list[Record]:
    """Return the records of a record file's comparison, or of a folder's newest that timed all experiments.

    If none timed all, return the newest that timed any experiment; ValueError if there is none. A folder's damaged
    records are logged and left out.
    """
    if path.is_file():
        return read_records(path.parent, read_record(path).comparison)
    records, damaged = read_intact_files(record_files(path), read_record)
    for error in damaged:
        log(f"left out: {error}")
    names = sorted({record.comparison for record in records}, reverse=True)
    groups = ([record for record in records if record.comparison == name] for name in names)
    timed = [group for group in groups if timed_runs(group)]
    if not timed:
        raise ValueError(f"{path} holds no speed record; {PROGRAM} measure stores them in its results folder")
    whole = (rows for rows in timed if all(any(find_matching(one, rows, Speed)) for one in experiments))
    return next(whole, timed[0])


def find_timed_runs(experiment: Experiment, records: Sequence[Record], path: Path) -> TimedRuns:
    """Return an experiment's timed runs, preferably at its own batch; ValueError names the nearest experiment."""
    rows = find_matching(experiment, records, Speed)
    if not rows:
        timed_experiments = {name: runs[-1][0] for name, runs in timed_runs(records).items()}
        nearest = min((_differences(experiment, other) for other in timed_experiments.values()), key=len)
        raise ValueError(
            f"{path} has no speed record of {experiment.name}: it has {', '.join(timed_experiments)}, "
            f"of which the nearest differs in {format_differences(nearest)}"
        )
    _, timed, where = next(
        (row for row in rows if row[1].training.batch_size == experiment.training.batch_size), rows[0]
    )
    if where.processes > 1:
        raise ValueError(f"{path}: {timed.name} was timed on {where.processes} processes; a plan needs records of one")
    runs = [run for run, one, _ in rows if one.training.batch_size == timed.training.batch_size]
    if not all(run.phase_seconds for run in runs):
        raise ValueError(f"{path}: {timed.name} was timed without phases; a plan needs them")
    return TimedRuns(timed, where, runs)


def measured_compute(runs: TimedRuns, loss_flops: float) -> ComputeProfile:
    """Return the seconds of one device: medians over the runs.

    The step time is that of the windows, in which phases may overlap; it is divided in proportion to the phases.
    """
    phases = zip(*(_seconds_by_phase(runs.experiment, run) for run in runs.runs), strict=True)
    medians = _PhaseSeconds(*map(median, phases))
    return ComputeProfile(*medians, runs.experiment.mean_batch_size, loss_flops)


class _PhaseSeconds(NamedTuple):
    """The seconds of a step's phases: the optimizer's of a step, the others' of an image."""

    data: float
    forward: float
    backward: float
    optimizer: float


def _seconds_by_phase(experiment: Experiment, run: Speed) -> _PhaseSeconds:
    """Return the seconds of a run's phases, scaled to the step time of its windows."""
    images = images_per_step(experiment, run)
    typical: Callable[[Sequence[float]], float] = fmean if run.phase_images else median
    phases = {name: typical(seconds) for name, seconds in run.phase_seconds.items()}
    scale = images / images_per_second(experiment, run) / sum(phases.values())
    forward = scale * sum(phases.get(name, 0.0) for name in FORWARD)
    data, backward, optimizer = (scale * phases.get(name, 0.0) for name in ("data", "backward", "optimizer"))
    return _PhaseSeconds(data / images, forward / images, backward / images, optimizer)


def estimate_max_batch(
    experiment: Experiment,
    records: Sequence[Record],
    limit_bytes: float,
    weights: ParameterCounts,
    gpus: int,
    per_node: int,
) -> tuple[int | None, str]:
    """Return the largest batch of one device under a memory limit, and how it is known.

    The largest batch that was tried is preferred. Else peak tensor bytes are extrapolated: linearly through two batch
    sizes, or from one with 16 bytes per parameter (weights, gradients, moments) and the rest in proportion to images.
    Sharding divides the constant share; `zero2` keeps the blocks' weights whole beside it. Captions gathered from all
    devices, and their gradients, are added per image.
    """
    trials = [row for row in find_matching(experiment, records, BatchTrial) if row[0].limit_bytes <= limit_bytes]
    if sizes := [one.training.batch_size for trial, one, _ in trials if trial.fits]:
        limit = max(trial.limit_bytes for trial, _, _ in trials) / GIB
        return max(sizes), f"tried, under {limit:g} GiB on one device"
    memories = [(memory.peak_tensor_bytes, one) for memory, one, _ in find_matching(experiment, records, Memory)]
    peaks = {one.mean_batch_size: peak for peak, one in memories if peak is not None}
    if not peaks:
        return None, "unknown: there is no memory record of it"
    (small, least), (large, most) = min(peaks.items()), max(peaks.items())
    if large > small:
        image_bytes, how = (most - least) / (large - small), f"peak tensor bytes at batches of {small:g} and {large:g}"
    else:
        how = f"peak tensor bytes at a batch of {large:g}, of which 16 per parameter are constant"
        image_bytes = (most - BYTES_PER_PARAMETER * weights.trained) / large
    constant_bytes = (most - image_bytes * large) / shard_count(experiment.runtime.sharding, gpus, per_node)
    constant_bytes += FP32_BYTES * weights.in_blocks if experiment.runtime.sharding == "zero2" else 0
    gathered_bytes = 2 * FP32_BYTES * weights.feature_width * (gpus - 1)
    return max(0, int((limit_bytes - constant_bytes) / (max(1.0, image_bytes) + gathered_bytes))), how


def measured_interconnect(path: Path, device: GpuSpec | None) -> dict[str, float | None]:
    """Return what `doctor` measured, as options of a plan: of a record file, or of the newest link record of a folder.

    None: the job had one node, or one process on each. ValueError without a record, or if it is of another device than
    the plan's, which is None without a data sheet.
    """
    records = [read_record(one) for one in ([path] if path.is_file() else record_files(path))]
    found = [(record.measured, record.circumstances) for record in records if isinstance(record.measured, LinkSpeed)]
    if not found:
        raise ValueError(f"{path} holds no link record; torchrun … -m bench doctor stores them in its results folder")
    link, where = found[-1]
    measured_gpu = find_gpu_spec(where.machine.partition(";")[0])
    if measured_gpu != device:
        planned = device.name_words if device else "a device without a data sheet"
        raise ValueError(f"the links of {path} are those of {where.machine}, and the plan is for {planned}")
    return {
        "per_node": link.processes_per_node or where.processes,
        "link_gbs": link.bytes_per_second and link.bytes_per_second / GB,
        "link_us": link.latency_seconds and 1e6 * link.latency_seconds,
        "network_gbs": link.network_bytes_per_second and link.network_bytes_per_second / GB,
        "network_us": link.network_latency_seconds and 1e6 * link.network_latency_seconds,
    }


def find_matching(
    experiment: Experiment, records: Iterable[Record], kind: type[M]
) -> list[tuple[M, Experiment, Circumstances]]:
    """Return the measurements of an experiment at any batch, with the experiment as measured and the circumstances."""
    return [
        (record.measured, record.experiment, record.circumstances)
        for record in records
        if isinstance(record.measured, kind) and record.experiment and not _differences(experiment, record.experiment)
    ]


def _differences(one: Experiment, other: Experiment) -> dict[str, tuple[object, ...]]:
    return {name: values for name, values in differing_fields([one, other]).items() if name not in FIELDS_WITHOUT_TIME}
