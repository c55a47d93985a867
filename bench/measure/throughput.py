"""Images per second, and how much of the device that uses, from speed records. No torch here."""

from collections.abc import Iterable
from statistics import fmean, median

from bench.config import Experiment
from bench.record import Record, Speed


def images_per_second(experiment: Experiment, speed: Speed) -> float:
    """Return the rate of a timed run, all processes together, a window being as long as its last rank's.

    By the median window, or by all where they differ in their images.
    """
    windows = _window_seconds(speed)
    if len({*speed.window_images}) > 1:
        return speed.processes * sum(speed.window_images) / sum(windows)
    return speed.processes * images_per_step(experiment, speed) * experiment.steps_per_window / median(windows)


def window_rates(experiment: Experiment, speed: Speed) -> list[float]:
    """Return the images per second of every window, over all processes."""
    seconds = _window_seconds(speed)
    images = speed.window_images or [experiment.images_per_window] * len(seconds)
    return [speed.processes * many / taken for many, taken in zip(images, seconds, strict=True)]


def images_per_step(experiment: Experiment, speed: Speed) -> float:
    """Return the mean number of images of a timed step on one device."""
    if speed.window_images:
        return fmean(speed.window_images) / experiment.steps_per_window
    return float(experiment.batch_size)


def model_flops_utilisation(experiment: Experiment, speed: Speed, peak_flops_per_second: float) -> float:
    """Return the MFU: the matrix products of forward and backward (3 x forward FLOPs) over the devices' peak.

    A teacher's forward counts once, because it has no backward.

    Source: Chowdhery et al. 2022, arXiv:2204.02311, appendix B.
    """
    an_image = (3 * speed.flops.forward - 2 * speed.flops.teacher_forward) / images_per_step(experiment, speed)
    return an_image * images_per_second(experiment, speed) / (speed.processes * peak_flops_per_second)


def forward_backward_rate(experiment: Experiment, speed: Speed) -> float | None:
    """Return the images per second of forward and backward, by medians as `images_per_second`.

    None if the steps were not split into phases.
    """
    parts = [seconds for name, seconds in speed.phase_seconds.items() if seconds and name not in ("data", "optimizer")]
    if not parts:
        return None
    if speed.phase_images:
        return speed.processes * sum(speed.phase_images) / sum(map(sum, parts))
    return speed.processes * experiment.batch_size / sum(map(median, parts))


def throughputs_by_round(records: Iterable[Record]) -> dict[str, dict[int, float]]:
    """Return the images per second of every timed run, by the experiment's name and the round."""
    rates: dict[str, dict[int, float]] = {}
    for record in records:
        if isinstance(record.measured, Speed) and record.experiment is not None:
            rate = images_per_second(record.experiment, record.measured)
            rates.setdefault(record.experiment.name, {})[record.measured.round] = rate
    return rates


def _window_seconds(speed: Speed) -> list[float]:
    """Return the seconds of each window, the maximum over the ranks."""
    return [max(of_ranks) for of_ranks in zip(*(speed.rank_window_seconds or (speed.window_seconds,)), strict=True)]
