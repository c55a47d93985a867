"""How long the image tower of an experiment takes to build."""

import time
from dataclasses import dataclass
from pathlib import Path

from bench.cli.options import print_results_and_get_exit_code
from bench.experiment.experiments import get_experiment
from bench.interfaces.extensions import Extension
from bench.interfaces.verb import LazyVerb
from bench.orchestration.preflight import begin_comparison, require_runnable_and_prepare_data
from bench.records.record_kind import RecordContent
from bench.tables.tables import Table


class BuildTime(RecordContent, frozen=True, kw_only=True, tag="build-time"):
    seconds: float


def measure_build_time(experiment, device):
    from bench.train.build import build_untrained_tower

    start = time.perf_counter()
    build_untrained_tower(experiment).to(device)
    return BuildTime(seconds=time.perf_counter() - start)


@dataclass(frozen=True)
class MeasureBuildTime:
    """Measure how long the image tower of an experiment takes to build."""

    name: str  # name of the experiment
    results: Path = Path("results")  # folder of the records

    def run(self):
        experiment = get_experiment(self.name)
        require_runnable_and_prepare_data(self.results, [experiment])
        comparison = begin_comparison(self.results, "build-time", [experiment])
        function = f"{__name__}:measure_build_time"
        run = comparison.new_run(function, "build-time", experiment, f"build of {self.name}")
        comparison.runner.run([run], threads=comparison.cores)
        builds = [
            record.measured
            for record in comparison.records()
            if isinstance(record.measured, BuildTime)
        ]
        rows = [{"experiment": self.name, "seconds": build.seconds} for build in builds]
        return print_results_and_get_exit_code(
            comparison, [Table.from_dicts("Building the image tower", rows)]
        )


EXTENSION = Extension(
    record_kinds=[BuildTime],
    verbs=[LazyVerb("build-time", "Time the building of an image tower.", MeasureBuildTime)],
)
