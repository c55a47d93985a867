import math
from statistics import fmean

import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy import float64, ones, zeros
from numpy.random import Generator, default_rng
from scipy import stats

from bench.statistics.accuracies import (
    MOST_REPETITIONS,
    MeanEstimate,
    estimate_difference_over_seeds,
    estimate_mean_over_seeds,
    judge_accuracy_differences,
    paired_differences_needed,
)
from bench.statistics.intervals import (
    ValueWithInterval,
    accuracy_with_wilson_interval,
    mean_with_interval,
)
from bench.statistics.p_values import adjust_p_values_holm
from bench.statistics.ratios import (
    ALPHA,
)
from bench.statistics.verdicts import (
    FLOPS_TOLERANCE,
    judge_flops_prediction,
)

Floats = npt.NDArray[float64]
laws = settings(derandomize=True, deadline=None, database=None, max_examples=60)

EIGHTHS = st.integers(-40, 40).map(lambda eighths: eighths / 8)  # exact in binary: ties are ties
ANSWERS = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60)


# Accuracy


@laws
@given(ANSWERS)
def test_accuracy_interval_is_wilsons(correct: list[bool]) -> None:
    found = accuracy_with_wilson_interval(correct)
    expected = stats.binomtest(int(sum(correct)), len(correct)).proportion_ci(0.95, method="wilson")
    assert found.value == pytest.approx(sum(correct) / len(correct))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def table_of(
    runs: int, items: int, of_runs: float, of_items: float, rest: float, chance: Generator
) -> Floats:
    """Draw a (runs, items) table of mean 0 with these standard deviations of its runs, items and rest."""
    spreads = ((of_runs, (runs, 1)), (of_items, (1, items)), (rest, (runs, items)))
    return sum(chance.normal(0, spread, shape) for spread, shape in spreads)


@laws
@given(st.integers(3, 6), st.integers(2, 9), st.integers(0, 99))
def test_two_level_interval_is_satterthwaites_of_the_variance_components(
    runs: int, items: int, seed: int
) -> None:
    table = table_of(runs, items, 0.5, 0.5, 1, default_rng(seed)) + 0.3
    found = estimate_mean_over_seeds(list(table))
    mean = table.mean()
    of_run = table.mean(axis=1, keepdims=True)
    of_item = table.mean(axis=0)
    freedoms = runs - 1, items - 1, (runs - 1) * (items - 1)
    a = ((of_run - mean) ** 2).sum() / freedoms[0] / runs
    b = ((of_item - mean) ** 2).sum() / freedoms[1] / items
    c = ((table - of_run - of_item + mean) ** 2).sum() / freedoms[2] / (runs * items)
    variance = max(a - c, 0) + max(b - c, 0) + c
    a_enters, b_enters = bool(a > c), bool(b > c)
    entering = [(a, freedoms[0])] * a_enters + [(b, freedoms[1])] * b_enters
    entering += [(c, freedoms[2])] * (a_enters == b_enters)
    degrees_of_freedom = variance**2 / sum(part**2 / of for part, of in entering)
    expected = stats.t(degrees_of_freedom, loc=mean, scale=math.sqrt(variance))
    assert (found.value, found.low, found.high) == pytest.approx((mean, *expected.interval(0.95)))
    assert found.p == pytest.approx(
        2 * stats.t(degrees_of_freedom).sf(abs(mean) / math.sqrt(variance))
    )
    assert found.over == f"{runs} seeds and {items} test images"


SPREADS = [(0.0, 0.0, 1.0), (0.02, 1.0, 0.3), (0.1, 1.0, 0.5), (0.0, 0.5, 1.0), (0.3, 1.0, 1.0)]


@pytest.mark.parametrize("spreads", SPREADS)
def test_two_level_interval_covers_other_seeds_and_other_items(
    spreads: tuple[float, float, float],
) -> None:
    """An interval over seeds alone covers 30 to 95 % of these."""
    chance = default_rng(0)
    found = [
        estimate_mean_over_seeds(list(table_of(5, 400, *spreads, chance))) for _ in range(2000)
    ]
    assert 0.93 <= fmean(one.low <= 0 <= one.high for one in found) <= 0.985
    assert fmean(one.p <= ALPHA for one in found) <= 1.8 * ALPHA


