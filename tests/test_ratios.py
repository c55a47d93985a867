"""Ratios of rates: Student's t on the logarithms of rounds, adjusted by Holm."""

import math
import random
import re
from collections.abc import Callable, Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.statistics.p_values import adjust_p_values_holm
from bench.statistics.ratios import (
    ALPHA,
    MIN_RUNS,
    SMALLEST_EFFECT,
    RateByRound,
    RateRatio,
    Verdict,
    compare_rate_pairs,
    compare_rates,
    compute_rate_ratio_without_interval,
)

laws = settings(derandomize=True, deadline=None, database=None, max_examples=60)
FIGURES = st.integers(1, 1_000_000).map(lambda hundredths: hundredths / 100)
PAIRS = st.lists(st.tuples(FIGURES, FIGURES), min_size=2, max_size=14)


def rounds(rates: Sequence[float], first: int = 0) -> RateByRound:
    return dict(enumerate(rates, first))


def unpaired(rates: Sequence[float]) -> RateByRound:
    """Return runs of rounds that no other group has."""
    return rounds(rates, first=1000)


def share(ratios: Sequence[RateRatio], holds: Callable[[RateRatio], bool]) -> float:
    return sum(map(holds, ratios)) / len(ratios)


def ends(ratio: RateRatio) -> tuple[float, float]:
    assert ratio.low is not None
    assert ratio.high is not None
    return ratio.low, ratio.high


def covers(ratio: RateRatio, truth: float) -> bool:
    low, high = ends(ratio)
    return low <= truth <= high


@laws
@given(PAIRS, st.randoms(use_true_random=False), st.floats(1e-6, 1e6))
def test_interval_and_p_are_students_t_on_the_rounds_whatever_their_order_and_unit(
    pairs: list[tuple[float, float]], draw: random.Random, unit: float
) -> None:
    base, other = zip(*pairs, strict=True)
    differences = [math.log(b) - math.log(a) for a, b in pairs]
    assume(len(set(differences)) > 1)
    ratio = compare_rates(rounds(base), rounds(other))
    expected = stats.ttest_1samp(differences, 0)
    interval = expected.confidence_interval(0.95)
    assert ends(ratio) == pytest.approx((math.exp(interval.low), math.exp(interval.high)), rel=1e-7)
    assert ratio.p == pytest.approx(expected.pvalue, rel=1e-7)
    base, other = zip(*draw.sample(pairs, len(pairs)), strict=True)
    again = compare_rates(
        rounds([unit * rate for rate in base]), rounds([unit * rate for rate in other])
    )
    assert ends(again) == pytest.approx(ends(ratio), rel=1e-7)
    swapped = compare_rates(rounds(other), rounds(base))
    assert ends(swapped) == pytest.approx((1 / ends(ratio)[1], 1 / ends(ratio)[0]), rel=1e-7)


@pytest.mark.filterwarnings(
    "ignore:Precision loss occurred"
)  # scipy warns where one group is all equal
@laws
@given(*[st.lists(FIGURES, min_size=2, max_size=6)] * 2)
def test_groups_without_common_rounds_are_compared_by_students_t_of_all_runs(
    base: list[float], other: list[float]
) -> None:
    assume(len(set(base)) > 1 or len(set(other)) > 1)
    ratio = compare_rates(rounds(base), unpaired(other))
    expected = stats.ttest_ind(
        [math.log(rate) for rate in other], [math.log(rate) for rate in base]
    )
    interval = expected.confidence_interval(0.95)
    assert ends(ratio) == pytest.approx((math.exp(interval.low), math.exp(interval.high)), rel=1e-7)
    assert ratio.p == pytest.approx(expected.pvalue, rel=1e-7)
    assert ratio.runs == (len(base), len(other))


