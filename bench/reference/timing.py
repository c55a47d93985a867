"""Windows, phases, learning rate and optimizer of the steps of one side of a comparison."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bench.config import Experiment
from bench.data.stream import Batch
from bench.environment.slots import yield_slot
from bench.profilers.clock import clock, forward_clocks, synchronize
from bench.reference import WARMUP_STEPS
from bench.train.step import Step, make_optimizer

RAMP_STEPS = 2_000  # steps of linear warm-up of the learning rate; open_clip_train's default is 10,000


@dataclass(slots=True)
class WindowTimer:
    """Start and end times of windows, with the device idle; interleaved runs yield their slot between windows."""

    device: torch.device
    steps: int  # per window
    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)

    def time_steps(self, steps: int) -> Iterator[int]:
        """Yield the numbers of steps; take the times at the ends of the warm-up and of each window."""
        for step in range(steps + 1):
            if step >= WARMUP_STEPS and (step - WARMUP_STEPS) % self.steps == 0:
                synchronize(self.device)
                self.ends.append(time.perf_counter())
                yield_slot()
                self.starts.append(time.perf_counter())
            if step < steps:
                yield step

    @property
    def seconds(self) -> tuple[float, ...]:
        """The seconds of each window."""
        return tuple(end - start for start, end in zip(self.starts, self.ends[1:], strict=False))


def ramped_learning_rate(experiment: Experiment, step: int) -> float:
    """Return the learning rate of a step of a linear warm-up."""
    return experiment.learning_rate * (step + 1) / RAMP_STEPS


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


def released_adamw(experiment: Experiment, model: nn.Module) -> torch.optim.AdamW:
    """Return AdamW as open_clip_train makes it: in torch's default form, with our parameter groups."""
    groups = [
        {name: group[name] for name in ("params", "weight_decay")}
        for group in make_optimizer(experiment, model).param_groups
    ]
    return torch.optim.AdamW(groups, lr=experiment.learning_rate, betas=experiment.betas, eps=experiment.eps)
