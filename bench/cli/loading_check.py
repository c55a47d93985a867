"""A part of the verb `doctor`: whether the cores of this machine can load data as fast as its GPUs train."""

import math
from pathlib import Path

from bench.environment.cores import count_available_cores, count_loader_cores_per_rank
from bench.environment.gpus import count_usable_gpus
from bench.experiment.config import Experiment
from bench.statistics.verdicts import judge_loader_cores
from bench.tables.tables import Table


def measure_loading_and_predict_cores(
    experiment: Experiment, images_per_second_per_gpu: float | None, results: Path, seconds: float
) -> Table:
    """Time the loading of an experiment's data on one core, and predict how many cores feed this machine's GPUs.

    ValueError or OSError for data that cannot be loaded.
    """
    from bench.measure.loading import measure_loading_on_one_core

    loading = measure_loading_on_one_core(experiment, results, seconds)
    per_core = loading.images_per_cpu_second
    cores = count_available_cores()
    gpus = max(1, count_usable_gpus())
    row: dict[str, str | float | None] = {
        "experiment": experiment.name,
        "images/s per core": per_core.value,
        "low": per_core.low,
        "high": per_core.high,
        "CPU share": loading.cpu_share,
        "images/s per GPU": images_per_second_per_gpu,
        "GPUs": gpus,
        "cores": cores,
    }
    note = f"{loading.num_images:,} images in one thread; images per CPU second with 95 % interval over batches.\n"
    if images_per_second_per_gpu is None:
        note += "The cores needed are not known: give --images-per-s N, as `measure` or `plan` shows it."
        return Table.from_dicts("Loading", [row], note)
    wanted = gpus * images_per_second_per_gpu
    spare = cores - gpus
    needed_per_gpu = math.ceil(images_per_second_per_gpu / per_core.value)
    workers = min(count_loader_cores_per_rank(cores, gpus), needed_per_gpu)
    verdict = judge_loader_cores(wanted / per_core.high, wanted / per_core.low, spare)
    row |= {"cores needed": wanted / per_core.value, "workers": workers, "verdict": verdict}
    note += (
        f"One core for each GPU is left to its training process; workers: --set workers={workers}."
    )
    if verdict != "enough":
        note += "\nFaster are jpeg_decoding=reduced and smaller images in the shards."
    return Table.from_dicts("Loading", [row], note)
