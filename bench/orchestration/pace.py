"""How long runs take on a machine: expected, or from a short measured run; and what fits into a time."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass

from bench.config import Experiment

CURVE_SECONDS = {"few-shot": 4.0, "label-fractions": 7.0}  # per subject on one task; others take SCORING_SECONDS
SCORING_SECONDS = 1.5  # per subject and task, where an image takes 1 / 900 s
PARALLEL_GAIN = 1.2  # images/s of trainings that share the cores, over those of one on all cores
MAX_SEEDS, MAX_IMAGES, MIN_IMAGES, IMAGES_STEP = 5, 80_000, 20_000, 1_000  # of a training that is planned by time
CHEAP_SHARE = 0.1  # of a comparison's time, which training on MAX_IMAGES in place of MIN_IMAGES may cost at any time

FEW_STEPS_EQUIVALENT = 7  # time of a memory run, or of an attempt to fit a batch, in ordinary steps
START_SECONDS = 4.0  # from the start of a process to its first step, on two cores


@dataclass(frozen=True, slots=True)
class Pace:
    """The speed of a machine with one tower; by default two cores at the tiny scale, which progress corrects."""

    start_seconds: float = START_SECONDS
    seconds_per_image: float = 1 / 900  # of a training step on all cores
    fixed_step_seconds: float = 0.0  # of a step at any batch size: the update of the weights
    heating_seconds: float = 0.0  # of a speed run, before its windows: a GPU is brought to its temperature

    def slowed(self, times: float) -> "Pace":
        """Return the pace of a machine that takes so many times as long."""
        return Pace(*(times * seconds for seconds in astuple(self)))

    def step_seconds(self, experiment: Experiment) -> float:
        """Expect the seconds of a training step."""
        return experiment.batch_size * self.seconds_per_image + self.fixed_step_seconds

    def few_steps_seconds(self, experiment: Experiment) -> float:
        """Expect the seconds of a run of a few steps, one of them counted tensor by tensor."""
        return self.start_seconds + FEW_STEPS_EQUIVALENT * self.step_seconds(experiment)

    def speed_seconds(self, experiment: Experiment) -> float:
        """Expect the seconds of a speed run."""
        steps = experiment.warmup_steps + 2 * experiment.windows * experiment.steps_per_window  # timed, then by phase
        return self.start_seconds + self.heating_seconds + steps * self.step_seconds(experiment)

    def training_seconds(self, experiment: Experiment, budgets: Mapping[str, int], num_parallel: int) -> float:
        """Expect a training's share of the seconds in which so many run in parallel."""
        cooldowns = experiment.cooldown_share * (sum({*budgets.values()}) - max(budgets.values()))
        steps = (max(budgets.values()) + cooldowns) / experiment.batch_size
        seconds = steps * self.step_seconds(experiment)
        return self.start_seconds / num_parallel + seconds / (PARALLEL_GAIN if num_parallel > 1 else 1)

    def scoring_seconds(self, num_subjects: int, num_tasks: int, protocols: Sequence[str]) -> float:
        """Expect the seconds of a process that scores so many subjects on so many tasks, on one core."""
        seconds_per_score = sum(CURVE_SECONDS.get(protocol, 0.0) for protocol in protocols) or SCORING_SECONDS
        return self.start_seconds + 900 * self.seconds_per_image * seconds_per_score * num_subjects * num_tasks


TWO_CORES = Pace()


def fit_trainings(expected_seconds: Callable[[int, int], float], seconds: float) -> tuple[int, int]:
    """Return the images and the seeds of trainings that fit into a time; the fewest if none fit.

    `expected_seconds` is of the whole comparison, given both. Seeds are added at `MAX_IMAGES`: the interval over them
    says more than longer trainings of one. Where images cost little, as on a GPU, `MAX_IMAGES` are kept.
    """
    for seeds in range(MAX_SEEDS, 0, -1):
        if expected_seconds(MAX_IMAGES, seeds) <= seconds:
            return MAX_IMAGES, seeds
    if expected_seconds(MAX_IMAGES, 1) <= (1 + CHEAP_SHARE) * expected_seconds(MIN_IMAGES, 1):
        return MAX_IMAGES, 1
    sizes = range(MIN_IMAGES, MAX_IMAGES, IMAGES_STEP)
    num_fitting = bisect_right(sizes, seconds, key=lambda size: expected_seconds(size, 1))
    return sizes[max(0, num_fitting - 1)], 1
