"""The budgets of a training in images: equal images, half of them, and equal device seconds."""

from collections.abc import Mapping

from bench.config import Experiment
from bench.data.image_sizes import images_before, nearest_step_count

EQUAL_IMAGES, EQUAL_SECONDS, HALF_WAY = "equal images", "equal device seconds", "half of equal images"


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
