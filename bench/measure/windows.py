"""Which timed windows count, and the speed that they give. No torch here.

Other work on a machine makes the threads of a run wait for a core. A window
counts if its threads hardly waited and its GPU was not throttled. The seconds that they waited are subtracted.
How long a window took plays no part, because slow steps of an experiment's own are a cost of that experiment.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.experiment.config import Experiment
from bench.records.record import Record, Speed
from bench.tables.formats import pluralize

# Core-seconds of waiting per second. A window at the limit is corrected by 20 %. In recorded comparisons, quiet and
# beside other work, limits from 0.1 to 0.4 give the same ratios (docs/results/measuring.md); above 0.6 they are biased.
MAX_WAITING_CORES = 0.2
# A run ends when as many windows count as were planned, or after this many times as many windows.
MAX_WINDOWS_FACTOR = 5
# A run whose counted windows are fewer than this share of the planned ones has no undisturbed speed.
MIN_COUNTED_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Windows:
    """The timed windows of one process, in the order of time; steps that were timed in phases are windows of one."""

    num_planned: int
    images: Sequence[int]  # per window, of one process
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

    def has_enough_windows(self) -> bool:
        """Return whether as many windows count as were planned, or the run has timed as many as it may."""
        is_at_limit = len(self.seconds) >= MAX_WINDOWS_FACTOR * self.num_planned
        return is_at_limit or self.num_counted() >= self.num_planned

    def num_counted(self) -> int:
        """Return the number of windows that count."""
        return int(self.counted_mask().sum())

    def undisturbed_rate(self) -> float | None:
        """Return the images per second of one process in the windows that count; None if too few do.

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

    def rate_of_all_windows(self) -> float:
        """Return the images per second of one process over all windows, other work included."""
        return float(np.sum(self.images) / np.sum(self.seconds))


def timed_windows(experiment: Experiment, recorded: Speed) -> Windows:
    """Return the windows of a recorded run; with several processes a window lasts as long as on the slowest."""
    steps_per_window = recorded.steps_per_window or experiment.timing.steps_per_window
    planned_steps = experiment.timing.windows * experiment.timing.steps_per_window
    seconds = recorded.window_seconds
    if recorded.rank_window_seconds:
        seconds = tuple(max(ranks) for ranks in zip(*recorded.rank_window_seconds, strict=True))
    images_of_window = experiment.training.batch_size * steps_per_window
    return Windows(
        num_planned=max(1, planned_steps // steps_per_window),
        images=recorded.window_images or [images_of_window] * len(seconds),
        seconds=seconds,
        waiting_cores=recorded.window_core_waits,
        throttled_percent=recorded.window_throttled_percent,
    )


def forward_backward_windows(experiment: Experiment, recorded: Speed) -> Windows | None:
    """Return a recorded run's steps that were timed in phases, without data and optimizer; None without phases."""
    phases = dict(recorded.phase_seconds)
    phases.pop("data", None)
    phases.pop("optimizer", None)
    if not phases:
        return None
    seconds = [sum(step) for step in zip(*phases.values(), strict=True)]
    planned = experiment.timing.windows * experiment.timing.steps_per_window
    return Windows(
        num_planned=recorded.planned_phase_steps or min(len(seconds), planned),
        images=recorded.phase_images or [experiment.training.batch_size] * len(seconds),
        seconds=seconds,
        waiting_cores=recorded.phase_core_waits,
    )


def describe_reduced_threads(records: Sequence[Record]) -> str:
    """Return a sentence that busy processes reduced the threads of the runs; empty if they did not."""
    for record in records:
        circumstances = record.circumstances
        if circumstances.busy_processes and isinstance(record.measured, Speed):
            threads = pluralize(circumstances.threads, "thread")
            return f"Timed with {threads}, because {circumstances.busy_processes} kept a core busy."
    return ""


def describe_disturbed_windows(records: Iterable[Record], names: Collection[str]) -> str:
    """Return sentences on the windows of the experiments `names` that other work disturbed, and the time it cost.

    Empty if none of them was timed.
    """
    runs = []
    steps = "windows"
    for record in records:
        experiment = record.experiment
        if isinstance(record.measured, Speed) and experiment and experiment.name in names:
            runs.append(timed_windows(experiment, record.measured))
            if record.measured.steps_per_window == 1:
                steps = "steps"
    if not runs:
        return ""
    number = sum(len(windows.seconds) for windows in runs)
    left_out = number - sum(windows.num_counted() for windows in runs)
    if not left_out:
        if any(len(windows.waiting_cores) for windows in runs):
            return f"All {steps} count."
        return f"All {steps} count: this system does not report whether other work kept the runs from a core."
    is_throttled = any(np.any(windows.throttled_percent) for windows in runs)
    cause = "waited for a core or had a throttled GPU" if is_throttled else "waited for a core"
    added_seconds = sum(sum(windows.seconds[windows.num_planned :]) for windows in runs)
    text = f"{100 * left_out / number:.0f} % of the {steps} {cause} and were left out; "
    text += f"{added_seconds:.0f} s were added to make up for them."
    num_disturbed = sum(windows.undisturbed_rate() is None for windows in runs)
    if num_disturbed:
        text += f" {num_disturbed} of {len(runs)} runs were disturbed nearly throughout and are left out."
    return text
