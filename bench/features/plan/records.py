"""One device's step time and largest batch, from records. No torch here."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Generic, NamedTuple, TypeVar

from bench.environment.circumstances import RunCircumstances
from bench.experiment.config import (
    Experiment,
    differing_values_by_field,
    field_names_with_role,
)
from bench.features.plan.collectives import FP32_BYTES, ParameterCounts
from bench.features.plan.model import GpuComputeProfile
from bench.measure.timed_run import TimedRun
from bench.records.record import BYTES_PER_PARAMETER, Memory, Record, Speed, read_records
from bench.tables.groups import group_by

M = TypeVar("M", Speed, Memory)
# Fields that do not change the time per image.
FIELDS_WITHOUT_TIME = {
    *field_names_with_role("by batch"),
    *("seed", "synset_head_initialisation", "images_seen", "warmup_images", "learning_rate"),
    *("sharding", "timed_windows"),
}
FORWARD_PHASES = ("augmentation", "image forward", "text forward", "head and loss")


class MatchingRun(NamedTuple, Generic[M]):
    """A recorded run of an experiment, at any batch size."""

    experiment: Experiment  # as it was run
    measured: M
    circumstances: RunCircumstances


@dataclass(frozen=True, slots=True)
class TimedRunsOnOneDevice:
    """The timed runs of one experiment at one batch size on one device."""

    experiment: Experiment  # as it was run
    circumstances: RunCircumstances
    runs: Sequence[Speed]


def read_newest_timed_records(results: Path, experiments: Sequence[Experiment]) -> list[Record]:
    """Return the records of a folder's newest comparison that timed all experiments; ValueError if none did."""
    records_by_comparison = group_by(read_records(results), lambda record: record.comparison)
    for comparison in sorted(records_by_comparison, reverse=True):
        records = records_by_comparison[comparison]
        if all(
            _find_runs_of_any_batch_size(experiment, records, Speed) for experiment in experiments
        ):
            return records
    names = ", ".join(experiment.name for experiment in experiments)
    raise ValueError(f"{results} has no comparison of `measure` that timed {names}")


def find_runs_of_nearest_batch(
    experiment: Experiment, records: Sequence[Record]
) -> TimedRunsOnOneDevice:
    """Return an experiment's timed runs of one batch size, the nearest to its own.

    Raises ValueError for runs of several processes, and for runs without phases.
    """
    matches = _find_runs_of_any_batch_size(experiment, records, Speed)
    wanted = experiment.training.batch_size
    nearest = min(matches, key=lambda match: abs(match.experiment.training.batch_size - wanted))
    timed = nearest.experiment
    if nearest.circumstances.processes > 1 or not nearest.measured.phase_seconds:
        raise ValueError(f"{timed.name}: a plan needs records of one process, with phases")
    runs = [
        match.measured
        for match in matches
        if match.experiment.training.batch_size == timed.training.batch_size
    ]
    return TimedRunsOnOneDevice(timed, nearest.circumstances, runs)


def _find_runs_of_any_batch_size(
    experiment: Experiment, records: Sequence[Record], kind: type[M]
) -> list[MatchingRun[M]]:
    """Return the runs of a kind of record, of experiments that differ in nothing that changes the time per image."""
    matches = []
    for record in records:
        if record.experiment is None or not isinstance(record.measured, kind):
            continue
        if differing_values_by_field([experiment, record.experiment]).keys() <= FIELDS_WITHOUT_TIME:
            match = MatchingRun(record.experiment, record.measured, record.circumstances)
            matches.append(match)
    return matches


def compute_profile_from_runs(
    timed: TimedRunsOnOneDevice, loss_flops_per_second: float
) -> GpuComputeProfile:
    """Return the profile of the device that runs were timed on, with medians over the runs.

    The step time of the windows, in which phases may overlap, is divided in proportion to the seconds of the phases.
    """
    data = []
    forward = []
    backward = []
    optimizer = []
    for run in timed.runs:
        timed_run = TimedRun(timed.experiment, run)
        images = timed_run.images_per_step()
        average = fmean if run.phase_images else median
        phases = {name: average(seconds) for name, seconds in run.phase_seconds.items()}
        step_seconds = images / timed_run.images_per_second_preferably_undisturbed()
        scale = step_seconds / sum(phases.values())
        seconds = defaultdict(float, {name: scale * phases[name] for name in phases})
        data.append(seconds["data"] / images)
        forward.append(sum(seconds[name] for name in FORWARD_PHASES) / images)
        backward.append(seconds["backward"] / images)
        optimizer.append(seconds["optimizer"])
    return GpuComputeProfile(
        data_seconds=median(data),
        forward_seconds=median(forward),
        backward_seconds=median(backward),
        optimizer_seconds=median(optimizer),
        num_captions=timed.experiment.mean_device_batch_size,
        loss_flops_per_second=loss_flops_per_second,
    )


def estimate_max_batch_per_gpu(
    experiment: Experiment,
    records: Sequence[Record],
    limit_bytes: float,
    parameter_counts: ParameterCounts,
    num_gpus: int,
) -> int | None:
    """Return the largest number of images per GPU under a memory limit; None without a count of tensors.

    Of the counted tensor bytes of a step, 16 per parameter (weights, gradients, moments) are constant and divided by
    sharding, and the rest is in proportion to images. `fsdp2_no_reshard` keeps the blocks' weights whole. Captions
    gathered from all GPUs, and their gradients, are added per image.
    """
    peaks = {}
    for measured, memory, _ in _find_runs_of_any_batch_size(experiment, records, Memory):
        if memory.peak_tensor_bytes is not None:
            peaks[measured.mean_device_batch_size] = memory.peak_tensor_bytes
    if not peaks:
        return None
    batch = max(peaks)
    sharding = experiment.runtime.sharding
    constant_bytes = float(BYTES_PER_PARAMETER * parameter_counts.trained)
    image_bytes = max(1.0, (peaks[batch] - constant_bytes) / batch)
    if sharding != "ddp":
        constant_bytes /= num_gpus
    if sharding == "fsdp2_no_reshard":
        constant_bytes += FP32_BYTES * parameter_counts.trained_in_blocks
    gathered_bytes = 2 * FP32_BYTES * parameter_counts.feature_width * (num_gpus - 1)
    return max(0, int((limit_bytes - constant_bytes) / (image_bytes + gathered_bytes)))
