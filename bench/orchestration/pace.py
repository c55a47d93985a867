"""How long runs take on a machine: expected, or from a short measured run; and what fits into a time."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any

from bench.environment.gpu_specs import GpuSpec
from bench.experiment.config import Experiment
from bench.experiment.fields import RuntimeSettings
from bench.interfaces.method import get_method

CURVE_SECONDS = {"few-shot": 4.0, "label-fractions": 7.0}  # per subject on one task; others take SCORING_SECONDS
SCORING_SECONDS = 1.5  # per subject and task, where an image takes 1 / 900 s
PARALLEL_GAIN = 1.2  # images/s of trainings that share the cores, over those of one on all cores
MAX_SEEDS, MAX_IMAGES, MIN_IMAGES, IMAGES_STEP = 5, 80_000, 20_000, 1_000  # of a training that is planned by time
CHEAP_SHARE = 0.1  # of a comparison's time, which training on MAX_IMAGES in place of MIN_IMAGES may cost at any time

FEW_STEPS_EQUIVALENT = 7  # time of a memory run, or of an attempt to fit a batch, in ordinary steps
START_SECONDS = 4.0  # from the start of a process to its first step, on two cores

# Shares of a GPU's peak that the FLOPs of a step are expected to reach at least (`bench.experiment.published`).
# Eager: under that of DataComp's B/32 on one A100. Compiled: under NeMo's g/14 on 8 H100. fp32: assumed, of its peak.
EAGER_SHARE, COMPILED_SHARE, FP32_SHARE = 0.12, 0.18, 0.35
COMPILE_SECONDS = {"on": (10.0, 40.0), "max-autotune": (10.0, 180.0)}  # from the cache on disk, and the first time


@dataclass(frozen=True, slots=True)
class Pace:
    """The speed of a machine with one tower; by default two cores at the tiny scale, which progress corrects."""

    process_start_seconds: float = START_SECONDS
    seconds_per_image: float = 1 / 900  # of a training step on all cores
    fixed_step_seconds: float = 0.0  # of a step at any batch size: the update of the weights
    heating_seconds: float = 0.0  # of a speed run, before its windows: a GPU is brought to its temperature
    flop_counting_seconds: float = 0.0  # of a speed run, after its windows: its FLOPs are counted
    command_seconds: float = 3.0  # of the command that starts the runs, beside them
    page_seconds: float = 10.0  # of drawing the page of a folder: 4 s of one core for 28 records
    on_gpu: bool = False

    def slowed(self, times: float) -> "Pace":
        """Return the pace of a machine that takes so many times as long."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        slowed: dict[str, Any] = {name: times * value for name, value in values.items() if isinstance(value, float)}
        return replace(self, **slowed)

    def startup_seconds(self, experiment: Experiment, *, is_first: bool = False) -> float:  # noqa: ARG002 - of a GPU
        """Return the expected seconds until the first step of a process; its kernels are new if it `is_first`."""
        return self.process_start_seconds

    def step_seconds(self, experiment: Experiment) -> float:
        """Return the expected seconds of a training step."""
        return experiment.training.batch_size * self.seconds_per_image + self.fixed_step_seconds

    def few_steps_seconds(self, experiment: Experiment) -> float:
        """Return the expected seconds of a run of a few steps, one of them counted tensor by tensor."""
        return self.startup_seconds(experiment, is_first=True) + FEW_STEPS_EQUIVALENT * self.step_seconds(experiment)

    def speed_run_seconds(self, experiment: Experiment, *, is_first: bool = False) -> float:
        """Return the expected seconds of a speed run: warm-up, windows, and phases, on a GPU of one window."""
        windows = experiment.timing.windows + (1 if self.on_gpu else experiment.timing.windows)
        steps = experiment.timing.warmup_steps + windows * experiment.timing.steps_per_window
        start = self.startup_seconds(experiment, is_first=is_first)
        return start + self.heating_seconds + self.flop_counting_seconds + steps * self.step_seconds(experiment)

    def training_seconds(self, experiment: Experiment, budgets: Mapping[str, int], num_parallel: int) -> float:
        """Return a training's expected share of the seconds in which so many run in parallel."""
        cooldowns = experiment.training.cooldown_share * (sum({*budgets.values()}) - max(budgets.values()))
        steps = (max(budgets.values()) + cooldowns) / experiment.mean_batch_size
        seconds = steps * self.step_seconds(experiment)
        return self.startup_seconds(experiment) / num_parallel + seconds / (PARALLEL_GAIN if num_parallel > 1 else 1)

    def scoring_seconds(self, num_subjects: int, num_tasks: int, protocols: Sequence[str]) -> float:
        """Return the expected seconds of a process that scores so many subjects on so many tasks, on one core."""
        seconds_per_score = sum(CURVE_SECONDS.get(protocol, 0.0) for protocol in protocols) or SCORING_SECONDS
        return self.process_start_seconds + 900 * self.seconds_per_image * seconds_per_score * num_subjects * num_tasks


TWO_CORES = Pace()


@dataclass(frozen=True, slots=True)
class GpuPace(Pace):
    """The speed of a GPU with any experiment, predicted from its data sheet: what real runs are faster than.

    Source of the seconds: a model of ViT-B/16 at batch 256 on an H100. torch is imported to count FLOPs.
    """

    process_start_seconds: float = 12.0
    fixed_step_seconds: float = 0.02  # of kernels that are launched one by one, and of the update of the weights
    heating_seconds: float = 20.0  # at most
    flop_counting_seconds: float = 2.0  # 1.3 s of one core at ViT-L/14
    command_seconds: float = 15.0  # torch is imported twice: to ask for the GPU, and to count FLOPs
    on_gpu: bool = True
    times: float = 1.0  # of compilation and of the FLOPs of a step, as a factor
    gpu: GpuSpec = field(kw_only=True)

    def startup_seconds(self, experiment: Experiment, *, is_first: bool = False) -> float:
        """Return the expected seconds from the start of a process to its first step, with those of torch.compile."""
        cached, first = COMPILE_SECONDS.get(_gpu_precision_and_compile(experiment.runtime)[1], (0.0, 0.0))
        return self.process_start_seconds + self.times * (first if is_first else cached)

    def step_seconds(self, experiment: Experiment) -> float:
        """Return the expected seconds of a training step, from its FLOPs and the peak of its precision."""
        precision, compiled = _gpu_precision_and_compile(experiment.runtime)
        share = FP32_SHARE if precision == "fp32" else EAGER_SHARE if compiled == "off" else COMPILED_SHARE
        flops = experiment.mean_batch_size * _flops_per_image(experiment)
        return self.times * flops / (share * self.gpu.peak_flops(precision)) + self.fixed_step_seconds


def _gpu_precision_and_compile(runtime: RuntimeSettings) -> tuple[str, str]:
    """Return the precision and the compilation of an experiment on a GPU."""
    precision, compiled = runtime.precision, runtime.compile
    return "bf16" if precision == "auto" else precision, "on" if compiled == "auto" else compiled


@cache
def _flops_per_image(experiment: Experiment) -> float:
    """Count the FLOPs of a step per image, with its caption padded to the context."""
    from bench.measure.costs import count_costs, forward_flops_as_released

    teacher = count_costs(experiment).teacher_flops if get_method(experiment.method).has_teacher else 0
    return (4 if experiment.runtime.activation_checkpointing else 3) * forward_flops_as_released(experiment) + teacher


def choose_images_and_seeds(expected_seconds: Callable[[int, int], float], seconds: float) -> tuple[int, int]:
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
