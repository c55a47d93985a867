"""Which timed windows count, and the speed that they give. No torch here.

Other work on a machine makes the threads of a run wait for a core. A window
counts if its threads hardly waited and its GPU was not throttled. The seconds that they waited are subtracted.
How long a window took plays no part, because slow steps of an experiment's own are a cost of that experiment.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Core-seconds of waiting per second. A window at the limit is corrected by 20 %. In recorded comparisons, quiet and
# beside other work, limits from 0.1 to 0.4 give the same ratios (docs/results/measuring.md); above 0.6 they are biased.
MAX_WAITING_CORES = 0.2
# A run ends when as many windows count as were planned, or after this many times as many windows.
MAX_WINDOWS_FACTOR = 5
# A run whose counted windows are fewer than this share of the planned ones has no undisturbed speed.
MIN_COUNTED_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class TimingWindows:
    """The timed windows of a run, in the order of time; steps that were timed in phases are windows of one step."""

    num_planned: int
    images: Sequence[int]  # per window, of all processes together
    seconds: Sequence[float]  # per window, of the slowest process
    # Per window: the mean number of threads that waited for a core (core-seconds per second); empty: not reported.
    waiting_cores: Sequence[float] = ()
    throttled_percent: Sequence[float] = ()  # of a window's time; empty: no GPU

    def counted_mask(self) -> npt.NDArray[np.bool_]:
        """Return for each window whether it counts: its threads hardly waited for a core, its GPU was not throttled."""
        counted = np.ones(len(self.seconds), bool)
        if len(self.waiting_cores):
            counted &= np.array(self.waiting_cores) <= MAX_WAITING_CORES
        if len(self.throttled_percent):
            counted &= np.array(self.throttled_percent) == 0
        return counted

    def has_enough_windows(self, max_factor: int = MAX_WINDOWS_FACTOR) -> bool:
        """Return whether as many windows count as were planned, or `max_factor` times as many were timed."""
        is_at_limit = len(self.seconds) >= max_factor * self.num_planned
        return is_at_limit or self.num_counted() >= self.num_planned

    def num_counted(self) -> int:
        """Return the number of windows that count."""
        return int(self.counted_mask().sum())

    def undisturbed_images_per_second(self) -> float | None:
        """Return the images per second in the windows that count; None if too few do.

        The figure is a mean over windows and not a median. Where windows have different numbers of images, as with
        several image sizes, each number is weighted by how often it was timed, so that it does not matter which of them
        were left out.
        """
        if self.num_counted() < MIN_COUNTED_SHARE * self.num_planned:
            return None
        counted = self.counted_mask()
        images = np.array(self.images)
        seconds = np.array(self.seconds)
        if len(self.waiting_cores):
            seconds = seconds * (1 - np.array(self.waiting_cores))
        total_seconds = 0.0
        for num_images in np.unique(images):
            alike = images == num_images
            counted_seconds = seconds[alike & counted]
            if not len(counted_seconds):
                return None
            total_seconds += counted_seconds.mean() * alike.sum()
        return float(images.sum() / total_seconds)

    def images_per_second_of_all_windows(self) -> float:
        """Return the images per second over all windows, other work included."""
        return float(np.sum(self.images) / np.sum(self.seconds))