def test_interval_has_nominal_coverage_though_rounds_share_their_luck() -> None:
    draw = random.Random(9)
    pairs = []
    for _ in range(1500):
        luck = [draw.gauss(0, 0.05) for _ in range(8)]
        base, other = (
            rounds([100 * math.exp(shared + draw.gauss(0, 0.02)) for shared in luck])
            for _ in range(2)
        )
        pairs.append(compare_rates(base, other))
    assert 0.93 <= share(pairs, lambda ratio: covers(ratio, 1.0)) <= 0.97
    assert share(pairs, lambda ratio: ratio.verdict in ("faster", "slower")) <= ALPHA + 0.005


def by_definition(ratio: RateRatio) -> Verdict:
    if ratio.p is None or min(ratio.runs) < MIN_RUNS:
        return "inconclusive"
    low, high = ends(ratio)
    if ratio.p <= ALPHA and abs(math.log(ratio.value)) >= math.log1p(SMALLEST_EFFECT) - 1e-9:
        return "faster" if ratio.value > 1 else "slower"
    smallest = 1 + SMALLEST_EFFECT
    return "no difference" if low > 1 / smallest and high < smallest else "inconclusive"


@laws
@given(st.lists(PAIRS, min_size=1, max_size=4))
def test_several_ratios_are_single_ratios_with_adjusted_p(
    groups: list[list[tuple[float, float]]],
) -> None:
    base = rounds([first for first, _ in groups[0]])
    others = {
        str(number): rounds([second for _, second in pairs]) for number, pairs in enumerate(groups)
    }
    single = {name: compare_rates(base, other) for name, other in others.items()}
    several = compare_rate_pairs({name: (base, other) for name, other in others.items()})
    assert list(several) == list(single)
    adjusted = adjust_p_values_holm({name: ratio.p for name, ratio in single.items()})
    assert {name: ratio.p for name, ratio in several.items() if ratio.p is not None} == adjusted
    for ratio in several.values():
        assert ratio.verdict == by_definition(ratio)
        assert ratio.verdict != "faster" or ends(ratio)[0] > 1


def test_verdict_needs_an_effect_of_two_percent() -> None:
    for number in range(1, 200):
        pair = rounds([50.0 * number] * 5), rounds([51.0 * number] * 5)
        assert compare_rates(*pair).verdict == "faster"
        assert compare_rates(*pair[::-1]).verdict == "slower"
    assert compare_rates(rounds([100.0] * 5), rounds([101.9] * 5)).verdict == "no difference"


def test_one_run_and_equal_runs_have_a_ratio() -> None:
    for base, other in (([10.0], [30.0]), ([10.0], [30.0] * 5), ([10.0] * 5, [30.0])):
        ratio = compare_rates(rounds(base), rounds(other))
        assert ratio == RateRatio(ratio.value, None, None, None, (len(base), len(other)))
        assert ratio.value == pytest.approx(3)
    assert compare_rates(rounds([7.0] * 5), rounds([7.0] * 5)) == RateRatio(
        1.0, 1.0, 1.0, 1.0, (5, 5)
    )


def test_round_that_one_side_lacks_is_left_out() -> None:
    base = rounds([100.0 + number for number in range(12)])
    other = {number: 110.0 + number for number in range(12) if number != 4}
    assert compare_rates(base, other).runs == (11, 11)
    assert compare_rates(base, {0: 110.0, 20: 111.0}).runs == (12, 2)  # one common round: all runs


def test_ratio_of_disturbed_runs_has_neither_interval_nor_verdict() -> None:
    ratio = compute_rate_ratio_without_interval(rounds([100.0] * 5), rounds([200.0] * 5))
    assert ratio == RateRatio(ratio.value, None, None, None, (5, 5))
    assert ratio.value == pytest.approx(2)


@pytest.mark.parametrize("bad", [0.0, -0.0, -1.0, math.inf, -math.inf, math.nan])
def test_figures_must_be_positive_and_finite(bad: float) -> None:
    words = f"positive finite figures, got {re.escape(str(bad))}$"
    for base, other in (([1.0, 2.0], [1.0, bad]), ([bad, 2.0], [1.0, 2.0])):
        with pytest.raises(ValueError, match=words):
            compare_rates(rounds(base), rounds(other))
