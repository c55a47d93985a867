"""One device's step time, power and largest batch, from records. No torch here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TypeVar

from bench.environment.circumstances import Circumstances
from bench.experiment.config import Experiment, differing_field_values, field_names_with_role
from bench.features.plan.collectives import FP32_BYTES, ParameterCounts
from bench.features.plan.model import ComputeProfile
from bench.measure.throughput import images_per_second, images_per_step
from bench.records.record import BYTES_PER_PARAMETER, Memory, Record, Speed, read_records

M = TypeVar("M", Speed, Memory)
# Fields that do not change the time per image.
FIELDS_WITHOUT_TIME = {
    *field_names_with_role("by batch"),
    *("seed", "head_initialisation", "images", "warmup_images", "learning_rate"),
    *("sharding", "windows"),
}
FORWARD_PHASES = ("augmentation", "image forward", "text forward", "head and loss")
POWER_READING = "power W, by the energy counter"


@dataclass(frozen=True, slots=True)
class RunsOnDevice:
    """The timed runs of one experiment on one device."""

    experiment: Experiment  # as timed, at its batch
    circumstances: Circumstances
    runs: Sequence[Speed]

    @property
    def watts(self) -> float | None:
        """Mean power of the device during the runs; None if it was not measured."""
        powers = [
            run.utilisation[POWER_READING] for run in self.runs if POWER_READING in run.utilisation
        ]
        return fmean(powers) if powers else None


def newest_timed_records(results: Path, experiments: Sequence[Experiment]) -> list[Record]:
    """Return the records of a folder's newest comparison that timed all experiments; ValueError if none did."""
    records = read_records(results)
    for name in sorted({record.comparison for record in records}, reverse=True):
        group = [record for record in records if record.comparison == name]
        if all(_matching_records(experiment, group, Speed) for experiment in experiments):
            return group
    names = ", ".join(experiment.name for experiment in experiments)
    raise ValueError(f"{results} has no comparison of `measure` that timed {names}")


def find_timed_runs(experiment: Experiment, records: Sequence[Record]) -> RunsOnDevice:
    """Return an experiment's timed runs of one batch size, the nearest to its own.

    Raises ValueError for runs without phases, as those of several processes.
    """

    def distance(timed: Experiment) -> int:
        return abs(timed.training.batch_size - experiment.training.batch_size)

    matches = _matching_records(experiment, records, Speed)
    timed, run, circumstances = min(matches, key=lambda match: distance(match[0]))
    runs = [run for other, run, _ in matches if distance(other) == distance(timed)]
    if circumstances.processes > 1 or not run.phase_seconds:
        raise ValueError(f"{timed.name}: a plan needs records of one process, with phases")
    return RunsOnDevice(timed, circumstances, runs)


def _matching_records(
    experiment: Experiment, records: Sequence[Record], kind: type[M]
) -> list[tuple[Experiment, M, Circumstances]]:
    """Return (measured experiment, content, circumstances) of the records of an experiment at any batch size."""
    matches = []
    for record in records:
        if record.experiment is None or not isinstance(record.measured, kind):
            continue
        if differing_field_values([experiment, record.experiment]).keys() <= FIELDS_WITHOUT_TIME:
            matches.append((record.experiment, record.measured, record.circumstances))
    return matches


def compute_profile_from_runs(timed: RunsOnDevice, loss_flops_per_second: float) -> ComputeProfile:
    """Return the profile of the runs' device, with medians over the runs.

    The step time is the windows', in which phases may overlap; it is divided in proportion to the phases.
    """
    data = []
    forward = []
    backward = []
    optimizer = []
    for run in timed.runs:
        images = images_per_step(timed.experiment, run)
        average = fmean if run.phase_images else median
        phases = {name: average(seconds) for name, seconds in run.phase_seconds.items()}
        step_seconds = images / images_per_second(timed.experiment, run)
        scale = step_seconds / sum(phases.values())
        data.append(scale * phases.get("data", 0.0) / images)
        forward.append(scale * sum(phases.get(name, 0.0) for name in FORWARD_PHASES) / images)
        backward.append(scale * phases.get("backward", 0.0) / images)
        optimizer.append(scale * phases.get("optimizer", 0.0))
    return ComputeProfile(
        data_seconds=median(data),
        forward_seconds=median(forward),
        backward_seconds=median(backward),
        optimizer_seconds=median(optimizer),
        num_captions=timed.experiment.mean_batch_size,
        loss_flops_per_second=loss_flops_per_second,
    )


def estimate_max_batch(
    experiment: Experiment,
    records: Sequence[Record],
    limit_bytes: float,
    parameter_counts: ParameterCounts,
    gpus: int,
) -> int | None:
    """Return the largest batch size of one device under a memory limit; None without a count of tensors.

    Of the counted tensor bytes of a step, 16 per parameter (weights, gradients, moments) are constant and divided by
    sharding, and the rest is in proportion to images. `zero2` keeps the blocks' weights whole. Captions gathered from
    all devices, and their gradients, are added per image.
    """
    peaks = {}
    for measured, memory, _ in _matching_records(experiment, records, Memory):
        if memory.peak_tensor_bytes is not None:
            peaks[measured.mean_batch_size] = memory.peak_tensor_bytes
    if not peaks:
        return None
    batch = max(peaks)
    constant_bytes = float(BYTES_PER_PARAMETER * parameter_counts.trained)
    image_bytes = max(1.0, (peaks[batch] - constant_bytes) / batch)
    if experiment.runtime.sharding != "ddp":
        constant_bytes /= gpus
    if experiment.runtime.sharding == "zero2":
        constant_bytes += FP32_BYTES * parameter_counts.in_blocks
    gathered_bytes = 2 * FP32_BYTES * parameter_counts.feature_width * (gpus - 1)
    return max(0, int((limit_bytes - constant_bytes) / (image_bytes + gathered_bytes)))
