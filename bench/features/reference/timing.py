"""Windows and learning rate of the steps of one side of a comparison."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice

import torch

from bench.environment.slots import yield_and_wait_for_slot
from bench.experiment.fields import OptimizerKernel, OptimizerSettings
from bench.features.reference import WARMUP_STEPS
from bench.measure.heating import yield_until_device_is_hot
from bench.profilers.clock import synchronize
from bench.profilers.counters import count_compiled_graphs

# Steps of linear warm-up of the learning rate; open_clip_train's default is 10,000.
RAMP_STEPS = 2_000
# Default form of torch's AdamW, by device.
DEFAULT_KERNELS: dict[str, OptimizerKernel] = {"cpu": "for_loop", "cuda": "foreach"}
MAX_COMPILED_WINDOWS = 20  # windows with new graphs until a side is given up


@dataclass(slots=True)
class WindowTimer:
    """Times windows of steps that its user takes, with the device idle at both ends of a window.

    Interleaved runs yield their slot between windows.
    """

    device: torch.device
    steps_per_window: int
    num_windows: int
    untimed_steps: int = WARMUP_STEPS
    heats_gpu: bool = True  # takes steps before the windows until a GPU is warm
    seconds: list[float] = field(default_factory=list)  # of each timed window

    def yield_and_time_steps(self) -> Iterator[int]:
        """Yield the numbers of the steps that the caller takes: warm-up, heating, and windows, which it times.

        The heating takes the steps of whole windows. A window in which a graph was compiled prolongs the warm-up.
        Raises RuntimeError if too many do.
        """
        steps = count()
        compiled_windows = 0
        yield from islice(steps, self.untimed_steps)
        if self.heats_gpu:
            for _ in yield_until_device_is_hot(self.device):
                yield from islice(steps, self.steps_per_window)
        while len(self.seconds) < self.num_windows:
            graphs = count_compiled_graphs()
            synchronize(self.device)
            yield_and_wait_for_slot()
            start = time.perf_counter()
            yield from islice(steps, self.steps_per_window)
            synchronize(self.device)
            seconds = time.perf_counter() - start
            if count_compiled_graphs() == graphs:
                self.seconds.append(seconds)
                continue
            compiled_windows += 1
            if compiled_windows > MAX_COMPILED_WINDOWS:
                raise RuntimeError(
                    f"{compiled_windows} windows compiled new graphs: set text_padding=packed_rows, or compile=off"
                )
        yield_and_wait_for_slot()


def batch_number_of_step(step: int, num_batches: int) -> int:
    """Return the number of the batch that a step reads: batches after those of the warm-up repeat."""
    if step < WARMUP_STEPS:
        return step
    return WARMUP_STEPS + (step - WARMUP_STEPS) % (num_batches - WARMUP_STEPS)


def reference_learning_rate(optimizer: OptimizerSettings, step: int) -> float:
    """Return the learning rate of a step: a linear warm-up over RAMP_STEPS, then constant."""
    return optimizer.learning_rate * min(1.0, (step + 1) / RAMP_STEPS)
