"""Disturbed windows and rounds: they count less, favour no experiment, and widen the interval."""

import math
from itertools import pairwise

import numpy as np
import pytest

from bench.measure.disturbance import Disturbance, describe_disturbance
from bench.statistics.disturbance import log_slowdown_of_runs, mean_log_over_rounds, weigh_windows
from bench.statistics.ratios import ratios_of
from tests.simulated_machines import MACHINES, coverage

WINDOWS = 20


def windows_of(seed: int, speed: float = 100.0, spread: float = 0.02) -> list[float]:
    """Return the images/s of an undisturbed run's windows."""
    return (speed * np.exp(np.random.default_rng(seed).normal(0, spread, WINDOWS))).tolist()


def rate_of(rates: list[float], waits: list[float] | None = None) -> float:
    return weigh_windows(rates, waits or []).rate([1.0] * len(rates), [1 / rate for rate in rates])


@pytest.mark.parametrize("speed", [1e-3, 3.0, 1e6])
def test_undisturbed_windows_count_alike_whatever_the_speed(speed: float) -> None:
    weights = weigh_windows(windows_of(0, speed))
    assert min(weights.windows) > 0.9
    assert weights.log_slowdown == 0
    assert rate_of(windows_of(0, speed)) == pytest.approx(
        WINDOWS / sum(1 / one for one in windows_of(0, speed)), rel=0.002
    )


@pytest.mark.parametrize("slowdown", [1.5, 3.0, 50.0])
@pytest.mark.parametrize("disturbed", [1, 10, 16])
def test_rate_is_that_of_undisturbed_windows_however_many_others_are_slow(slowdown: float, disturbed: int) -> None:
    rates = windows_of(1)
    slowed = [rate / slowdown if number < disturbed else rate for number, rate in enumerate(rates)]
    assert rate_of(slowed) == pytest.approx(rate_of(rates[disturbed:]), rel=0.03)
    assert weigh_windows(slowed).disturbed_share == pytest.approx(disturbed / WINDOWS, abs=0.1)


def test_a_window_counts_the_less_the_slower_it_is() -> None:
    weights = weigh_windows([100.0] * 10 + [100.0 / factor for factor in (1.05, 1.1, 1.2, 1.5, 3.0)]).windows
    assert weights[10] == 1
    assert all(later < earlier for earlier, later in pairwise(weights[10:]))


def test_windows_whose_threads_waited_for_a_core_count_less_though_all_are_equally_slow() -> None:
    rates = [100.0] * WINDOWS
    half = weigh_windows(rates, [0.5, 0.0] * (WINDOWS // 2))
    assert half.log_slowdown == 0
    assert half.disturbed_share == pytest.approx(0.5, abs=0.05)
    throughout = weigh_windows(rates, [1.0] * WINDOWS)
    assert throughout.log_slowdown > math.log(3)
    assert weigh_windows(rates, [0.03] * WINDOWS) == weigh_windows(rates)


def test_runs_that_are_slow_throughout_are_told_from_runs_with_bad_luck() -> None:
    log_slowdown = log_slowdown_of_runs([100, 104, 97, 95, 50, 101], [0.0, 0.0, 0.02, 0.0, 0.0, 0.0])
    assert log_slowdown[4] == pytest.approx(math.log(2 / 1.1), abs=0.05)
    assert log_slowdown[2] == 0.02
    assert log_slowdown[0] == log_slowdown[1] == log_slowdown[3] == log_slowdown[5] == 0


def test_mean_over_undisturbed_rounds_is_that_of_equal_weights() -> None:
    values = [0.1, 0.2, 0.15, 0.05]
    found = mean_log_over_rounds(values, [0.0] * 4, [0.0] * 4)
    assert found.value == pytest.approx(np.mean(values))
    assert found.error == pytest.approx(np.std(values, ddof=1) / 2)
    assert found.widening == 0
    equally_slowed = mean_log_over_rounds(values, [0.4] * 4, [0.0] * 4)
    assert equally_slowed.value == pytest.approx(found.value)
    assert equally_slowed.error == pytest.approx(found.error)
    assert equally_slowed.widening > 0


def test_rounds_count_the_less_and_widen_the_more_the_slower_they_are() -> None:
    values = [0.0] * 5 + [1.0]
    means = [mean_log_over_rounds(values, [0.0] * 5 + [slow], [0.0] * 6) for slow in (0.0, 0.1, 0.5, 2.0)]
    assert [one.value for one in means] == sorted((one.value for one in means), reverse=True)
    assert means[-1].value < 0.01
    all_slow = [mean_log_over_rounds(values, [slow] * 6, [0.0] * 6).widening for slow in (0.1, 0.5, 2.0)]
    assert all_slow == sorted(all_slow)


def test_interval_before_widening_lies_within_the_widened_one_and_verdicts_need_the_latter() -> None:
    base = {number: 100.0 * factor for number, factor in enumerate((1, 1.01, 0.99, 1.0, 1.02, 0.98))}
    other = {number: 1.1 * rate for number, rate in base.items()}
    quiet, slowed, lost = (
        ratios_of(base, {"other": other}, {"other": (dict.fromkeys(base, slow),) * 2})["other"]
        for slow in (0.0, 0.6, 1.5)
    )
    assert quiet.verdict == "faster"
    assert quiet.interval_before_widening is None
    assert slowed.interval_before_widening is not None
    assert slowed.low is not None
    assert slowed.high is not None
    assert (
        slowed.low
        < slowed.interval_before_widening[0]
        <= slowed.value
        <= slowed.interval_before_widening[1]
        < slowed.high
    )
    assert slowed.verdict == "inconclusive"
    assert lost.verdict == "disturbed"


def test_page_says_how_many_windows_were_slow_and_by_how_much_intervals_are_wider() -> None:
    undisturbed = Disturbance({"a": {0: 0.0, 1: 0.0}}, {}, 0.02)
    assert describe_disturbance(undisturbed).startswith("The machine was as good as undisturbed: 2 %")
    slowed = describe_disturbance(Disturbance({"a": {0: 0.0, 1: 0.5}, "b": {0: 0.0, 1: 0.1}}, {}, 0.4))
    assert "40 % of the windows" in slowed
    assert "1 of 2 rounds were slow throughout" in slowed
    assert "widens the intervals" in slowed
    assert "Nothing of it is left in the ratios" in describe_disturbance(Disturbance({"a": {0: 0.0, 1: 0.0}}, {}, 0.4))


@pytest.mark.parametrize(
    "name", ["quiet", "two speeds, 2 times, 20 s", "a tenth unequal, 2 times, 20 s", "one core busy throughout"]
)
def test_interval_covers_the_true_ratio(name: str) -> None:
    """docs/measuring.md has the shares of more comparisons on more machines."""
    found = coverage(MACHINES[name], 15)
    assert found["covers"] >= 0.84  # of 45 ratios, where 95 % is expected
    assert found["wrong verdicts"] <= 0.05
    assert found["withheld"] == 0
