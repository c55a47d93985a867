"""How long the image tower of an experiment takes to build."""

import time
from dataclasses import dataclass
from pathlib import Path

from bench.cli.options import print_results
from bench.experiment.experiments import get_experiment
from bench.interfaces.extensions import Extension
from bench.orchestration.preflight import open_comparison
from bench.orchestration.request_base import ExperimentRequest
from bench.orchestration.scope import Scope
from bench.records.record_kind import RecordKind
from bench.tables.tables import Table

EXPECTED_SECONDS = 10


class BuildTime(RecordKind, frozen=True, kw_only=True, tag="build-time"):
    seconds: float


class BuildTimeRequest(ExperimentRequest, frozen=True, kw_only=True, tag="build-time"):
    def measure(self, device, stop):
        from bench.train.build import build_untrained_tower

        start = time.perf_counter()
        build_untrained_tower(self.experiment).to(device)
        return BuildTime(seconds=time.perf_counter() - start)


@dataclass(frozen=True)
class MeasureBuildTime:
    """Measure how long the image tower of an experiment takes to build."""

    name: str  # name of the experiment
    results: Path = Path("results")  # folder of the records
    purpose = "compare"
    resume_hint = "start it again"

    def run(self):
        experiment = get_experiment(self.name)
        comparison = open_comparison(self.results, [experiment], Scope("build-time", 0), trained=False)
        job = comparison.new_job(BuildTimeRequest, experiment, f"build of {self.name}", EXPECTED_SECONDS)
        comparison.runner.run([job], threads=comparison.cores)
        builds = [record.measured for record in comparison.records() if isinstance(record.measured, BuildTime)]
        rows = [{"experiment": self.name, "seconds": build.seconds} for build in builds]
        return print_results(comparison, [Table.of_figures("Building the image tower", rows)])


EXTENSION = Extension(record_kinds=[BuildTime], runs=[BuildTimeRequest], verbs={"build-time": MeasureBuildTime})
