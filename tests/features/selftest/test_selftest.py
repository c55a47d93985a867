"""The self-test's arithmetic: it finds the spread that was put in, and its bounds can be missed."""

import math
import random

import pytest

from bench.experiment.config import differing_fields
from bench.features.selftest.selftest import (
    COMPARISONS,
    ROUNDS,
    LogThroughputSpread,
    check_measured,
    check_simulated,
    compare_arms,
    fit_spread,
    fraction_with_verdict,
    injected_slowdown_arms,
    simulate,
)
from bench.statistics.ratios import Rounds

Arms = list[Rounds]


def made_up(shared: float, own: float, changes: tuple[float, ...], seed: int = 0, rounds: int = ROUNDS) -> Arms:
    draw = random.Random(seed)
    of_round = [draw.gauss(0, shared) for _ in range(rounds)]
    return [
        {round_: 1000 / (1 + change) * math.exp(of_round[round_] + draw.gauss(0, own)) for round_ in range(rounds)}
        for change in changes
    ]


def test_arms_differ_only_in_the_injected_slowdown() -> None:
    arms = injected_slowdown_arms()
    assert [arm.timing.injected_slowdown for arm in arms] == [0.0, 0.0, 0.05, 0.1]
    assert {*differing_fields(arms)} == {"injected_slowdown"}
    assert len({arm.name for arm in arms}) == 4
    assert COMPARISONS * ROUNDS * len(arms) == 240


@pytest.mark.parametrize(("shared", "own"), [(0.0, 0.02), (0.03, 0.01), (0.02, 0.02)])
def test_fit_spread_recovers_the_simulated_spread(shared: float, own: float) -> None:
    comparisons = [made_up(shared, own, (0.0, 0.0, 0.05, 0.1), seed) for seed in range(400)]
    found = fit_spread(comparisons)
    assert found.own == pytest.approx(own, rel=0.05)
    assert found.shared == pytest.approx(shared, abs=0.002)
    assert found.between_runs == pytest.approx(math.hypot(shared, own), rel=0.05)


def test_simulated_runs_have_the_requested_change_and_spread() -> None:
    ratios = simulate(LogThroughputSpread(0.02, 0.01), 20, 0.05, 400)
    assert sum(ratio.value for ratio in ratios) / 400 == pytest.approx(1 / 1.05, rel=2e-3)
    assert fraction_with_verdict(ratios, "slower") == 1
    assert fraction_with_verdict(simulate(LogThroughputSpread(0.0, 0.02), 8, 0.0, 400), "faster", "slower") <= 0.03


def verdicts(changes: tuple[float, ...], own: float = 0.01, shared: float = 0.0) -> list[str]:
    comparisons = [made_up(shared, own, changes, seed) for seed in range(COMPARISONS)]
    checks = check_measured([compare_arms(arms) for arms in comparisons], fit_spread(comparisons))
    return [check["holds"] for check in checks]


def test_sound_harness_passes_and_broken_harness_fails() -> None:
    assert verdicts((0.0, 0.0, 0.05, 0.1)) == ["yes", "yes", "-"]
    assert verdicts((0.0, 0.06, 0.05, 0.1)) == ["no", "yes", "-"]  # the same is not the same
    assert verdicts((0.0, 0.0, 0.0, 0.0)) == ["yes", "no", "-"]  # what was injected is not there
    assert verdicts((0.0, 0.0, 0.05, 0.1), own=0.06)[1] == "-"  # a machine too restless for the bound
    assert verdicts((0.0, 0.0, 0.05, 0.1), shared=0.06)[1] == "yes"  # what a round's runs share is in no ratio


def test_simulated_checks_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.features.selftest.selftest.SIMULATED", 400)

    def held(alarms: float, covers: float) -> list[str]:
        return [check["holds"] for check in check_simulated([{"false alarms": alarms, "interval covers": covers}])]

    assert held(0.01, 0.95) == ["yes", "yes", "yes"]
    assert held(0.03, 0.92) == ["no", "no", "yes"]
