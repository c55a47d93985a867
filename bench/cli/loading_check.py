"""A part of the verb `doctor`: whether the cores of this machine can load shards as fast as its GPUs train."""

import math
from dataclasses import dataclass
from pathlib import Path

from bench.environment.cores import available_cores, loader_cores_per_rank
from bench.environment.gpu_specs import GPU_SPECS, GpuSpec
from bench.environment.gpus import count_gpus
from bench.experiment.config import Experiment, choose
from bench.interfaces.hooks import find_hook
from bench.orchestration.preflight import find_machine_gpu
from bench.statistics.verdicts import judge_loader_cores
from bench.tables.tables import Table

LOADING = "Loading"


@dataclass(frozen=True, slots=True)
class GpuRate:
    """The images/s that a training takes on one GPU, None where they are not known, and their source."""

    images_per_second: float | None
    source: str


def chosen_gpu_spec(device: str | None) -> GpuSpec | None:
    """Return the data-sheet values of the named GPU, or of this machine's; None without one. ValueError: no such name.

    A GPU of this machine without a known data sheet counts as none.
    """
    if device is not None:
        return choose(device.lower(), GPU_SPECS, "device")
    return find_machine_gpu()


def predict_gpu_rate(
    experiment: Experiment, gpu: GpuSpec | None, given: float | None, results: Path
) -> GpuRate:
    """Return the images/s of a GPU: those given, or the most that `plan` predicts."""
    if given is not None:
        return GpuRate(given, "--images-per-s")
    if gpu is None:
        return GpuRate(None, "no GPU of a known data sheet: give --device NAME or --images-per-s N")
    predict = find_hook("most_images_per_second")
    if predict is None:
        return GpuRate(None, "no `plan` is here that predicts them: give --images-per-s N")
    return GpuRate(predict(experiment, gpu, results), f"plan for {gpu.name_words}, high end")


def check_loading(experiment: Experiment, rate: GpuRate, results: Path, seconds: float) -> Table:
    """Time the loading of an experiment's shards on one core; compare the cores that the GPUs need with those here.

    ValueError or OSError for shards that cannot be loaded.
    """
    from bench.measure.loading import time_loading

    loading = time_loading(experiment, results, seconds)
    cores = available_cores()
    gpus = max(1, count_gpus())
    per_core = loading.images_per_second
    row = {
        "experiment": experiment.name,
        "images/s per core": per_core.value,
        "low": per_core.low,
        "high": per_core.high,
        "CPU share": loading.cpu_share,
        "images/s per GPU": rate.images_per_second,
        "GPUs": gpus,
        "cores": cores,
    }
    counted = f"{loading.images:,} images in one thread, images per CPU second with 95 % interval over batches"
    if rate.images_per_second is None:
        note = f"{experiment.name}: the cores needed are not known ({rate.source}).\n{counted}"
        return Table.of_figures(LOADING, [row], note)
    wanted = gpus * rate.images_per_second
    needed = wanted / per_core.value
    least = wanted / per_core.high
    most = wanted / per_core.low
    spare = cores - gpus
    verdict = judge_loader_cores(least, most, spare)
    workers = min(
        loader_cores_per_rank(cores, gpus), math.ceil(rate.images_per_second / per_core.value)
    )
    free = f"{max(0, spare)} of {cores} are free beside the training"
    line = f"{experiment.name}: loading needs {needed:.1f} cores ({least:.1f} to {most:.1f}), and {free}: {verdict}"
    remedies = (
        "; faster are jpeg_decoding=reduced and smaller images in the shards"
        if verdict != "enough"
        else ""
    )
    return Table.of_figures(
        LOADING,
        [row | {"cores needed": needed, "workers": workers, "verdict": verdict}],
        f"{line}{remedies}.\nImages/s per GPU: {rate.source}. One core for each GPU is left to its training process; "
        f"workers: --set workers={workers}.\n{counted}",
    )
