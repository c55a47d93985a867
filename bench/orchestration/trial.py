"""A short run that shows how fast this machine is, and what of the default comparison fits into a time."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.config import Experiment
from bench.console.progress import Progress
from bench.environment.cores import available_cores
from bench.experiments import COMPARED, EXPERIMENTS
from bench.measure.throughput import images_per_second
from bench.orchestration.comparison import Comparison, Scope, scopes, set_images
from bench.orchestration.pace import TWO_CORES, Pace, fit_trainings
from bench.orchestration.preflight import has_gpu, open_comparison
from bench.orchestration.runner import Runner
from bench.record import Record, Speed

TRIED, DEFAULT_MINUTES = "clip-tiny", 12.0


@dataclass(frozen=True, slots=True)
class DefaultPlan:
    """The default comparison, as it fits into a time."""

    experiments: Sequence[Experiment]
    scope: Scope
    expected_seconds: float

    def __str__(self) -> str:
        """Describe it."""
        seeds = len(self.scope.seeds)
        trainings = f"{seeds} seed{'s' if seeds > 1 else ''} of {self.experiments[0].images:,} images for each method"
        return f"{self.scope.rounds} rounds of speed, {trainings}: about {self.expected_seconds / 60:.0f} min"


def run_trial() -> tuple[Comparison, list[Record], Pace]:
    """Time one run of clip-tiny, whose records are not kept; return it, its records and the pace that they show.

    The default pace is returned if the run fails, which the comparison lists.
    """
    with tempfile.TemporaryDirectory() as folder:
        trial = open_comparison(Path(folder), [EXPERIMENTS[TRIED]], Scope("trial", 1), trained=False)
        start = time.perf_counter()
        trial.measure(1)
        seconds, records = time.perf_counter() - start, trial.records()
    pace, experiment = TWO_CORES, EXPERIMENTS[TRIED]
    for record in records:
        if isinstance(record.measured, Speed):
            seconds_per_image = 1 / images_per_second(experiment, record.measured)
            steps_seconds = pace.speed_seconds(experiment) - pace.start_seconds
            steps_seconds *= seconds_per_image / pace.seconds_per_image
            pace = Pace(max(1.0, seconds - steps_seconds), seconds_per_image)
    return trial, records, pace


def plan_default(minutes: float, pace: Pace) -> DefaultPlan:
    """Return the default comparison with the images and the seeds that fit into a time at a pace."""

    def plan(images: int, seeds: int) -> DefaultPlan:
        experiments = [set_images(EXPERIMENTS[f"{name}-tiny"], images) for name in COMPARED]
        scope = replace(scopes(len(experiments), on_gpu=has_gpu())["default"], seeds=tuple(range(seeds)))
        runner = Runner(Progress(0.0))
        comparison = Comparison("planned", Path(), experiments, available_cores(), has_gpu(), runner, pace)
        return DefaultPlan(experiments, scope, comparison.expected_seconds(scope))

    return plan(*fit_trainings(lambda images, seeds: plan(images, seeds).expected_seconds, 60 * minutes))
