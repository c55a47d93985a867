"""A timed run of an experiment: its windows, its images per second, and its use of the device. No torch here."""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from bench.experiment.config import Experiment
from bench.measure.windows import TimingWindows
from bench.records.record import Speed


class TimedRun(NamedTuple):
    """An experiment, and the `Speed` record of one run of it. Rates are of all processes of the run together."""

    experiment: Experiment
    speed: Speed

    def steps_per_window(self) -> int:
        """Return the number of steps in each window."""
        return self.speed.steps_per_window or self.experiment.timing.steps_per_window

    def images_per_step(self) -> float:
        """Return the mean number of images of a timed step on one device."""
        if not self.speed.window_images:
            return float(self.experiment.training.batch_size)
        return fmean(self.speed.window_images) / self.steps_per_window()

    def windows(self) -> TimingWindows:
        """Return the timed windows; with several processes a window lasts as long as on the slowest."""
        speed = self.speed
        seconds = speed.window_seconds
        if speed.rank_window_seconds:
            seconds = tuple(max(ranks) for ranks in zip(*speed.rank_window_seconds, strict=True))
        images_of_window = self.experiment.training.batch_size * self.steps_per_window()
        return TimingWindows(
            num_planned=max(1, self._num_planned_steps() // self.steps_per_window()),
            images=self._of_all_processes(speed.window_images or [images_of_window] * len(seconds)),
            seconds=seconds,
            waiting_cores=speed.window_core_waits,
            throttled_percent=speed.window_throttled_percent,
        )

    def forward_backward_windows(self) -> TimingWindows | None:
        """Return the steps that were timed in phases, without data and optimizer; None without phases."""
        phases = dict(self.speed.phase_seconds)
        phases.pop("data", None)
        phases.pop("optimizer", None)
        if not phases:
            return None
        seconds = [sum(step) for step in zip(*phases.values(), strict=True)]
        batch_size = self.experiment.training.batch_size
        return TimingWindows(
            num_planned=self.speed.planned_phase_steps
            or min(len(seconds), self._num_planned_steps()),
            images=self._of_all_processes(self.speed.phase_images or [batch_size] * len(seconds)),
            seconds=seconds,
            waiting_cores=self.speed.phase_core_waits,
        )

    def _of_all_processes(self, images_of_one: Sequence[int]) -> list[int]:
        """Return the numbers of images of all processes together."""
        return [self.speed.processes * images for images in images_of_one]

    def _num_planned_steps(self) -> int:
        """Return the number of steps in all windows that the experiment plans."""
        timing = self.experiment.timing
        return timing.timed_windows * timing.steps_per_window

    def images_per_second_preferably_undisturbed(self) -> float:
        """Return the images/s in the windows that count; in all windows if too few count."""
        return self.undisturbed_images_per_second() or self.images_per_second_of_all_windows()

    def undisturbed_images_per_second(self) -> float | None:
        """Return the images/s in the windows that count; None if too few count."""
        return self.windows().undisturbed_images_per_second()

    def images_per_second_of_all_windows(self) -> float:
        """Return the images/s over all windows, also those that other work disturbed."""
        return self.windows().images_per_second_of_all_windows()

    def forward_backward_images_per_second(self) -> float | None:
        """Return the images/s of forward and backward in the phase steps that count; None if too few do."""
        windows = self.forward_backward_windows()
        return windows.undisturbed_images_per_second() if windows else None

    def model_flops_utilisation(self, peak_flops_per_second: float) -> float:
        """Return the MFU: the matrix products of forward and backward (3 x forward FLOPs) over the devices' peak.

        The peak is of one device. The forward of a teacher or another frozen encoder counts once: it has no backward.
        Source: Chowdhery et al. 2022, arXiv:2204.02311, appendix B.
        """
        flops = self.speed.flops
        image_flops = (3 * flops.forward - 2 * flops.teacher_forward) / self.images_per_step()
        peak = self.speed.processes * peak_flops_per_second
        return image_flops * self.images_per_second_preferably_undisturbed() / peak
