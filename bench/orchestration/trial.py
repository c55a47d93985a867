"""A short run that shows how fast this machine is, and what of the default comparison fits into a time."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.experiment.config import Experiment
from bench.orchestration.budgets import set_images
from bench.orchestration.comparison import Comparison
from bench.orchestration.pace import MAX_SEEDS, Pace, choose_images_and_seeds
from bench.orchestration.preflight import open_comparison
from bench.orchestration.scope import Scope
from bench.orchestration.step_trial import link_cache, pace_from_record
from bench.records.record import read_record
from bench.tables.formats import pluralize

DEFAULT_MINUTES = 12.0
MOST_TRIALS, MAX_PACE_RATIO = 4, 1.2


@dataclass(frozen=True, slots=True)
class DefaultPlan:
    """The default comparison, as it fits into a time."""

    experiments: Sequence[Experiment]
    scope: Scope
    expected_seconds: float  # with those of the trial

    def __str__(self) -> str:
        images = self.experiments[0].training.images
        trainings = f"{pluralize(len(self.scope.seeds), 'seed')} of {images:,} images for each method"
        return f"{self.scope.rounds} rounds of speed, {trainings}: about {self.expected_seconds / 60:.0f} min"


def run_trial(folder: Path, experiment: Experiment, results: Path) -> tuple[Comparison, Pace]:
    """Time an experiment after a run of its memory; return the comparison of these runs, and the pace that they show.

    Records are written to `folder`; the index of shards is that in the cache of `results`.

    It is timed until the two fastest runs agree, at most four times, because other processes may be busy for some
    seconds. The pace is that of the fastest run, and of the fastest start: the first run also counts FLOPs. If a run
    fails, it is the one that was expected. Raises ValueError or OSError where no run would start.
    """
    link_cache(folder, results, experiment.input)
    trial = open_comparison(folder, [experiment], Scope("trial", 2), trained=False)
    trial.measure_memory()  # the first run in a new environment compiles modules and reads them from the disk
    paces = list[Pace]()
    while len(paces) < MOST_TRIALS and not fastest_two_agree(paces):
        start = time.perf_counter()
        (job,) = trial.jobs_of_round(trial.experiments, len(paces))
        trial.run_round([job])
        if not job.is_done:
            return trial, trial.pace
        paces.append(pace_from_record(read_record(job.request.paths[0]), time.perf_counter() - start))
    fastest = min(paces, key=lambda pace: pace.seconds_per_image)
    return trial, replace(fastest, process_start_seconds=min(pace.process_start_seconds for pace in paces))


def expected_trial_seconds(pace: Pace, experiment: Experiment) -> float:
    """Return the expected seconds of `run_trial` where its first two runs agree."""
    return pace.few_steps_seconds(experiment) + 2 * pace.speed_run_seconds(experiment)


def fastest_two_agree(paces: Sequence[Pace]) -> bool:
    """Return whether the two fastest of some paces differ by at most a fifth."""
    fastest = sorted(pace.seconds_per_image for pace in paces)
    return len(fastest) > 1 and fastest[1] <= MAX_PACE_RATIO * fastest[0]


def plan_default(
    experiments: Sequence[Experiment],
    scope: Scope,
    pace: Pace,
    minutes: float,
    images: int | None = None,
    least_seeds: int = 1,
    trial_seconds: float | None = None,
) -> DefaultPlan:
    """Return a comparison with the images and the seeds that fit into a time at a pace, after a trial.

    With `images`, that of a comparison that is resumed with at least so many seeds, only more seeds are planned. The
    trial took so many seconds, or is expected to.
    """
    if trial_seconds is None:
        trial_seconds = expected_trial_seconds(pace, experiments[0])

    def plan(images: int, seeds: int) -> DefaultPlan:
        sized, seeded = [set_images(one, images) for one in experiments], replace(scope, seeds=tuple(range(seeds)))
        comparison = Comparison.for_planning(sized, pace)
        return DefaultPlan(sized, seeded, trial_seconds + comparison.expected_seconds(seeded))

    if images is None:
        return plan(*choose_images_and_seeds(lambda size, seeds: plan(size, seeds).expected_seconds, 60 * minutes))
    plans = (plan(images, seeds) for seeds in range(MAX_SEEDS, least_seeds, -1))
    return next((one for one in plans if one.expected_seconds <= 60 * minutes), plan(images, least_seeds))
