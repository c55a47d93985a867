"""How much other work slowed the windows of a run, and how much of that is left in the run's figure and in ratios.

Other work only ever makes a window slower. A window therefore counts the less, the further it is slower than the fast
windows of its own run, or the longer its threads waited for a core. A run is judged without a look at the other
experiments, so that none is favoured. What is left of the slowdown widens the interval of a ratio.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt

FAST_QUANTILE = 0.1  # of a run's window times: those that nothing slowed down
NOISE = 0.06  # logarithm of the time beyond that quantile up to which a window counts as undisturbed
HALF_WEIGHT = 0.05  # logarithm of a slowdown beyond that, at which a window counts half
STEEPNESS = 4  # power with which its weight then falls
USUAL_WAITS = 0.05  # core-seconds per second for which threads wait for a core without other work
FAST_RUN_QUANTILE = 0.25  # of the times of an experiment's runs: those that nothing slowed down
NEGLIGIBLE = 0.01  # logarithm of a slowdown within a run that counts as none
RUN_LUCK = math.log(1.1)  # by which an undisturbed run may be slower than that
HALF_RUN_WEIGHT = 0.2  # logarithm of a slowdown at which a run counts half
MAX_INEQUALITY = 0.25  # of the logarithm of a slowdown, by which it may change a ratio


@dataclass(frozen=True, slots=True)
class WindowWeights:
    """The weights of a run's windows, from 0 to 1, and the logarithm by which the windows that count are slowed."""

    windows: tuple[float, ...]
    log_slowdown: float

    @property
    def disturbed_share(self) -> float:
        """The share of the windows that does not count."""
        return 1 - sum(self.windows) / len(self.windows)

    def rate(self, images: Sequence[float], seconds: Sequence[float]) -> float:
        """Return the rate of the windows that count: their images over their seconds."""
        return float(np.dot(self.windows, images) / np.dot(self.windows, seconds))


def weigh_windows(rates: Sequence[float], waits: Sequence[float] = ()) -> WindowWeights:
    """Weigh the windows of one run.

    `rates` are images/s, of windows that do equal work, and `waits` the core-seconds per second for which threads
    waited for a core in each; empty: they were not read.
    """
    times = -np.log(rates)
    log_slowdown = np.maximum(0, times - np.quantile(times, FAST_QUANTILE) - NOISE)
    if len(waits):
        log_slowdown = np.maximum(log_slowdown, [log_slowdown_from_waits(one - USUAL_WAITS) for one in waits])
    weights = 1 / (1 + (log_slowdown / HALF_WEIGHT) ** STEEPNESS)
    left = float(np.average(log_slowdown, weights=weights))
    return WindowWeights(tuple(weights.tolist()), left if left >= NEGLIGIBLE else 0.0)


def log_slowdown_from_waits(waits: float) -> float:
    """Return the logarithm by which waits for cores slow a run, in core-seconds per second; 0 for none.

    It is about w + w^2, because at the end of a parallel loop all threads wait for the last: measured at w of 0.03 to
    0.3 and of 1 (docs/measuring.md).
    """
    return max(0.0, waits) * (1 + max(0.0, waits))


def log_slowdown_of_runs(rates: Sequence[float], within: Sequence[float]) -> list[float]:
    """Return the logarithm by which each of an experiment's runs is slowed, at least that within the run.

    A run may be slow throughout: it is compared with the fast runs.
    """
    times = -np.log(rates)
    beyond = times - np.quantile(times, FAST_RUN_QUANTILE) - RUN_LUCK
    return [max(float(one), least) for one, least in zip(beyond, within, strict=True)]


@dataclass(frozen=True, slots=True)
class RoundsMean:
    """A mean over rounds with its standard error, and what other work may have added to it, or taken from it."""

    value: float
    error: float
    log_slowdown: float  # logarithm by which the rounds are still slowed
    widening: float


def mean_log_over_rounds(
    logarithms: Sequence[float], log_slowdown: Sequence[float], imbalance: Sequence[float]
) -> RoundsMean:
    """Return the mean of a logarithm over rounds, in which a slowed round counts less.

    `log_slowdown` is the most by which a run of the round is slowed, `imbalance` what the slowdowns of all its runs add
    to the logarithm; a quarter of the former may be added by work that slows experiments unequally. Without a slowdown
    they are the mean and its standard error. Else the error is the larger one of weighted least squares, which supposes
    that the weights are right, and of its sandwich estimate, which does not. One round has no error: NaN.
    Source: White 1980, "A heteroskedasticity-consistent covariance matrix estimator", Econometrica 48.
    """
    figures, slowed = np.array(logarithms), np.array(log_slowdown)
    weights = 1 / (1 + (slowed / HALF_RUN_WEIGHT) ** 2)
    shares = weights / weights.sum()
    mean, left = float(shares @ figures), float(shares @ slowed)
    widening = MAX_INEQUALITY * left + abs(float(shares @ np.array(imbalance)))
    if len(figures) == 1:
        return RoundsMean(mean, math.nan, left, widening)
    if not slowed.any():
        return RoundsMean(fmean(logarithms), stdev(logarithms) / math.sqrt(len(logarithms)), 0.0, 0.0)
    squares: npt.NDArray[np.float64] = (figures - mean) ** 2
    by_model = weights @ squares / ((len(figures) - 1) * weights.sum())
    by_rounds = shares**2 @ squares / (1 - shares @ shares)
    return RoundsMean(mean, math.sqrt(max(by_model, by_rounds)), left, widening)
