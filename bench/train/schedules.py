"""The built-in schedules of the learning rate. No torch here."""

import math

from bench.experiment.fields import TrainingSettings
from bench.interfaces.schedule import Schedule


class WarmupStableDecay(Schedule):
    """A constant rate after the warm-up, and a linear cool-down to nearly 0 for each length."""

    name = "wsd"

    def cooldown_share(self, training: TrainingSettings) -> float:
        return training.cooldown_share

    def cooldown_rate(
        self, rate: float, step: int, cooldown: range, warmup: int, training: TrainingSettings
    ) -> float:
        return rate * (cooldown.stop - step) / (len(cooldown) + 1)


class Cosine(Schedule):
    """A cosine after the warm-up, which falls to `min_learning_rate`."""

    name = "cosine"

    def cooldown_rate(
        self, rate: float, step: int, cooldown: range, warmup: int, training: TrainingSettings
    ) -> float:
        if step < warmup:
            return rate
        fraction = (step - warmup) / max(1, cooldown.stop - warmup)
        return cosine_decay(rate, training.min_learning_rate, fraction)


def cosine_decay(high: float, low: float, fraction: float) -> float:
    """Return the value at a fraction (0 to 1) of half a cosine that falls from `high` to `low`.

    Source: Loshchilov & Hutter 2017, arXiv 1608.03983, equation 5 without restarts.
    """
    return low + (high - low) * (1 + math.cos(math.pi * fraction)) / 2


SCHEDULES = (WarmupStableDecay(), Cosine())
