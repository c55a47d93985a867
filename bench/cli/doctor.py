"""The verb `doctor`: disturbances and missing tools of this machine, links between ranks, or data that are loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from bench.cli.links import measure_link_speed
from bench.cli.loading_check import check_loading, predict_gpu_rate
from bench.cli.machine_checks import check_machine, finding_table
from bench.cli.options import (
    ExperimentName,
    Json,
    Launch,
    Results,
    Settings,
    experiment_from,
)
from bench.console.console import OK, log
from bench.console.options import require_range
from bench.console.tables import print_tables
from bench.data.manifest import CACHE
from bench.data.samples import open_samples


@dataclass(frozen=True, slots=True)
class Doctor:
    """Check this machine for disturbances and missing tools; or data, or the links between ranks.

    With --shards, load data for a few seconds, and predict how many cores feed the GPUs in a training. With --launch,
    measure the links between ranks, within and between nodes.
    """

    # folder, file or glob of captioned images whose loading is timed; default: this machine is checked
    shards: Annotated[str | None, arg(metavar="PATH")] = None
    # with --shards: experiment whose loading is timed, and whose images/s the GPUs need
    experiment: ExperimentName = "clip-vit-b16"
    # with --shards: images/s that one GPU trains, which the loading must reach; default: the most that `plan` predicts
    images_per_s: float | None = None
    loading_seconds: float = 10.0  # with --shards: seconds for which data are loaded
    launch: Launch = ""
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None

    def run(self) -> int:
        """Print the findings."""
        if self.shards is not None:
            return self._check_data(self.shards)
        defaults = Doctor(launch=self.launch, results=self.results, json=self.json)
        if self != defaults:
            raise ValueError(
                "--experiment, --images-per-s, --loading-seconds and --set need --shards"
            )
        if self.launch:
            return measure_link_speed(self.results, self.launch, self.json)
        print_tables([finding_table(check_machine(self.results))], self.json)
        return OK

    def _check_data(self, data: str) -> int:
        """Predict the cores that load the data fast enough."""
        if self.launch:
            raise ValueError("--shards and --launch exclude each other")
        require_range("loading-seconds", self.loading_seconds, 0, 1e6)
        require_range("images-per-s", self.images_per_s, 1e-3, 1e9)
        experiment = experiment_from(self.experiment, self.settings, data)
        for note in open_samples(experiment, self.results / CACHE).notes():
            log(f"{data}: {note}")
        rate = predict_gpu_rate(experiment, self.images_per_s, self.results)
        table = check_loading(experiment, rate, self.results, self.loading_seconds)
        print_tables([table], self.json)
        return OK
