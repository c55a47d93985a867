"""Shapley values, intervals of weighted sums, and the judgement of what is left."""

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.explain.contrasts import LogRatio, between, contrast, shapley, without
from bench.ladder import Coordinates, all_cells, chain_of
from bench.statistics import Agreement, agreement

laws = settings(derandomize=True, deadline=None, database=None, max_examples=60)
FACTORS = ("a", "b", "c", "d")
SIZES = [(causes, FACTORS[:count]) for causes in range(4) for count in range(5) if causes + count]

Values = dict[Coordinates, float]


def drawn(causes: int, factors: tuple[str, ...], seed: int) -> Values:
    draw = np.random.default_rng(seed)
    return {cell: draw.normal() for cell in all_cells(causes, factors)}


def summed(values: Values, weights: dict[Coordinates, float]) -> float:
    return sum(weight * values[cell] for cell, weight in weights.items())


def by_permutations(values: Values, causes: int, factors: tuple[str, ...]) -> list[float]:
    """Walk from the first cell to the last in every order of factors and objective; the mean change at each step."""
    found, orders = [0.0] * (len(factors) + causes), list(permutations([*factors, None]))
    for order in orders:
        rung, changed = 0, frozenset[str]()
        for player in order:
            if player is not None:
                found[factors.index(player)] += values[rung, changed | {player}] - values[rung, changed]
                changed |= {player}
                continue
            for rung in range(causes):
                found[len(factors) + rung] += values[rung + 1, changed] - values[rung, changed]
            rung = causes
    return [value / len(orders) for value in found]


@pytest.mark.parametrize(("causes", "factors"), SIZES)
@pytest.mark.parametrize("seed", [0, 1])
def test_shapley_values_are_means_over_all_orders_and_sum_to_the_whole(
    causes: int, factors: tuple[str, ...], seed: int
) -> None:
    values = drawn(causes, factors, seed)
    found = [summed(values, weights) for weights in shapley(causes, factors)]
    assert found == pytest.approx(by_permutations(values, causes, factors))
    whole = values[causes, frozenset(factors)] - values[0, frozenset()]
    assert sum(found) == pytest.approx(whole)


@pytest.mark.parametrize(("causes", "factors"), [size for size in SIZES if len(size[1]) > 1])
def test_factors_that_do_the_same_have_the_same_value_and_one_that_does_nothing_none(
    causes: int, factors: tuple[str, ...]
) -> None:
    """What matters below: the rung, and how many of the factors have changed but for the first."""
    draw = np.random.default_rng(7)
    table = draw.normal(size=(causes + 1, len(factors)))
    values = {
        (rung, changed): float(table[rung, len(changed - {factors[0]})]) for rung, changed in all_cells(causes, factors)
    }
    nothing, *alike = [summed(values, weights) for weights in shapley(causes, factors)[: len(factors)]]
    assert nothing == pytest.approx(0, abs=1e-12)
    assert alike == pytest.approx([alike[0]] * len(alike))


def test_where_causes_multiply_order_does_not_matter() -> None:
    effects = {"a": 0.3, "b": -0.1, "c": 0.02}
    rungs = (0.0, 0.2, 0.25)
    values = {
        (rung, changed): rungs[rung] + sum(effects[one] for one in changed) for rung, changed in all_cells(2, "abc")
    }
    found = [summed(values, weights) for weights in shapley(2, "abc")]
    assert found == pytest.approx([0.3, -0.1, 0.02, 0.2, 0.05])
    chain = chain_of(2, "abc")
    assert found == pytest.approx([values[b] - values[a] for a, b in pairwise(chain)])


