"""One device's step time, power and largest batch, from records. No torch here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Generic, TypeVar

from bench.console.console import PROGRAM, log
from bench.environment.circumstances import Circumstances
from bench.environment.files import read_intact_files
from bench.experiment.config import Experiment, differing_fields, fields_with, format_differences
from bench.features.plan.collectives import FP32_BYTES, ParameterCounts, shard_count
from bench.features.plan.model import ComputeProfile
from bench.measure.throughput import images_per_second, images_per_step, timed_runs
from bench.records.record import (
    BYTES_PER_PARAMETER,
    BatchTrial,
    Memory,
    Record,
    Speed,
    read_record,
    read_records,
    record_files,
)
from bench.tables.formats import GIB

M = TypeVar("M", Speed, Memory, BatchTrial)
FIELDS_WITHOUT_TIME = {  # they do not change the time per image
    *fields_with("by batch"),
    *(
        "seed",
        "head_initialisation",
        "images",
        "warmup_images",
        "learning_rate",
        "sharding",
        "windows",
    ),
}
FORWARD_PHASES = ("augmentation", "image forward", "text forward", "head and loss")
POWER = "power W, by the energy counter"


@dataclass(frozen=True, slots=True)
class Match(Generic[M]):
    """A measurement of an experiment at any batch."""

    measured: M
    experiment: Experiment  # as measured
    where: Circumstances


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
    newest: list[Record] = []
    for name in sorted({record.comparison for record in records}, reverse=True):
        group = [record for record in records if record.comparison == name]
        if all(find_matching(experiment, group, Speed) for experiment in experiments):
            return group
        if not newest and timed_runs(group):
            newest = group
    if not newest:
        raise ValueError(
            f"{path} holds no speed record; {PROGRAM} measure stores them in its results folder"
        )
    return newest


def find_timed_runs(experiment: Experiment, records: Sequence[Record], path: Path) -> TimedRuns:
    """Return an experiment's timed runs, preferably at its own batch; ValueError names the nearest experiment."""
    matches = find_matching(experiment, records, Speed)
    if not matches:
        timed_experiments = {name: runs[-1][0] for name, runs in timed_runs(records).items()}
        nearest = min(
            (_differences(experiment, other) for other in timed_experiments.values()), key=len
        )
        raise ValueError(
            f"{path} has no speed record of {experiment.name}: it has {', '.join(timed_experiments)}, "
            f"of which the nearest differs in {format_differences(nearest)}"
        )
    batch_sizes = [match.experiment.training.batch_size for match in matches]
    batch_size = (
        experiment.training.batch_size
        if experiment.training.batch_size in batch_sizes
        else batch_sizes[0]
    )
    matches = [match for match in matches if match.experiment.training.batch_size == batch_size]
    timed = matches[0].experiment
    if matches[0].where.processes > 1:
        processes = matches[0].where.processes
        raise ValueError(
            f"{path}: {timed.name} was timed on {processes} processes; a plan needs records of one"
        )
    if not all(match.measured.phase_seconds for match in matches):
        raise ValueError(f"{path}: {timed.name} was timed without phases; a plan needs them")
    return TimedRuns(timed, matches[0].where, [match.measured for match in matches])


def measured_compute(runs: TimedRuns, loss_flops: float) -> ComputeProfile:
    """Return the seconds of one device: medians over the runs.

    The step time is that of the windows, in which phases may overlap; it is divided in proportion to the phases.
    """
    profiles = [_profile_of_run(runs.experiment, run, loss_flops) for run in runs.runs]
    return ComputeProfile(
        data=median(profile.data for profile in profiles),
        forward=median(profile.forward for profile in profiles),
        backward=median(profile.backward for profile in profiles),
        optimizer=median(profile.optimizer for profile in profiles),
        captions=runs.experiment.mean_batch_size,
        loss_flops=loss_flops,
    )


def _profile_of_run(experiment: Experiment, run: Speed, loss_flops: float) -> ComputeProfile:
    images = images_per_step(experiment, run)
    average = fmean if run.phase_images else median
    phases = {name: average(seconds) for name, seconds in run.phase_seconds.items()}
    scale = images / images_per_second(experiment, run) / sum(phases.values())
    return ComputeProfile(
        data=scale * phases.get("data", 0.0) / images,
        forward=scale * sum(phases.get(name, 0.0) for name in FORWARD_PHASES) / images,
        backward=scale * phases.get("backward", 0.0) / images,
        optimizer=scale * phases.get("optimizer", 0.0),
        captions=experiment.mean_batch_size,
        loss_flops=loss_flops,
    )


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
    trials = [
        match
        for match in find_matching(experiment, records, BatchTrial)
        if match.measured.limit_bytes <= limit_bytes
    ]
    tried_sizes = [match.experiment.training.batch_size for match in trials if match.measured.fits]
    if tried_sizes:
        limit = max(match.measured.limit_bytes for match in trials) / GIB
        return max(tried_sizes), f"tried, under {limit:g} GiB on one device"
    peaks = {}
    for match in find_matching(experiment, records, Memory):
        if match.measured.peak_tensor_bytes is not None:
            peaks[match.experiment.mean_batch_size] = match.measured.peak_tensor_bytes
    if not peaks:
        return None, "unknown: there is no memory record of it"
    small = min(peaks)
    large = max(peaks)
    if large > small:
        source = f"peak tensor bytes at batches of {small:g} and {large:g}"
        image_bytes = (peaks[large] - peaks[small]) / (large - small)
    else:
        source = (
            f"peak tensor bytes at a batch of {large:g}, of which 16 per parameter are constant"
        )
        image_bytes = (peaks[large] - BYTES_PER_PARAMETER * weights.trained) / large
    sharding = experiment.runtime.sharding
    constant_bytes = (peaks[large] - image_bytes * large) / shard_count(sharding, gpus, per_node)
    if sharding == "zero2":
        constant_bytes += FP32_BYTES * weights.in_blocks
    gathered_bytes = 2 * FP32_BYTES * weights.feature_width * (gpus - 1)
    return max(
        0, int((limit_bytes - constant_bytes) / (max(1.0, image_bytes) + gathered_bytes))
    ), source


def find_matching(
    experiment: Experiment, records: Iterable[Record], kind: type[M]
) -> list[Match[M]]:
    """Return the measurements of an experiment at any batch."""
    matches = []
    for record in records:
        if not isinstance(record.measured, kind) or record.experiment is None:
            continue
        if not _differences(experiment, record.experiment):
            matches.append(Match(record.measured, record.experiment, record.circumstances))
    return matches


def _differences(first: Experiment, second: Experiment) -> dict[str, tuple[object, ...]]:
    """Return the fields in which two experiments differ and which change the time per image."""
    differences = differing_fields([first, second])
    return {name: values for name, values in differences.items() if name not in FIELDS_WITHOUT_TIME}
