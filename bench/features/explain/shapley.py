"""Shapley values as contrasts of configurations. No torch here."""

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations


def shapley_weights(num_causes: int, factors: Sequence[str]) -> list[dict[tuple[int, frozenset[str]], float]]:
    """Return the weights of configurations in the Shapley value of each factor, then of each stage.

    The players are the factors and the objective; a value is the mean change by a player over all orders. Each stage
    has its share of the objective, which changes as one player. A configuration is the number of stages before it and
    the set of changed factors. The values sum to the last configuration minus the first.
    Source: Shapley 1953, "A value for n-person games", Contributions to the Theory of Games 2.
    """
    players = len(factors) + 1
    share_of_orders = [1 / (players * math.comb(players - 1, before)) for before in range(players)]
    subsets = [frozenset(subset) for count in range(players) for subset in combinations(factors, count)]
    values: list[dict[tuple[int, frozenset[str]], float]] = []
    for factor in factors:
        weights = defaultdict[tuple[int, frozenset[str]], float](float)
        for subset in subsets:
            if factor in subset:
                continue
            for stage, before in ((0, len(subset)), (num_causes, len(subset) + 1)):
                weights[stage, subset | {factor}] += share_of_orders[before]
                weights[stage, subset] -= share_of_orders[before]
        values.append(weights)
    for stage in range(num_causes):
        signs = ((stage, -1), (stage + 1, 1))
        values.append({(at, subset): sign * share_of_orders[len(subset)] for subset in subsets for at, sign in signs})
    return values