@pytest.mark.parametrize("mean", [0.3, -1.0, 2.0])
def test_repetitions_needed_show_a_difference_with_a_power_of_80_percent(mean: float) -> None:
    chance = default_rng(0)

    def power(number: int) -> float:
        samples = chance.normal(mean, 1, (20_000, number))
        return float((stats.ttest_1samp(samples, 0, axis=1).pvalue <= ALPHA).mean())

    needed = paired_differences_needed(mean, 1)
    assert power(needed) >= 0.79
    assert power(needed - 1) < 0.81
    assert paired_differences_needed(10 * mean, 10) == needed


def test_no_number_of_repetitions_shows_that_there_is_no_difference() -> None:
    assert paired_differences_needed(0, 1) == paired_differences_needed(0, 0) == MOST_REPETITIONS


@laws
@given(st.lists(EIGHTHS, min_size=3, max_size=8))
def test_one_figure_per_seed_gives_students_t_over_seeds(values: list[float]) -> None:
    found, expected = estimate_mean_over_seeds(values), mean_with_interval(values)
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert found.over == f"{len(values)} seeds"


@laws
@given(st.lists(EIGHTHS, min_size=2, max_size=8))
def test_interval_over_seeds_is_students_t(values: list[float]) -> None:
    assume(len({*values}) > 1)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_with_interval(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.value == pytest.approx(sum(values) / len(values), abs=1e-12)


def test_interval_over_seeds_needs_two_finite_values() -> None:
    assert mean_with_interval([0.5, 0.5, 0.5]) == ValueWithInterval(0.5, 0.5, 0.5)
    for values in ([], [0.7], [math.nan]):
        with pytest.raises(ValueError, match="two values"):
            mean_with_interval(values)
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=f"finite figures, got .*{bad}"):
            mean_with_interval([0.5, bad])


# Parts and whole, measured and predicted

MARGINS = st.floats(0, 0.3)
DIFFERENCES = st.floats(-0.3, 0.3)


@laws
@given(DIFFERENCES, MARGINS)
def test_prediction_is_judged_by_the_whole_interval(difference: float, margin: float) -> None:
    ends = [abs(difference - margin), abs(difference + margin)]
    verdict = judge_flops_prediction(difference, margin)
    assert (verdict == "consistent with FLOPs") == (max(ends) <= FLOPS_TOLERANCE)
    is_beyond = min(ends) > FLOPS_TOLERANCE and not difference - margin <= 0 <= difference + margin
    assert (verdict == "not consistent with FLOPs") == is_beyond
    assert judge_flops_prediction(difference, None) == "cannot be told"


@laws
@given(st.lists(st.tuples(DIFFERENCES, st.none() | st.floats(0, 0.05)), max_size=8))
def test_accuracy_differences_are_judged_as_one_family(
    found: list[tuple[float, float | None]],
) -> None:
    """Better and worse by the adjusted p alone, at the level of the speeds' verdicts."""
    estimates = {
        index: MeanEstimate(value, None, None, "", p) for index, (value, p) in enumerate(found)
    }
    claims = judge_accuracy_differences(estimates)
    adjusted = adjust_p_values_holm({index: p for index, (_, p) in enumerate(found)})
    assert {index: claim.p for index, claim in claims.items() if claim.p is not None} == adjusted
    for index, claim in claims.items():
        called = claim.p is not None and claim.p <= ALPHA
        assert claim.difference is estimates[index]
        assert (claim.verdict in {"better", "worse"}) == called
        assert (claim.verdict == "no interval") == (claim.p is None)
        assert not called or (claim.verdict == "better") == (claim.difference.value > 0)


def test_seeds_are_ranked_from_five_common_ones_on() -> None:
    base = dict.fromkeys(range(6), 0.5)
    assert estimate_difference_over_seeds(base, dict.fromkeys(range(2, 6), 0.6)) is None
    found = estimate_difference_over_seeds(base, {seed: 0.6 + seed / 1000 for seed in range(1, 9)})
    assert found is not None
    assert (found.over, judge_accuracy_differences({0: found})[0].verdict) == ("5 seeds", "better")


def test_seeds_with_other_test_items_have_no_interval() -> None:
    estimate = estimate_mean_over_seeds([ones(4), zeros(4), zeros(8)])
    assert (estimate.value, estimate.low, estimate.p) == (pytest.approx(1 / 3), None, None)
    assert estimate.over == "3 seeds, different test images, no interval"
