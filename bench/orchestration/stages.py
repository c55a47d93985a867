"""How long the stages of a comparison will take, from its first round, and what of them fits into a time.

The first round is the trial: before it nothing is known of the machine.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from bench.interfaces.catalog import list_reference_feature_names
from bench.measure.throughput import timed_runs_by_experiment
from bench.orchestration.scope import MAX_IMAGES, ComparisonScope
from bench.records.record import Record
from bench.statistics.ratios import MIN_RUNS

# Figures of two cores. A training of several budgets takes that of the largest and the cool-downs of the others, and
# every experiment trains for the seconds of the slowest.
START_SECONDS = 4.0  # from the start of a process to its first step
COOLDOWNS = 1.3  # images of a training with the cool-downs of all budgets, over the equal images
PARALLEL_GAIN = 1.2  # images/s of trainings that share the cores, over those of one on all cores
# Seconds of a tower, at REFERENCE_RATE: on a task by all protocols, and by a curve over few labels.
SCORING_SECONDS = 1.5
CURVE_SECONDS = 5.0
REFERENCE_RATE = 900.0  # images/s of the slowest experiment where these were timed

MAX_SEEDS = 5
MIN_IMAGES = 20_000  # of a training that is planned by time
IMAGES_STEP = 1_000


@dataclass(frozen=True, slots=True)
class RemainingStageTimes:
    """What decides the time of the stages after the first round."""

    num_experiments: int
    max_parallel: int  # runs at a time
    round_seconds: float
    images_per_second: float  # of the slowest experiment on all cores

    def expected_seconds_left(self, scope: ComparisonScope) -> float:
        """Return the expected seconds of everything after the first round."""
        assert scope.images is not None
        num_trainings = len(scope.seeds) * self.num_experiments
        gain = PARALLEL_GAIN if self.max_parallel > 1 else 1.0
        training = num_trainings * COOLDOWNS * scope.images / self.images_per_second / gain
        num_baselines = len(scope.seeds) + len(list_reference_feature_names())
        budgets = 1 + scope.half_way + scope.equal_seconds
        num_towers = budgets * num_trainings + num_baselines
        tower_seconds = SCORING_SECONDS * len(scope.tasks) + CURVE_SECONDS * len(scope.curves)
        slowness = max(1.0, REFERENCE_RATE / self.images_per_second)
        scoring = slowness * num_towers * tower_seconds + num_trainings * START_SECONDS
        return (scope.rounds - 1) * self.round_seconds + training + scoring / self.max_parallel


def estimate_remaining_stage_times(
    records: Sequence[Record],
    num_experiments: int,
    max_parallel: int,
    round_seconds: float | None,
) -> RemainingStageTimes | None:
    """Return the expected times; None if a run of the first round failed.

    `round_seconds` is the time of a whole round; None: it is estimated from the seconds that the runs recorded.
    """
    timed_runs = chain.from_iterable(timed_runs_by_experiment(records).values())
    first_runs = [run for run in timed_runs if run.speed.round == 0]
    if len(first_runs) < num_experiments:
        return None
    if round_seconds is None:
        round_seconds = START_SECONDS * num_experiments
        for run in first_runs:
            round_seconds += run.speed.warmup_seconds + sum(run.speed.window_seconds)
            round_seconds += sum(map(sum, run.speed.phase_seconds.values()))
    slowest = min(run.images_per_second_preferably_undisturbed() for run in first_runs)
    return RemainingStageTimes(num_experiments, max_parallel, round_seconds, slowest)


def fit_scope_to_time(
    scope: ComparisonScope, seconds: float, expected_seconds: Callable[[ComparisonScope], float]
) -> ComparisonScope:
    """Return the largest scope that fits into a time; the smallest one if none fits.

    `expected_seconds` is the time of a scope after the first round.
    """
    smaller_scope = scope
    for smaller_scope in _list_scopes_from_largest(scope):
        if expected_seconds(smaller_scope) <= seconds:
            break
    return smaller_scope


def _list_scopes_from_largest(scope: ComparisonScope) -> Iterator[ComparisonScope]:
    """Yield scopes, the largest first.

    More seeds are trained only with MAX_IMAGES: an interval over seeds says more than longer trainings. Where little
    time is left, the images are fewer, then no curves and no half-trained towers are scored, then the rounds are fewer.
    """
    for num_seeds in range(MAX_SEEDS, len(scope.seeds) - 1, -1):
        yield replace(scope, seeds=tuple(range(num_seeds)))
    for images in range(MAX_IMAGES - IMAGES_STEP, MIN_IMAGES - 1, -IMAGES_STEP):
        yield replace(scope, images=images)
    smallest = replace(scope, images=MIN_IMAGES, half_way=False, curves=())
    for rounds in range(scope.rounds, MIN_RUNS - 1, -1):
        yield replace(smallest, rounds=rounds)
