"""The images on which an experiment is trained, by budget, and the speeds that decide them."""

import math
from collections.abc import Collection, Mapping

from bench.console.console import log
from bench.data.image_sizes import make_batch_shape_schedule
from bench.experiment.config import Experiment, change
from bench.measure.throughput import rates_by_round, timed_runs_by_experiment
from bench.measure.timed_run import TimedRun
from bench.records.record import EQUAL_IMAGES, EQUAL_SECONDS, Record
from bench.statistics.ratios import compare_rates

HALF_WAY = "half of equal images"
MAX_INTERVAL_RATIO = 1.5  # maximum ratio of an interval's ends to derive a budget from it


def with_training_images_and_short_warmup(experiment: Experiment, images: int) -> Experiment:
    """Return the experiment trained on so many images.

    Its warm-up has at most a tenth of them, or the experiment's share if that is larger.
    """
    training = experiment.training
    as_in_training = images * training.warmup_images // training.images_seen
    warmup_images = min(training.warmup_images, max(images // 10, as_in_training))
    return change(experiment, images_seen=images, warmup_images=warmup_images)


def image_budgets(
    experiment: Experiment,
    relative_speeds: Mapping[str, float],
    *,
    half_way: bool = False,
    processes: int = 1,
) -> dict[str, int]:
    """Return an experiment's budgets in images of all processes, by name, in whole batches of all processes.

    `relative_speeds` are by experiment, in any common unit. The device seconds are those that the slowest experiment
    needs for the equal images, so that every other one trains on as many images or more. Without speeds there is no
    budget of seconds.
    """
    images = experiment.training.images_seen
    budgets: dict[str, float] = {EQUAL_IMAGES: images}
    if half_way:
        budgets[HALF_WAY] = images / 2
    if experiment.name in relative_speeds:
        speed = relative_speeds[experiment.name]
        budgets[EQUAL_SECONDS] = images * speed / min(relative_speeds.values())
    batch_shapes = make_batch_shape_schedule(experiment)
    whole_batches = dict[str, int]()
    for name, size in budgets.items():
        steps = max(1, batch_shapes.nearest_step_count(round(size / processes)))
        whole_batches[name] = batch_shapes.images_per_device_before(steps) * processes
    return whole_batches


def read_relative_speeds(records: Collection[Record], names: Collection[str]) -> dict[str, float]:
    """Return the images/s of each named experiment over one of them; nothing if any is too uncertain for a budget."""
    rates = {
        name: rates_by_round(runs, TimedRun.undisturbed_images_per_second)
        for name, runs in timed_runs_by_experiment(records).items()
        if name in names
    }
    if not rates:
        return {}
    base = next(iter(rates))
    base_rates = rates.pop(base)
    speeds = {base: 1.0}
    for name, other_rates in rates.items():
        ratio = compare_rates(base_rates, other_rates) if base_rates and other_rates else None
        low = ratio.low if ratio else None
        if not ratio or not low or (ratio.high or math.inf) > MAX_INTERVAL_RATIO * low:
            log(f"no budget of equal device seconds: the speed of {name} is too uncertain")
            return {}
        speeds[name] = ratio.value
    return speeds
