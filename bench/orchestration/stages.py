"""How long the stages of a comparison will take, from its first round, and what of them fits into a time.

The first round is the trial: before it nothing is known of the machine.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.experiment.config import Experiment
from bench.interfaces.catalog import installed_references
from bench.measure.throughput import images_per_second
from bench.orchestration.budgets import image_budgets, set_images
from bench.orchestration.scope import Scope
from bench.records.record import Record, Speed
from bench.statistics.ratios import MIN_ROUNDS

START_SECONDS = (
    4.0  # from the start of a process to its first step, on two cores, where it was not timed
)
PARALLEL_GAIN = 1.2  # images/s of trainings that share the cores, over those of one on all cores
# Of a subject on a task, at REFERENCE_RATE.
CURVE_SECONDS = {
    "few-shot": 4.0,
    "label-fractions": 7.0,
}
SCORING_SECONDS = 1.5  # of a subject on a task by all other protocols, at REFERENCE_RATE
REFERENCE_RATE = 900.0  # images/s of the first experiment on the two cores that were timed

MAX_SEEDS = 5
MAX_IMAGES, MIN_IMAGES, IMAGES_STEP = 80_000, 20_000, 1_000  # of a training that is planned by time
CHEAP_RATIO = (
    1.1  # of the times with MAX_IMAGES and MIN_IMAGES, up to which MAX_IMAGES are always trained
)


@dataclass(frozen=True, slots=True)
class FirstRound:
    """What the first round of a comparison shows of the machine."""

    seconds: float  # of the round
    start_seconds: float  # of a run, mean: from the start of its process to its first step
    rates: Mapping[str, float]  # images/s of each experiment on all cores


def read_first_round(
    records: Sequence[Record], experiments: Sequence[Experiment], seconds: float | None
) -> FirstRound | None:
    """Return what the first round shows; None if a run of it failed. `seconds` is its time, None: not known."""
    rates = dict[str, float]()
    step_seconds = 0.0
    names = {experiment.name for experiment in experiments}
    for record in records:
        speed = record.measured
        if (
            isinstance(speed, Speed)
            and speed.round == 0
            and record.experiment
            and record.experiment.name in names
        ):
            rates[record.experiment.name] = images_per_second(record.experiment, speed)
            step_seconds += (
                speed.warmup_seconds
                + sum(speed.window_seconds)
                + sum(map(sum, speed.phase_seconds.values()))
            )
    if len(rates) < len(names):
        return None
    if seconds is None:
        seconds = step_seconds + START_SECONDS * len(names)
    return FirstRound(seconds, max(0.0, seconds - step_seconds) / len(names), rates)


def training_seconds(
    first_round: FirstRound, experiments: Sequence[Experiment], scope: Scope, max_parallel: int
) -> float:
    """Return the expected seconds of all trainings of a scope, `max_parallel` at a time."""
    num_parallel = min(max_parallel, len(scope.seeds) * len(experiments))
    gain = PARALLEL_GAIN if num_parallel > 1 else 1.0
    seconds = 0.0
    for experiment in experiments:
        speeds = first_round.rates if scope.equal_seconds else {}
        budgets = {*image_budgets(experiment, speeds, half_way=scope.half_way).values()}
        cooldown_images = experiment.training.cooldown_share * (sum(budgets) - max(budgets))
        images = max(budgets) + cooldown_images
        seconds += (
            first_round.start_seconds / num_parallel
            + images / first_round.rates[experiment.name] / gain
        )
    return len(scope.seeds) * seconds


def scoring_seconds(
    first_round: FirstRound,
    experiments: Sequence[Experiment],
    scope: Scope,
    max_parallel: int,
    *,
    on_gpu: bool,
) -> float:
    """Return the expected seconds of scoring all towers of a scope, their baselines and the reference features."""
    # Each budget leaves a tower, but the slowest experiment's two budgets of equal size share one.
    num_towers = len(experiments) * (1 + scope.half_way + scope.equal_seconds) - scope.equal_seconds
    num_subjects = len(scope.seeds) * (num_towers + 1) + len(installed_references())
    slowness = 1.0 if on_gpu else REFERENCE_RATE / first_round.rates[experiments[0].name]
    num_processes = max_parallel + len(scope.seeds) - 1
    seconds = 0.0
    for protocols, tasks in scope.protocols_and_tasks:
        seconds_per_score = (
            sum(CURVE_SECONDS.get(protocol, 0.0) for protocol in protocols) or SCORING_SECONDS
        )
        seconds += (
            num_processes * first_round.start_seconds
            + slowness * seconds_per_score * num_subjects * len(tasks)
        )
    return seconds / max_parallel


@dataclass(frozen=True, slots=True)
class StageTimes:
    """The expected times of a comparison after its first round."""

    first_round: FirstRound
    experiments: Sequence[Experiment]
    max_parallel: int
    on_gpu: bool

    def later_seconds(self, scope: Scope, images: int) -> float:
        """Return the expected seconds of training on so many images, and of scoring."""
        sized = [set_images(experiment, images) for experiment in self.experiments]
        training = training_seconds(self.first_round, sized, scope, self.max_parallel)
        return training + scoring_seconds(
            self.first_round, sized, scope, self.max_parallel, on_gpu=self.on_gpu
        )

    def seconds_left(self, scope: Scope, images: int) -> float:
        """Return the expected seconds of everything after the first round."""
        return (scope.rounds - 1) * self.first_round.seconds + self.later_seconds(scope, images)


def fit_stages(
    scope: Scope,
    seconds: float,
    expected_seconds: Callable[[Scope, int], float],
    images: int | None = None,
) -> tuple[Scope, int]:
    """Return the rounds, seeds and images of each training that fit into a time; the fewest if none fit.

    `expected_seconds` is the time after the first round, given a scope and images. More seeds are trained only with
    MAX_IMAGES: an interval over seeds says more than longer trainings. Where little time is left, the images are fewer,
    and then the rounds. Where `images` are given, of trainings that have ended, only seeds are added.
    """
    most_images = MAX_IMAGES if images is None else images
    for num_seeds in range(MAX_SEEDS, len(scope.seeds), -1):
        seeded = replace(scope, seeds=tuple(range(num_seeds)))
        if expected_seconds(seeded, most_images) <= seconds:
            return seeded, most_images
    if images is not None:
        return scope, images
    is_cheap = expected_seconds(scope, MAX_IMAGES) <= CHEAP_RATIO * expected_seconds(
        scope, MIN_IMAGES
    )
    fewest_images = MAX_IMAGES if is_cheap else MIN_IMAGES
    for size in range(MAX_IMAGES, fewest_images - 1, -IMAGES_STEP):
        if expected_seconds(scope, size) <= seconds:
            return scope, size
    for rounds in range(scope.rounds - 1, MIN_ROUNDS, -1):
        shortened = replace(scope, rounds=rounds)
        if expected_seconds(shortened, fewest_images) <= seconds:
            return shortened, fewest_images
    return replace(scope, rounds=min(scope.rounds, MIN_ROUNDS)), fewest_images
