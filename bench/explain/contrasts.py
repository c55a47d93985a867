"""Contrasts: weighted sums of log throughputs, with intervals over rounds."""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev
from typing import TypeVar

from scipy.special import stdtrit

from bench.statistics import CONFIDENCE, Rounds

C = TypeVar("C", bound=Hashable)


@dataclass(frozen=True, slots=True)
class LogRatio:
    """The logarithm of a ratio: mean over rounds and standard error of the mean, None if it is unknown."""

    mean: float
    error: float | None
    degrees_of_freedom: float  # degrees of freedom of the error

    @property
    def value(self) -> float:
        """The ratio."""
        return math.exp(self.mean)

    @property
    def margin(self) -> float | None:
        """Half the width of the logarithm's 95 % interval, by Student's t."""
        if self.error is None:
            return None
        return self.error * float(stdtrit(self.degrees_of_freedom, (1 + CONFIDENCE) / 2))

    @property
    def low(self) -> float | None:
        """The lower bound of the ratio."""
        return None if self.margin is None else math.exp(self.mean - self.margin)

    @property
    def high(self) -> float | None:
        """The upper bound of the ratio."""
        return None if self.margin is None else math.exp(self.mean + self.margin)


def contrast(logarithms: Mapping[C, Rounds], weights: Mapping[C, float]) -> LogRatio | None:
    """Return a weighted sum of logarithms over the rounds that have all of them; None if there is no such round.

    Rounds are independent; configurations within a round may be correlated.
    """
    weighted = [(logarithms.get(configuration, {}), weight) for configuration, weight in weights.items() if weight]
    rounds = sorted(set.intersection(*({*logs} for logs, _ in weighted))) if weighted else []
    if not rounds:
        return None
    sums = [sum(weight * logs[round_] for logs, weight in weighted) for round_ in rounds]
    error = stdev(sums) / math.sqrt(len(sums)) if len(sums) > 1 else None
    return LogRatio(fmean(sums), error, len(sums) - 1)


def difference_weights(one: C, other: C) -> dict[C, float]:
    """Return the weights of the log ratio of `other` over `one`."""
    return {one: -1.0, other: 1.0}


def divide(whole: LogRatio, parts: LogRatio) -> LogRatio:
    """Divide a ratio by one from other rounds, whose error is independent.

    Degrees of freedom: Welch 1947, "The generalization of 'Student's' problem", Biometrika 34.
    """
    if whole.error is None or parts.error is None:
        return LogRatio(whole.mean - parts.mean, None, 0)
    squares = [(one.error or 0.0) ** 2 for one in (whole, parts)]
    spread = sum(square**2 / one.degrees_of_freedom for square, one in zip(squares, (whole, parts), strict=True))
    freedom = sum(squares) ** 2 / spread if spread else whole.degrees_of_freedom + parts.degrees_of_freedom
    return LogRatio(whole.mean - parts.mean, math.sqrt(sum(squares)), freedom)


def shapley(num_causes: int, factors: Sequence[str]) -> list[dict[tuple[int, frozenset[str]], float]]:
    """Return the weights of configurations in the Shapley value of each factor, then of each stage.

    The players are the factors and the objective; a value is the mean change by a player over all orders. Each stage
    has its share of the objective, which changes as one player. A configuration is the number of stages before it and
    the set of changed factors. The values sum to the last configuration minus the first.
    Source: Shapley 1953, "A value for n-person games", Contributions to the Theory of Games 2.
    """
    players = len(factors) + 1
    share_of_orders = [1 / (players * math.comb(players - 1, before)) for before in range(players)]
    subsets = [frozenset(subset) for count in range(players) for subset in combinations(factors, count)]
    found: list[dict[tuple[int, frozenset[str]], float]] = []
    for factor in factors:
        weights = defaultdict[tuple[int, frozenset[str]], float](float)
        for subset in subsets:
            if factor in subset:
                continue
            for stage, before in ((0, len(subset)), (num_causes, len(subset) + 1)):
                weights[stage, subset | {factor}] += share_of_orders[before]
                weights[stage, subset] -= share_of_orders[before]
        found.append(weights)
    for stage in range(num_causes):
        signs = ((stage, -1), (stage + 1, 1))
        found.append({(at, subset): sign * share_of_orders[len(subset)] for subset in subsets for at, sign in signs})
    return found
