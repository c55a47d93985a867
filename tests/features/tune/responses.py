"""Simulated accuracies of trials: a smooth peak over the logarithm of the rate, with noise.

The ranges come from the four rates in bench/experiment/experiments.py, where twice or half the best rate costs 0.01 to
0.05 of the accuracy, and higher rates cost more than lower ones. The noise is the binomial error of the mean over the
validation parts of the pack's tasks, which have 58, 89 and 205 images; of equal images, trials answer many alike.
"""

import math
from dataclasses import dataclass

import numpy as np

WORST_LOSS = 0.3  # accuracy between the peak and a tower that has learned nothing
FURTHEST_BEST = math.log(3)  # between the best rate and the experiment's own
NOISE = (0.01, 0.025)  # standard deviation of the accuracy of one training
LOSS_AT_DOUBLE = (0.01, 0.05)  # accuracy that is lost at half of the best rate
STEEPNESS = (1.0, 3.0)  # factor of that loss on the side of higher rates
LARGEST_SHIFT = math.log(1.5)  # by how much the best rate is higher at a ninth of the images
OTHER_FIELDS = 0.004  # standard deviation of the effect of a trial's other settings


@dataclass(frozen=True)
class Response:
    """The accuracy of a simulated method by the log of the rate over the experiment's own, and by images."""

    best_log_rate: float  # on all images
    loss_at_double: float
    steepness: float
    shift: float  # of the best log rate at a ninth of the images
    noise: float
    generator: np.random.Generator

    @classmethod
    def draw(cls, seed: int) -> "Response":
        generator = np.random.default_rng(seed)
        return cls(
            best_log_rate=generator.uniform(-FURTHEST_BEST, FURTHEST_BEST),
            loss_at_double=math.exp(generator.uniform(*np.log(LOSS_AT_DOUBLE))),
            steepness=generator.uniform(*STEEPNESS),
            shift=generator.uniform(0, LARGEST_SHIFT),
            noise=generator.uniform(*NOISE),
            generator=generator,
        )

    def accuracy(self, log_rate: float, share: float, effect: float) -> float:
        """Return a noisy accuracy after a share of the images; `effect` is of the trial's other settings."""
        best = self.best_log_rate + self.shift * math.log(1 / share) / math.log(9)
        doublings = (log_rate - best) / math.log(2)
        steepness = self.steepness if doublings > 0 else 1.0
        loss = steepness * self.loss_at_double * doublings**2
        peak = 0.5 + 0.03 * math.log(share, 3)
        lost = WORST_LOSS * (1 - math.exp(-loss / WORST_LOSS))
        return peak - lost + effect + self.generator.normal(0, self.noise)

    def draw_effects(self, num_trials: int) -> list[float]:
        """Return the effect of each trial's other settings, which is the same at every number of images."""
        return self.generator.normal(0, OTHER_FIELDS, num_trials).tolist()
