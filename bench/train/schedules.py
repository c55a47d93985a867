"""The built-in schedules of the learning rate. No torch here."""

import math

from bench.experiment.fields import TrainingSettings
from bench.interfaces.schedule import Schedule


class WarmupStableDecay(Schedule):
    """A constant rate after the warm-up, and a linear cool-down to nearly 0 for each length."""

    name = "wsd"

    def cooldown_share(self, training: TrainingSettings) -> float:
        return training.cooldown_share

    def cooldown_learning_rate(
        self,
        trunk_rate: float,
        step: int,
        cooldown_steps: range,
        num_warmup_steps: int,
        training: TrainingSettings,
    ) -> float:
        return trunk_rate * (cooldown_steps.stop - step) / (len(cooldown_steps) + 1)


class Cosine(Schedule):
    """A cosine after the warm-up, which falls to `cosine_min_learning_rate`."""

    name = "cosine"

    def cooldown_learning_rate(
        self,
        trunk_rate: float,
        step: int,
        cooldown_steps: range,
        num_warmup_steps: int,
        training: TrainingSettings,
    ) -> float:
        if step < num_warmup_steps:
            return trunk_rate
        fraction = (step - num_warmup_steps) / max(1, cooldown_steps.stop - num_warmup_steps)
        return cosine_decay(trunk_rate, training.cosine_min_learning_rate, fraction)


def cosine_decay(high: float, low: float, fraction: float) -> float:
    """Return the value at a fraction (0 to 1) of half a cosine that falls from `high` to `low`.

    Source: Loshchilov & Hutter 2017, arXiv 1608.03983, equation 5 without restarts.
    """
    return low + (high - low) * (1 + math.cos(math.pi * fraction)) / 2


SCHEDULES = (WarmupStableDecay(), Cosine())
