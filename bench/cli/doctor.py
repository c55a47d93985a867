"""The verb `doctor`: disturbances and missing tools of this machine, or data that are loaded."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from bench.cli.machine_checks import check_machine_and_disk
from bench.cli.options import (
    ExperimentName,
    Json,
    Results,
    Settings,
    find_experiment_with_settings,
)
from bench.console.console import OK, log
from bench.console.options import require_option_in_range
from bench.console.tables import print_tables
from bench.data.manifest import CACHE
from bench.data.samples import open_samples
from bench.environment.cores import count_available_cores, count_loader_cores_per_rank
from bench.environment.gpus import count_usable_gpus
from bench.experiment.config import Experiment
from bench.statistics.verdicts import judge_loader_cores
from bench.tables.tables import Table


@dataclass(frozen=True)
class CheckMachineOrLoading:
    """Check this machine for disturbances and missing tools, or the loading of data.

    With --shards, data are loaded for a few seconds, to predict how many cores feed the GPUs in a training.
    """

    # data whose loading is timed: folder, file or glob of captioned images; default: the machine is checked instead
    shards: Annotated[str | None, arg(metavar="PATH")] = None
    # with --shards: experiment whose image size, crops and targets are loaded
    experiment: ExperimentName = "clip-vit-b16"
    # with --shards: images per second that one GPU trains (`measure` or `plan` shows it); the cores that load as many
    # are then predicted
    images_per_s: float | None = None
    loading_seconds: float = 10.0  # with --shards: seconds for which data are loaded, on one core
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None

    def run(self) -> int:
        """Print the findings."""
        if self.shards is not None:
            table = self._loading_table(self.shards)
        elif self != CheckMachineOrLoading(results=self.results, json=self.json):
            raise ValueError(
                "--experiment, --images-per-s, --loading-seconds and --set need --shards"
            )
        else:
            table = check_machine_and_disk(self.results)
        print_tables([table], self.json)
        return OK

    def _loading_table(self, data: str) -> Table:
        """Time the loading of data, and return the table with the predicted number of cores."""
        require_option_in_range("loading-seconds", self.loading_seconds, 0, 1e6)
        require_option_in_range("images-per-s", self.images_per_s, 1e-3, 1e9)
        experiment = find_experiment_with_settings(
            self.experiment, [*self.settings, f"data={data}"]
        )
        for note in open_samples(experiment, self.results / CACHE).notes():
            log(f"{data}: {note}")
        return measure_loading_and_predict_cores(
            experiment, self.images_per_s, self.results, self.loading_seconds
        )


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
