"""Windows, phases and learning rate of the steps of one side of a comparison."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

import torch
from torch import nn

from bench.data.stream import Batch
from bench.environment.slots import yield_slot
from bench.experiment.fields import OptimizerKernel, OptimizerSettings
from bench.features.reference import WARMUP_STEPS
from bench.measure.heating import heating
from bench.profilers.clock import clock, forward_clocks, synchronize
from bench.profilers.counters import count_graphs
from bench.train.step import Step

RAMP_STEPS = 2_000  # steps of linear warm-up of the learning rate; open_clip_train's default is 10,000
DEFAULT_KERNELS: dict[str, OptimizerKernel] = {"cpu": "for_loop", "cuda": "foreach"}  # of torch's AdamW, by device
MAX_COMPILED_WINDOWS = 20  # windows with new graphs until a side is given up


@dataclass(slots=True)
class WindowTimer:
    """The seconds of windows, with the device idle at both ends; interleaved runs yield their slot between windows."""

    device: torch.device
    steps: int  # per window
    windows: int
    warmup_steps: int = WARMUP_STEPS
    is_heated: bool = True  # before the windows, where the device is a GPU
    seconds: list[float] = field(default_factory=list)  # of each window

    def time_steps(self) -> Iterator[int]:
        """Yield the numbers of steps: of the warm-up and the heating, and of windows until enough are timed.

        The heating takes the steps of whole windows. A window in which a graph was compiled prolongs the warm-up.
        Raises RuntimeError if too many do.
        """
        steps, compiled_windows = count(), 0
        yield from islice(steps, self.warmup_steps)
        if self.is_heated:
            with heating(self.device) as heat:
                while not heat.is_over():
                    yield from islice(steps, self.steps)
        while len(self.seconds) < self.windows:
            graphs = count_graphs()
            synchronize(self.device)
            yield_slot()
            start = time.perf_counter()
            yield from islice(steps, self.steps)
            synchronize(self.device)
            seconds = time.perf_counter() - start
            if count_graphs() == graphs:
                self.seconds.append(seconds)
            elif (compiled_windows := compiled_windows + 1) > MAX_COMPILED_WINDOWS:
                raise RuntimeError(
                    f"{compiled_windows} windows compiled new graphs: set text_padding=packed, or compile=off"
                )
        yield_slot()


def batch_number(step: int, count: int) -> int:
    """Return the number of a step's batch, of `count`: those after the warm-up repeat."""
    return step if step < WARMUP_STEPS else WARMUP_STEPS + (step - WARMUP_STEPS) % (count - WARMUP_STEPS)


def reference_learning_rate(optimizer: OptimizerSettings, step: int) -> float:
    """Return the learning rate of a step of a linear warm-up, or after it, which a heated GPU may reach."""
    return optimizer.learning_rate * min(1.0, (step + 1) / RAMP_STEPS)


def time_phases(
    model: nn.Module, step: Step[Any], batches: Sequence[Batch[Any]], learning_rate: float
) -> dict[str, tuple[float, ...]]:
    """Return the seconds of each step's forward, loss, backward and optimizer, with the device idle between them."""
    device, phases = batches[0].images.device, defaultdict[str, list[float]](list)
    for batch in batches:
        with clock(device) as forward_and_loss, forward_clocks({"forward": model}, device) as seconds:
            loss = step.forward(batch)
        with clock(device) as backward:
            step.backward(loss)
        with clock(device) as optimizer:
            step.update(loss, learning_rate)
        seconds["loss"] = forward_and_loss.seconds - seconds["forward"]
        for name, value in (seconds | {"backward": backward.seconds, "optimizer": optimizer.seconds}).items():
            phases[name].append(value)
    return {name: tuple(values) for name, values in phases.items()}
