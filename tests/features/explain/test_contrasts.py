"""Shapley values, intervals of weighted sums, and the judgement of what is left."""

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.features.explain.decomposition import LogRatio, contrast, divide, shapley_weights
from bench.features.explain.ladder import Coordinates, all_configurations, build_chain
from bench.statistics.verdicts import Agreement, judge_agreement

laws = settings(derandomize=True, deadline=None, database=None, max_examples=60)
FACTORS = ("a", "b", "c", "d")
SIZES = [(causes, FACTORS[:count]) for causes in range(4) for count in range(5) if causes + count]

Values = dict[Coordinates, float]


def drawn(causes: int, factors: tuple[str, ...], seed: int) -> Values:
    draw = np.random.default_rng(seed)
    return {configuration: draw.normal() for configuration in all_configurations(causes, factors)}


def weighted_sum(values: Values, weights: dict[Coordinates, float]) -> float:
    return sum(weight * values[configuration] for configuration, weight in weights.items())


def by_permutations(values: Values, causes: int, factors: tuple[str, ...]) -> list[float]:
    """Walk from the first configuration to the last in every order of causes; the mean change at each step."""
    found, orders = [0.0] * (len(factors) + causes), list(permutations([*factors, None]))
    for order in orders:
        stage, changed = 0, frozenset[str]()
        for player in order:
            if player is not None:
                found[factors.index(player)] += values[stage, changed | {player}] - values[stage, changed]
                changed |= {player}
                continue
            for stage in range(causes):
                found[len(factors) + stage] += values[stage + 1, changed] - values[stage, changed]
            stage = causes
    return [value / len(orders) for value in found]


@pytest.mark.parametrize(("causes", "factors"), SIZES)
@pytest.mark.parametrize("seed", [0, 1])
def test_shapley_values_are_means_over_orders_and_sum_to_the_total(
    causes: int, factors: tuple[str, ...], seed: int
) -> None:
    values = drawn(causes, factors, seed)
    found = [weighted_sum(values, weights) for weights in shapley_weights(causes, factors)]
    assert found == pytest.approx(by_permutations(values, causes, factors))
    whole = values[causes, frozenset(factors)] - values[0, frozenset()]
    assert sum(found) == pytest.approx(whole)


@pytest.mark.parametrize(("causes", "factors"), [size for size in SIZES if len(size[1]) > 1])
def test_equal_factors_have_equal_shapley_values_and_null_factors_zero(causes: int, factors: tuple[str, ...]) -> None:
    """What matters below: the stage, and how many of the factors have changed but for the first."""
    draw = np.random.default_rng(7)
    table = draw.normal(size=(causes + 1, len(factors)))
    values = {
        (stage, changed): float(table[stage, len(changed - {factors[0]})])
        for stage, changed in all_configurations(causes, factors)
    }
    nothing, *alike = [weighted_sum(values, weights) for weights in shapley_weights(causes, factors)[: len(factors)]]
    assert nothing == pytest.approx(0, abs=1e-12)
    assert alike == pytest.approx([alike[0]] * len(alike))


def test_multiplicative_causes_are_independent_of_order() -> None:
    effects = {"a": 0.3, "b": -0.1, "c": 0.02}
    stages = (0.0, 0.2, 0.25)
    values = {
        (stage, changed): stages[stage] + sum(effects[one] for one in changed)
        for stage, changed in all_configurations(2, "abc")
    }
    found = [weighted_sum(values, weights) for weights in shapley_weights(2, "abc")]
    assert found == pytest.approx([0.3, -0.1, 0.02, 0.2, 0.05])
    chain = build_chain(2, "abc")
    assert found == pytest.approx([values[b] - values[a] for a, b in pairwise(chain)])


