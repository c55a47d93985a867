"""A short run that shows how fast this machine is, and what of the default comparison fits into a time."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.config import Experiment
from bench.console.progress import Progress
from bench.environment.cores import available_cores
from bench.experiments import COMPARED, EXPERIMENTS
from bench.measure.throughput import images_per_second
from bench.orchestration.comparison import Comparison, set_images
from bench.orchestration.pace import MAX_SEEDS, TWO_CORES, Pace, fit_trainings
from bench.orchestration.preflight import has_gpu, open_comparison
from bench.orchestration.runner import Runner
from bench.orchestration.scope import Scope, scopes
from bench.record import Speed

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
        rounds = f"{self.scope.rounds} rounds of speed and up to {self.scope.rounds // 2} repeated"
        return f"{rounds}, {trainings}: about {self.expected_seconds / 60:.0f} min"


def run_trial(folder: Path) -> tuple[Comparison, Pace]:
    """Time one run of clip-tiny, after one of its memory; return their comparison, and the pace that they show.

    If it fails, the pace is that of two cores. Raises ValueError or OSError where no run would start.
    """
    trial = open_comparison(folder, [EXPERIMENTS[TRIED]], Scope("trial", 1), trained=False)
    trial.measure_memory()  # the first run in a new environment compiles modules and reads them from the disk
    start = time.perf_counter()
    trial.measure(1)
    seconds, experiment = time.perf_counter() - start, EXPERIMENTS[TRIED]
    for record in trial.records():
        if isinstance(speed := record.measured, Speed):
            seconds_per_image = 1 / images_per_second(experiment, speed)
            timed = speed.warmup_seconds + sum(speed.window_seconds) + sum(map(sum, speed.phase_seconds.values()))
            heating = speed.warmup_seconds - experiment.warmup_steps * experiment.batch_size * seconds_per_image
            return trial, Pace(max(0.0, seconds - timed), seconds_per_image, max(0.0, heating))
    return trial, TWO_CORES


def plan_default(minutes: float, pace: Pace, images: int | None = None, least_seeds: int = 1) -> DefaultPlan:
    """Return the default comparison with the images and the seeds that fit into a time at a pace.

    With `images`, that of a comparison that is resumed with at least so many seeds, only more seeds are planned.
    """

    def plan(images: int, seeds: int) -> DefaultPlan:
        experiments = [set_images(EXPERIMENTS[f"{name}-tiny"], images) for name in COMPARED]
        scope = replace(scopes(len(experiments), on_gpu=has_gpu())["default"], seeds=tuple(range(seeds)))
        runner = Runner(Progress(0.0))
        comparison = Comparison("planned", Path(), experiments, available_cores(), has_gpu(), runner, pace)
        return DefaultPlan(experiments, scope, comparison.expected_seconds(scope))

    if images is None:
        return plan(*fit_trainings(lambda size, seeds: plan(size, seeds).expected_seconds, 60 * minutes))
    plans = (plan(images, seeds) for seeds in range(MAX_SEEDS, least_seeds, -1))
    return next((one for one in plans if one.expected_seconds <= 60 * minutes), plan(images, least_seeds))
