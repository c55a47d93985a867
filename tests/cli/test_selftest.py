"""The self-test's arithmetic: it finds the spread that was put in, and its bounds can be missed."""

import math
import random

import pytest

from bench.cli.selftest import (
    COMPARISONS,
    ROUNDS,
    Spread,
    compared,
    fitted_spread,
    planted_arms,
    real_checks,
    share_called,
    simulate,
    simulated_checks,
)
from bench.config import differing_fields
from bench.statistics import Rounds

Arms = list[Rounds]


def made_up(shared: float, own: float, changes: tuple[float, ...], seed: int = 0, rounds: int = ROUNDS) -> Arms:
    draw = random.Random(seed)
    of_round = [draw.gauss(0, shared) for _ in range(rounds)]
    return [
        {round_: 1000 / (1 + change) * math.exp(of_round[round_] + draw.gauss(0, own)) for round_ in range(rounds)}
        for change in changes
    ]


def test_the_arms_differ_in_the_planted_delay_alone() -> None:
    arms = planted_arms()
    assert [arm.planted_delay for arm in arms] == [0.0, 0.0, 0.05, 0.1]
    assert {*differing_fields(arms)} == {"planted_delay"}
    assert len({arm.name for arm in arms}) == 4
    assert COMPARISONS * ROUNDS * len(arms) == 200


@pytest.mark.parametrize(("shared", "own"), [(0.0, 0.02), (0.03, 0.01), (0.02, 0.02)])
def test_the_spread_that_was_put_in_is_found(shared: float, own: float) -> None:
    comparisons = [made_up(shared, own, (0.0, 0.0, 0.05, 0.1), seed) for seed in range(400)]
    found = fitted_spread(comparisons)
    assert found.own == pytest.approx(own, rel=0.05)
    assert found.shared == pytest.approx(shared, abs=0.002)
    assert found.between_runs == pytest.approx(math.hypot(shared, own), rel=0.05)


def test_simulated_runs_have_the_change_and_the_spread_asked_for() -> None:
    ratios = simulate(Spread(0.02, 0.01), 20, 0.05, 400)
    assert sum(ratio.value for ratio in ratios) / 400 == pytest.approx(1 / 1.05, rel=2e-3)
    assert share_called(ratios, "slower") == 1
    assert share_called(simulate(Spread(0.0, 0.02), 8, 0.0, 400), "faster", "slower") <= 0.03


def verdicts(changes: tuple[float, ...], own: float = 0.01) -> list[str]:
    comparisons = [made_up(0.0, own, changes, seed) for seed in range(COMPARISONS)]
    checks = real_checks([compared(arms) for arms in comparisons], fitted_spread(comparisons))
    return [check["holds"] for check in checks]


def test_a_sound_harness_passes_and_a_broken_one_does_not() -> None:
    assert verdicts((0.0, 0.0, 0.05, 0.1)) == ["yes", "yes", "-"]
    assert verdicts((0.0, 0.06, 0.05, 0.1)) == ["no", "yes", "-"]  # the same is not the same
    assert verdicts((0.0, 0.0, 0.0, 0.0)) == ["yes", "no", "-"]  # what was planted is not there
    assert verdicts((0.0, 0.0, 0.05, 0.1), own=0.06)[1] == "-"  # a machine too restless for the bound


def test_simulated_bounds_can_be_missed() -> None:
    def held(alarms: float, covers: float) -> list[str]:
        return [check["holds"] for check in simulated_checks([{"false alarms": alarms, "interval covers": covers}])]

    assert held(0.01, 0.95) == ["yes", "yes", "yes"]
    assert held(0.03, 0.92) == ["no", "no", "yes"]