@laws
@given(st.integers(1, 8), st.integers(2, 6), st.integers(0, 99))
def test_adjacent_ratios_telescope_in_every_round(configurations: int, rounds: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    logs = {
        configuration: dict(enumerate(draw.normal(size=rounds).tolist())) for configuration in range(configurations + 1)
    }
    parts = [contrast(logs, {configuration: -1.0, configuration + 1: 1.0}) for configuration in range(configurations)]
    whole = contrast(logs, {0: -1.0, configurations: 1.0})
    assert whole is not None
    assert sum(part.mean for part in parts if part is not None) == pytest.approx(whole.mean)


def test_only_complete_rounds_count() -> None:
    logs = {"a": {0: 0.0, 2: 0.1, 4: 0.3}, "b": {2: 0.5, 4: 0.9, 6: 7.0}}
    found = contrast(logs, {"a": -1.0, "b": 1.0})
    assert found is not None
    assert (found.mean, found.degrees_of_freedom) == (pytest.approx(0.5), 1)
    assert found.error == pytest.approx(np.std([0.4, 0.6], ddof=1) / math.sqrt(2))
    assert contrast(logs, {"a": 1.0, "c": -1.0}) is None
    assert contrast({"a": {0: 0.0}, "b": {1: 0.0}}, {"a": -1.0, "b": 1.0}) is None
    assert contrast(logs, {"a": 1.0, "c": 0.0}) is not None  # what weighs nothing need not be there


def test_one_round_has_no_interval() -> None:
    found = contrast({"a": {0: 0.0}, "b": {0: 0.5}}, {"a": -1.0, "b": 1.0})
    assert found is not None
    assert (found.value, found.low, found.high) == (pytest.approx(math.exp(0.5)), None, None)
    assert judged(divide(found, found)) == "inconclusive"


def judged(unexplained: LogRatio) -> Agreement:
    return judge_agreement(unexplained.mean, unexplained.margin)


def simulated_group(many: int, rounds: int, spread: tuple[float, float], apart: float = 0.0) -> list[LogRatio]:
    """Unexplained ratios: parts of four configurations, the whole of two, round effects and run effects.

    The whole is `apart` from what its parts make.
    """
    draw = np.random.default_rng(0)
    shared, own = draw.normal(0, spread[0], (many, 2, rounds, 1)), draw.normal(0, spread[1], (many, 2, rounds, 4))
    truth = np.array([0.0, 0.1, 0.3, 0.35])
    found = []
    for parts, ends in truth + shared + own:
        configurations = {
            configuration: dict(enumerate(parts[:, configuration].tolist())) for configuration in range(4)
        }
        whole = {
            configuration: dict(enumerate((ends[:, configuration] + apart * (configuration == 3)).tolist()))
            for configuration in (0, 3)
        }
        ratios = [contrast(logs, {0: -1.0, 3: 1.0}) for logs in (whole, configurations)]
        assert ratios[0] is not None
        assert ratios[1] is not None
        found.append(divide(ratios[0], ratios[1]))
    return found


@pytest.mark.parametrize("rounds", [3, 5, 8])
@pytest.mark.parametrize("spread", [(0.0, 0.03), (0.1, 0.01)])
def test_interval_of_the_unexplained_ratio_covers_one_at_the_nominal_rate(
    rounds: int, spread: tuple[float, float]
) -> None:
    found = simulated_group(1000, rounds, spread)
    covers = np.mean([one.low <= 1 <= one.high for one in found if one.low is not None and one.high is not None])
    assert 0.93 <= covers <= 0.98  # Welch's is a little wide for few rounds
    wrong = np.mean([judged(one) == "disagree" for one in found])
    assert wrong <= 0.06


def test_interaction_missing_from_the_parts_is_detected() -> None:
    calm = [judged(one) for one in simulated_group(300, 5, (0.05, 0.01), apart=0.05)]
    assert calm.count("disagree") > 280
    assert {judged(one) for one in simulated_group(300, 5, (0.05, 0.01))} <= {"agree", "disagree"}
    restless = [judged(one) for one in simulated_group(300, 3, (0.0, 0.2))]
    assert restless.count("inconclusive") > 250


def test_errors_of_independent_rounds_add() -> None:
    found = divide(LogRatio(0.5, 0.03, 4), LogRatio(0.2, 0.04, 4))
    assert (found.mean, found.error) == (pytest.approx(0.3), pytest.approx(0.05))
    assert 4 <= found.degrees_of_freedom <= 8
    assert divide(LogRatio(0.5, 0.03, 4), LogRatio(0.2, 0.03, 4)).degrees_of_freedom == pytest.approx(8)
    assert divide(LogRatio(0.5, 0.0, 4), LogRatio(0.2, 0.0, 4)).value == pytest.approx(math.exp(0.3))