@laws
@given(st.integers(1, 8), st.integers(2, 6), st.integers(0, 99))
def test_neighbours_telescope_in_every_round(cells: int, rounds: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    logs = {cell: dict(enumerate(draw.normal(size=rounds).tolist())) for cell in range(cells + 1)}
    parts = [contrast(logs, between(cell, cell + 1)) for cell in range(cells)]
    whole = contrast(logs, between(0, cells))
    assert whole is not None
    assert sum(part.mean for part in parts if part is not None) == pytest.approx(whole.mean)


def test_only_rounds_that_have_all_cells_count() -> None:
    logs = {"a": {0: 0.0, 2: 0.1, 4: 0.3}, "b": {2: 0.5, 4: 0.9, 6: 7.0}}
    found = contrast(logs, between("a", "b"))
    assert found is not None
    assert (found.mean, found.freedom) == (pytest.approx(0.5), 1)
    assert found.error == pytest.approx(np.std([0.4, 0.6], ddof=1) / math.sqrt(2))
    assert contrast(logs, {"a": 1.0, "c": -1.0}) is None
    assert contrast({"a": {0: 0.0}, "b": {1: 0.0}}, between("a", "b")) is None
    assert contrast(logs, {"a": 1.0, "c": 0.0}) is not None  # what weighs nothing need not be there


def test_one_round_has_no_interval() -> None:
    found = contrast({"a": {0: 0.0}, "b": {0: 0.5}}, between("a", "b"))
    assert found is not None
    assert (found.value, found.low, found.high) == (pytest.approx(math.exp(0.5)), None, None)
    assert judged(without(found, found)) == "inconclusive"


def judged(residue: LogRatio) -> Agreement:
    return agreement(residue.mean, residue.margin)


def simulated(many: int, rounds: int, spread: tuple[float, float], apart: float = 0.0) -> list[LogRatio]:
    """Residues of explanations: the parts of four cells, the whole of two, a round's luck shared and a run's own.

    The whole is `apart` from what its parts make.
    """
    draw = np.random.default_rng(0)
    shared, own = draw.normal(0, spread[0], (many, 2, rounds, 1)), draw.normal(0, spread[1], (many, 2, rounds, 4))
    truth = np.array([0.0, 0.1, 0.3, 0.35])
    found = []
    for parts, ends in truth + shared + own:
        cells = {cell: dict(enumerate(parts[:, cell].tolist())) for cell in range(4)}
        whole = {cell: dict(enumerate((ends[:, cell] + apart * (cell == 3)).tolist())) for cell in (0, 3)}
        ratios = [contrast(logs, between(0, 3)) for logs in (whole, cells)]
        assert ratios[0] is not None
        assert ratios[1] is not None
        found.append(without(ratios[0], ratios[1]))
    return found


@pytest.mark.parametrize("rounds", [3, 5, 8])
@pytest.mark.parametrize("spread", [(0.0, 0.03), (0.1, 0.01)])
def test_the_interval_of_what_is_left_covers_nothing_where_nothing_is_left(
    rounds: int, spread: tuple[float, float]
) -> None:
    found = simulated(1000, rounds, spread)
    covers = np.mean([one.low <= 1 <= one.high for one in found if one.low is not None and one.high is not None])
    assert 0.93 <= covers <= 0.98  # Welch's is a little wide for few rounds
    wrong = np.mean([judged(one) == "disagree" for one in found])
    assert wrong <= 0.06


def test_a_whole_that_is_more_than_its_parts_is_found() -> None:
    calm = [judged(one) for one in simulated(300, 5, (0.05, 0.01), apart=0.05)]
    assert calm.count("disagree") > 280
    assert {judged(one) for one in simulated(300, 5, (0.05, 0.01))} <= {"agree", "disagree"}
    restless = [judged(one) for one in simulated(300, 3, (0.0, 0.2))]
    assert restless.count("inconclusive") > 250


def test_errors_of_separate_rounds_add_up() -> None:
    found = without(LogRatio(0.5, 0.03, 4), LogRatio(0.2, 0.04, 4))
    assert (found.mean, found.error) == (pytest.approx(0.3), pytest.approx(0.05))
    assert 4 <= found.freedom <= 8
    assert without(LogRatio(0.5, 0.03, 4), LogRatio(0.2, 0.03, 4)).freedom == pytest.approx(8)
    assert without(LogRatio(0.5, 0.0, 4), LogRatio(0.2, 0.0, 4)).value == pytest.approx(math.exp(0.3))
