"""The images on which an experiment is trained, by budget."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from bench.config import Experiment
from bench.data.image_sizes import images_before, nearest_step_count

EQUAL_IMAGES, EQUAL_SECONDS, HALF_WAY = "equal images", "equal device seconds", "half of equal images"
EXPECTED_SPEED = 1.05  # of an experiment over the slowest's, on average, before speeds are measured


def set_images(experiment: Experiment, images: int) -> Experiment:
    """Return the experiment trained on so many images, with a warm-up of at most a tenth of them."""
    return replace(experiment, images=images, warmup_images=min(experiment.warmup_images, images // 10))


def image_budgets(
    experiment: Experiment, speeds: Mapping[str, float], *, half_way: bool = False, processes: int = 1
) -> dict[str, int]:
    """Return an experiment's budgets in images, in whole batches of all processes.

    The device seconds are those that the slowest experiment needs for the equal images, so that every other one trains
    on as many images or more. Without speeds there is only the budget of equal images.
    """
    budgets: dict[str, float] = {EQUAL_IMAGES: experiment.images}
    if half_way:
        budgets[HALF_WAY] = experiment.images / 2
    if experiment.name in speeds:
        budgets[EQUAL_SECONDS] = experiment.images * speeds[experiment.name] / min(speeds.values())
    steps = {name: max(1, nearest_step_count(experiment, round(size / processes))) for name, size in budgets.items()}
    return {name: images_before(experiment, many) * processes for name, many in steps.items()}


def expected_speeds(experiments: Sequence[Experiment]) -> dict[str, float]:
    """Return relative speeds as expected before they are measured: that of the slowest is 1."""
    slowest, *others = (one.name for one in experiments)
    return {slowest: 1.0, **dict.fromkeys(others, EXPECTED_SPEED)}
