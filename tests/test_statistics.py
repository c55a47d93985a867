import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import numpy.typing as npt
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy import float64, ones, zeros
from numpy.random import Generator, default_rng
from scipy import stats

from bench.statistics import ratios as judged
from bench.statistics import verdicts
from bench.statistics.accuracies import (
    Estimate,
    estimate_over_seeds,
    estimate_over_tasks,
    estimate_paired_over_seeds,
    judge_accuracy_differences,
)
from bench.statistics.intervals import Interval, accuracy_interval, mean_interval
from bench.statistics.p_values import holm, permutation_p, sign_flip_p
from bench.statistics.ratios import (
    ALPHA,
    MAX_FIGURE,
    MIN_FIGURE,
    MIN_PAIRED_ROUNDS,
    MIN_ROUNDS,
    SMALLEST_EFFECT,
    Ratio,
    Verdict,
    fewest_rounds,
    log_std,
)
from bench.statistics.verdicts import FLOPS_TOLERANCE, judge_agreement, judge_flops_prediction, max_relative_difference

Floats = npt.NDArray[float64]
laws = settings(derandomize=True, deadline=None, database=None, max_examples=60)

LEAST_P_OF_FIVE = 2 / 252  # the two fully separated deals of ten runs into two hands of five
FIGURES = st.integers(1, 1_000_000).map(lambda hundredths: hundredths / 100)
GROUPS = st.lists(FIGURES, min_size=2, max_size=MIN_ROUNDS - 1)  # too few rounds for pairs
EIGHTHS = st.integers(-40, 40).map(lambda eighths: eighths / 8)  # exact in binary: ties are ties
ANSWERS = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60)


def ratio_of(base: Sequence[float], other: Sequence[float]) -> Ratio:
    return judged.ratio_of(dict(enumerate(base)), dict(enumerate(other)))


def ratios_of(base: Sequence[float], others: Mapping[str, Sequence[float]]) -> dict[str, Ratio]:
    return judged.ratios_of(dict(enumerate(base)), {name: dict(enumerate(runs)) for name, runs in others.items()})


def lognormal(draw: random.Random, runs: int, centre: float, spread: float) -> list[float]:
    return [centre * math.exp(draw.gauss(0, spread)) for _ in range(runs)]


def around(centre: float) -> list[float]:
    """Five runs in a hundred-thousandth around the centre, their geometric mean."""
    return [centre * math.exp(step * 1e-5) for step in (-2, -1, 0, 1, 2)]


def share(ratios: Sequence[Ratio], holds: Callable[[Ratio], bool]) -> float:
    return sum(map(holds, ratios)) / len(ratios)


def figures(ratio: Ratio) -> tuple[float, float, float]:
    """Return low, high and p, of runs that have them."""
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.p is not None
    return ratio.low, ratio.high, ratio.p


def covers(truth: float) -> Callable[[Ratio], bool]:
    return lambda ratio: figures(ratio)[0] <= truth <= figures(ratio)[1]


# The ratio and its invariances


@laws
@given(GROUPS, GROUPS, st.floats(1e-6, 1e6), st.randoms(use_true_random=False))
def test_ratio_is_invariant_to_sides_units_and_run_order(
    base: list[float], other: list[float], unit: float, draw: random.Random
) -> None:
    plain, swapped = ratio_of(base, other), ratio_of(other, base)
    scaled = ratio_of([value * unit for value in base], [value * unit for value in other])
    dealt = ratio_of(draw.sample(base, len(base)), draw.sample(other, len(other)))
    back = replace(swapped, value=1 / swapped.value, low=1 / figures(swapped)[1], high=1 / figures(swapped)[0])
    for again in (scaled, dealt, back):
        assert again.value == pytest.approx(plain.value, rel=1e-9)
        assert figures(again)[:2] == pytest.approx(figures(plain)[:2], rel=1e-7)
        assert again.p == plain.p
    assert dealt.verdict == plain.verdict
    assert swapped.verdict == {"faster": "slower", "slower": "faster"}.get(plain.verdict, plain.verdict)
    assert plain.runs == swapped.runs[::-1] == (len(base), len(other))


@pytest.mark.filterwarnings("ignore:Precision loss occurred")  # scipy's, where one group is all equal
@laws
@given(GROUPS, GROUPS)
def test_interval_is_students_t_on_the_logarithms(base: list[float], other: list[float]) -> None:
    assume(len({*base}) > 1 or len({*other}) > 1)
    ratio = ratio_of(base, other)
    expected = stats.ttest_ind([*map(math.log, other)], [*map(math.log, base)]).confidence_interval(0.95)
    assert figures(ratio)[:2] == pytest.approx((math.exp(expected.low), math.exp(expected.high)), rel=1e-9)
    assert ratio.value == pytest.approx(stats.gmean(other) / stats.gmean(base), rel=1e-9)


# What the interval and the verdict promise, by simulation: five runs a side, 2 % spread from run to run


@pytest.fixture(scope="module")
def without_effect() -> list[Ratio]:
    draw = random.Random(20240424)
    return [ratio_of(lognormal(draw, 5, 100, 0.02), lognormal(draw, 5, 100, 0.02)) for _ in range(2000)]


@pytest.fixture(scope="module")
def ten_percent_faster() -> list[Ratio]:
    draw = random.Random(15653)
    return [ratio_of(lognormal(draw, 5, 100, 0.02), lognormal(draw, 5, 110, 0.02)) for _ in range(2000)]


def test_interval_has_nominal_coverage(without_effect: list[Ratio], ten_percent_faster: list[Ratio]) -> None:
    assert 0.93 <= share(without_effect, covers(1.0)) <= 0.97
    assert 0.93 <= share(ten_percent_faster, covers(1.1)) <= 0.97


def test_without_an_effect_false_positives_are_rare_and_p_is_valid(without_effect: list[Ratio]) -> None:
    assert share(without_effect, lambda ratio: ratio.verdict in ("faster", "slower")) <= 0.02
    for level in (0.01, 0.05, 0.2, 0.5):
        assert share(without_effect, lambda ratio: figures(ratio)[2] <= level) <= level + 0.02  # noqa: B023


def test_ten_percent_effect_is_found_with_the_right_sign(ten_percent_faster: list[Ratio]) -> None:
    assert share(ten_percent_faster, lambda ratio: ratio.verdict == "faster") >= 0.95
    assert share(ten_percent_faster, lambda ratio: ratio.verdict in ("slower", "no difference")) == 0


def test_four_percent_effect_is_not_called_no_difference() -> None:
    draw = random.Random(4)
    ratios = [ratio_of(lognormal(draw, 5, 100, 0.005), lognormal(draw, 5, 104, 0.005)) for _ in range(400)]
    assert share(ratios, lambda ratio: ratio.verdict == "no difference") <= 0.01


def test_family_without_effect_keeps_the_false_positive_rate() -> None:
    draw, alarms, families = random.Random(1979), 0, 300
    for _ in range(families):
        base, *others = (lognormal(draw, 6, 100, 0.02) for _ in range(4))
        found = ratios_of(base, dict(zip("abc", others, strict=True)))
        alarms += any(ratio.verdict in ("faster", "slower") for ratio in found.values())
    assert alarms / families <= 0.02


# Verdicts


def by_definition(ratio: Ratio) -> Verdict:
    if ratio.p is None:
        return "inconclusive"
    low, high, p = figures(ratio)
    if p <= 0.01 and (low > 1 or high < 1) and (ratio.value >= 1.02 or ratio.value <= 1 / 1.02):
        return "faster" if ratio.value > 1 else "slower"
    return "no difference" if low > 1 / 1.02 and high < 1.02 else "inconclusive"


@laws
@given(st.integers(0, 10_000), st.integers(5, 6), st.floats(-0.08, 0.08), st.sampled_from([0.001, 0.01, 0.03]))
def test_verdict_follows_from_p_interval_and_ratio(seed: int, runs: int, effect: float, spread: float) -> None:
    draw = random.Random(seed)
    base = lognormal(draw, runs, 100, spread)
    others = {"a": lognormal(draw, runs, 100 * math.exp(effect), spread), "b": lognormal(draw, runs, 101, spread)}
    for ratio in (ratio_of(base, others["a"]), *ratios_of(base, others).values()):
        assert ratio.verdict == by_definition(ratio)


def test_a_verdict_needs_an_effect_of_two_percent() -> None:
    """Less is "no difference" where it is certain; exactly two count, where the logarithms' rounding is all spread."""
    small = [around(100.0 * factor) for factor in (1.0199, 1.0, 1 / 1.0199)]
    assert {ratio_of(around(100.0), other).verdict for other in small} == {"no difference"}
    assert ratio_of(around(100.0), around(102.01)).verdict == "faster"
    assert ratio_of(around(102.01), around(100.0)).verdict == "slower"
    assert {ratio_of([50.0 * k] * 5, [51.0 * k] * 5).verdict for k in range(1, 200)} == {"faster"}
    assert {ratio_of([51.0 * k] * 5, [50.0 * k] * 5).verdict for k in range(1, 200)} == {"slower"}


@pytest.mark.parametrize("others", [[103.0, 103.1, 103.2, 103.3, 200.0], [97.0, 96.9, 96.8, 96.7, 50.0]])
def test_verdict_needs_an_interval_that_excludes_one(others: list[float]) -> None:
    """p sees ranks as good as all apart where one run of five makes the spread as large as the effect."""
    ratio = ratio_of(around(100.0), others)
    assert ratio.p == LEAST_P_OF_FIVE
    assert abs(math.log(ratio.value)) > math.log1p(SMALLEST_EFFECT)
    assert covers(1.0)(ratio)
    assert ratio.verdict == "inconclusive"
    assert ratios_of(around(100.0), {"only": others})["only"] == ratio


def test_too_wide_an_interval_or_too_large_a_p_is_inconclusive() -> None:
    narrow, wide = [99.0, 99.5, 100.0, 100.5, 101.0], [97.0, 98.5, 100.0, 101.5, 103.0]
    other_narrow, other_wide = ([values[place] for place in (1, 0, 3, 4, 2)] for values in (narrow, wide))
    assert ratio_of(narrow, other_narrow).verdict == "no difference"
    assert ratio_of(wide, other_wide).verdict == "inconclusive"
    assert ratio_of(narrow, [value * 1.015 for value in other_narrow]).verdict == "inconclusive"
    assert ratio_of(around(100.0)[:4], around(300.0)[:4]).verdict == "inconclusive"


# Runs that are too few, too equal or not figures


def test_single_and_equal_runs_do_not_crash() -> None:
    for runs in ((1, 1), (1, 5), (5, 1)):  # one run has neither interval nor p
        found = ratio_of([10.0] * runs[0], [30.0] * runs[1])
        assert found == Ratio(found.value, None, None, None, runs, "inconclusive")
        assert found.value == pytest.approx(3)
    assert ratio_of([7.0] * 5, [7.0] * 5) == Ratio(1.0, 1.0, 1.0, 1.0, (5, 5), "no difference")
    apart = ratio_of([7.0] * 5, [14.0] * 5)
    assert apart == Ratio(apart.value, apart.value, apart.value, LEAST_P_OF_FIVE, (5, 5), "faster")
    assert apart.value == pytest.approx(2)


@pytest.mark.parametrize("bad", [0.0, -0.0, -1.0, math.inf, -math.inf, math.nan, 1e-300, 1e300])
def test_figures_must_be_positive_and_finite(bad: float) -> None:
    good, words = [1.0, 2.0, 3.0], f"positive finite figures, got {re.escape(str(bad))}$"
    for corrupted in ([bad], [bad, 2.0, 3.0], [1.0, 2.0, bad]):
        for base, other in ((good, corrupted), (corrupted, good)):
            with pytest.raises(ValueError, match=words):
                ratio_of(base, other)
            with pytest.raises(ValueError, match=words):
                ratios_of(base, {"other": other})


def test_no_runs_are_refused() -> None:
    for base, other in (([], [1.0]), ([1.0], []), ([], [])):
        with pytest.raises(ValueError, match="at least one"):
            ratio_of(base, other)


@laws
@given(*[st.lists(st.floats(MIN_FIGURE, MAX_FIGURE), min_size=1, max_size=3)] * 2)
@example([MIN_FIGURE, MAX_FIGURE], [MIN_FIGURE, MAX_FIGURE])
@example([MIN_FIGURE] * 2, [MIN_FIGURE, MAX_FIGURE])
@example([MIN_FIGURE] * 2, [MAX_FIGURE] * 2)
def test_any_figures_within_the_bounds_have_a_ratio(base: list[float], other: list[float]) -> None:
    ratio = ratio_of(base, other)
    assert 0 < (ratio.low or ratio.value) <= ratio.value * (1 + 1e-9)
    assert ratio.value * (1 - 1e-9) <= (ratio.high or ratio.value) < math.inf


# Several ratios in one answer


@laws
@given(st.lists(FIGURES, min_size=1, max_size=6), st.lists(st.lists(FIGURES, min_size=1, max_size=6), max_size=3))
def test_several_ratios_are_single_ratios_with_adjusted_p(base: list[float], groups: list[list[float]]) -> None:
    """A group of one run has no p and does not weigh on the family."""
    single = {f"method {i}": ratio_of(base, group) for i, group in enumerate(groups)}
    several = ratios_of(base, {f"method {i}": group for i, group in enumerate(groups)})
    assert list(several) == list(single)
    adjusted = iter(holm([ratio.p for ratio in single.values() if ratio.p is not None]))
    for name, ratio in single.items():
        expected = ratio if ratio.p is None else replace(ratio, p=next(adjusted))
        assert several[name] == replace(expected, verdict=by_definition(expected))


def test_family_is_adjusted_as_one() -> None:
    base, large = around(100.0), around(110.0)
    separate = ratio_of(base, large)
    assert separate.verdict == "faster"
    assert ratios_of(base, {"five": large}) == {"five": separate}
    assert ratios_of(base, {"five": large, "one": [120.0]})["five"] == separate
    several = ratios_of(base, {"a": large, "b": around(300.0)})  # five rounds cannot call two ratios
    assert {ratio.verdict for ratio in several.values()} == {"inconclusive"}


@pytest.mark.parametrize(("num_ratios", "rounds"), [(0, 5), (1, 5), (2, 6), (3, 6), (4, 6), (5, 7), (6, 7)])
def test_fewest_rounds_suffice_and_one_fewer_does_not(num_ratios: int, rounds: int) -> None:
    def all_called(rounds: int) -> bool:
        base = [100.0 + i / 100 for i in range(rounds)]
        others = {str(k): [200.0 + k + i / 100 for i in range(rounds)] for k in range(num_ratios)}
        return all(ratio.verdict == "faster" for ratio in ratios_of(base, others).values())

    assert fewest_rounds(num_ratios) == rounds
    assert all_called(rounds)
    assert num_ratios == 0 or not all_called(rounds - 1)


# Accuracy


@laws
@given(ANSWERS)
def test_accuracy_interval_is_wilsons(correct: list[bool]) -> None:
    found = accuracy_interval(correct)
    expected = stats.binomtest(int(sum(correct)), len(correct)).proportion_ci(0.95, method="wilson")
    assert found.value == pytest.approx(sum(correct) / len(correct))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_accuracy_and_its_interval_lie_between_0_and_1() -> None:
    for items in range(1, 200):
        none, every = accuracy_interval([0.0] * items), accuracy_interval([1.0] * items)
        assert 0 <= none.low <= none.value < none.high <= 1
        assert 0 <= every.low < every.value <= every.high <= 1


def test_no_answers_have_no_interval() -> None:
    with pytest.raises(ValueError, match="at least one"):
        accuracy_interval([])


def table_of(runs: int, items: int, of_runs: float, of_items: float, rest: float, chance: Generator) -> Floats:
    """Draw a (runs, items) table of mean 0 with these standard deviations of its runs, items and rest."""
    spreads = ((of_runs, (runs, 1)), (of_items, (1, items)), (rest, (runs, items)))
    return sum(chance.normal(0, spread, shape) for spread, shape in spreads)


@laws
@given(st.integers(3, 6), st.integers(2, 9), st.integers(0, 99))
def test_two_level_interval_is_satterthwaites_of_the_variance_components(runs: int, items: int, seed: int) -> None:
    table = table_of(runs, items, 0.5, 0.5, 1, default_rng(seed)) + 0.3
    found = estimate_over_seeds(list(table))
    mean = sum(table[s, i] for s in range(runs) for i in range(items)) / (runs * items)
    of_run = [sum(table[s]) / items for s in range(runs)]
    of_item = [sum(table[:, i]) / runs for i in range(items)]
    freedoms = runs - 1, items - 1, (runs - 1) * (items - 1)
    a = sum((one - mean) ** 2 for one in of_run) / freedoms[0] / runs
    b = sum((one - mean) ** 2 for one in of_item) / freedoms[1] / items
    rests = [(table[s, i] - of_run[s] - of_item[i] + mean) ** 2 for s in range(runs) for i in range(items)]
    c = sum(rests) / freedoms[2] / (runs * items)
    variance = max(a - c, 0) + max(b - c, 0) + c
    a_enters, b_enters = bool(a > c), bool(b > c)
    entering = [(a, freedoms[0])] * a_enters + [(b, freedoms[1])] * b_enters
    entering += [(c, freedoms[2])] * (a_enters == b_enters)
    degrees_of_freedom = variance**2 / sum(part**2 / of for part, of in entering)
    expected = stats.t(degrees_of_freedom, loc=mean, scale=math.sqrt(variance))
    assert (found.value, found.low, found.high) == pytest.approx((mean, *expected.interval(0.95)))
    assert found.p == pytest.approx(2 * stats.t(degrees_of_freedom).sf(abs(mean) / math.sqrt(variance)))
    assert found.over == f"{runs} seeds and {items} test images"


SPREADS = [(0.0, 0.0, 1.0), (0.02, 1.0, 0.3), (0.1, 1.0, 0.5), (0.0, 0.5, 1.0), (0.3, 1.0, 1.0)]


@pytest.mark.parametrize("spreads", SPREADS)
def test_two_level_interval_covers_other_seeds_and_other_items(spreads: tuple[float, float, float]) -> None:
    """An interval over seeds alone covers 30 to 95 % of these."""
    chance = default_rng(0)
    found = [estimate_over_seeds(list(table_of(5, 400, *spreads, chance))) for _ in range(2000)]
    assert 0.93 <= fmean(one.low <= 0 <= one.high for one in found) <= 0.985
    assert fmean(one.p <= ALPHA for one in found) <= 1.8 * ALPHA


TASK_SPREADS = [(0.0, 1.0, 0.3), (0.3, 1.0, 0.3), (1.0, 0.3, 0.3), (0.1, 1.0, 0.1), (1.0, 1.0, 1.0), (0.0, 0.0, 1.0)]


@pytest.mark.parametrize("spreads", TASK_SPREADS)
@pytest.mark.parametrize(("seeds", "tasks"), [(3, 3), (5, 5), (3, 16)])
def test_interval_over_tasks_and_seeds_covers_other_tasks_and_other_seeds(
    seeds: int, tasks: int, spreads: tuple[float, float, float]
) -> None:
    """An interval over the seeds alone covers 20 to 55 % of tables whose tasks differ."""
    chance = default_rng(0)
    found = [estimate_over_tasks(table_of(seeds, tasks, *spreads, chance).tolist()).mean for _ in range(1000)]
    assert fmean(one.low <= 0 <= one.high for one in found) >= 0.925
    assert found[0].over == f"{tasks} tasks and {seeds} seeds"


def test_interval_over_tasks_and_seeds_covers_the_mean_of_simulated_accuracies() -> None:
    """Two methods on tasks of unequal difficulty with 300 test images each; one method is 2 points above the other."""
    chance, seeds, tasks = default_rng(0), 5, 6

    def difference() -> list[list[float]]:
        difficulty = chance.uniform(0.2, 0.8, tasks)
        gains = 0.02 + chance.normal(0, 0.04, tasks)  # of the tasks
        luck = chance.normal(0, 0.02, (2, seeds, 1))  # of the trainings
        of_methods = [difficulty + luck[0], difficulty + gains + luck[1]]
        base, other = (chance.binomial(300, of.clip(0, 1)) / 300 for of in of_methods)
        return (other - base).tolist()

    found = [estimate_over_tasks(difference()).mean for _ in range(2000)]
    assert fmean(one.low <= 0.02 <= one.high for one in found) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("seeds", [1, 2])
def test_interval_of_one_or_two_trainings_covers_other_tasks_for_these(seeds: int) -> None:
    chance, of_seeds = default_rng(0), zeros((seeds, 6))
    of_seeds[0] = 3.0  # the luck of one training, which no task shows
    tables = [table_of(seeds, 6, 0.0, 1.0, 0.3, chance) + of_seeds for _ in range(1000)]
    found = [estimate_over_tasks(table.tolist()).mean for table in tables]
    assert fmean(one.low <= of_seeds.mean() <= one.high for one in found) == pytest.approx(0.95, abs=0.02)
    assert found[0].over == "6 tasks, of these trainings"
    assert fmean(one.low <= 0 <= one.high for one in found) < 0.5


@pytest.mark.parametrize("tasks", [1, 2])
def test_one_or_two_tasks_have_a_mean_without_an_interval(tasks: int) -> None:
    found = estimate_over_tasks([[0.1] * tasks, [0.3] * tasks, [0.2] * tasks])
    assert found.mean.value == pytest.approx(0.2)
    assert (found.mean.low, found.mean.high, found.smallest) == (None, None, None)


@pytest.mark.parametrize("tasks", [3, 8, 20])
def test_smallest_difference_is_shown_with_a_power_of_80_percent(tasks: int) -> None:
    sample = default_rng(tasks).normal(0, 1, tasks)
    smallest = estimate_over_tasks([sample.tolist()]).smallest
    chance = default_rng(0)
    repeated = [chance.normal(smallest, sample.std(ddof=1), (1, tasks)).tolist() for _ in range(3000)]
    assert fmean(estimate_over_tasks(table).mean.low > 0 for table in repeated) == pytest.approx(0.8, abs=0.025)


@laws
@given(st.integers(1, 5), st.integers(3, 8), st.integers(0, 99), st.integers(1, 9), EIGHTHS)
def test_smallest_difference_grows_with_the_spread_and_not_with_the_mean(
    seeds: int, tasks: int, seed: int, times: int, shift: float
) -> None:
    table = table_of(seeds, tasks, 0.5, 0.5, 1, default_rng(seed))
    smallest = estimate_over_tasks(table.tolist()).smallest
    assert smallest > 0
    assert estimate_over_tasks((times * table + shift).tolist()).smallest == pytest.approx(times * smallest)


@laws
@given(st.lists(EIGHTHS, min_size=3, max_size=8))
def test_one_figure_per_seed_gives_students_t_over_seeds(values: list[float]) -> None:
    found, expected = estimate_over_seeds(values), mean_interval(values)
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert found.over == f"{len(values)} seeds"


def test_seeds_with_other_test_items_have_no_interval() -> None:
    found = estimate_over_seeds([ones(4), zeros(4), zeros(8)])
    assert (found.value, found.low, found.p) == (pytest.approx(1 / 3), None, None)
    assert found.over == "3 seeds, different test images, no interval"


@laws
@given(st.lists(EIGHTHS, min_size=2, max_size=8))
def test_interval_over_seeds_is_students_t(values: list[float]) -> None:
    assume(len({*values}) > 1)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_interval(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.value == pytest.approx(sum(values) / len(values), abs=1e-12)


def test_interval_over_seeds_needs_two_finite_values() -> None:
    assert mean_interval([0.5, 0.5, 0.5]) == Interval(0.5, 0.5, 0.5)
    for values in ([], [0.7], [math.nan]):
        with pytest.raises(ValueError, match="two values"):
            mean_interval(values)
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=f"finite figures, got .*{bad}"):
            mean_interval([0.5, bad])


# Pairs of runs of one round


@pytest.mark.filterwarnings("ignore:Precision loss occurred")  # scipy's, where one group is all equal
@laws
@given(st.lists(st.tuples(FIGURES, FIGURES), min_size=MIN_ROUNDS, max_size=14), st.randoms(use_true_random=False))
def test_paired_interval_is_students_t_from_five_rounds(pairs: list[tuple[float, float]], draw: random.Random) -> None:
    base, other = zip(*pairs, strict=True)
    differences = [math.log(b) - math.log(a) for a, b in pairs]
    assume(len({*differences}) > 1)
    ratio = ratio_of(base, other)
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert figures(ratio)[:2] == pytest.approx((math.exp(expected.low), math.exp(expected.high)), rel=1e-9)
    dealt = ratio_of(*zip(*draw.sample(pairs, len(pairs)), strict=True))  # which round came first changes nothing
    assert figures(dealt) == pytest.approx(figures(ratio), rel=1e-9)
    assert ratio.is_paired == (len(pairs) >= MIN_PAIRED_ROUNDS)
    assert ratio.p == (sign_flip_p(differences) if ratio.is_paired else permutation_p(*map(logarithms, (base, other))))


def logarithms(figures: Sequence[float]) -> list[float]:
    return [*map(math.log, figures)]


def test_paired_interval_has_nominal_coverage_with_round_effects() -> None:
    draw, pairs, unpaired = random.Random(9), [], []
    for _ in range(1500):
        luck = [draw.gauss(0, 0.02) for _ in range(8)]
        base, other = ({i: 100 * math.exp(of + draw.gauss(0, 0.02)) for i, of in enumerate(luck)} for _ in range(2))
        pairs.append(judged.ratio_of(base, other))
        unpaired.append(judged.ratio_of(base, {100 + round_: rate for round_, rate in other.items()}))
    assert 0.93 <= share(pairs, covers(1.0)) <= 0.97 < share(unpaired, covers(1.0))


def test_sign_flips_cancel_machine_drift_that_hides_a_change_from_permutations() -> None:
    draw, found = random.Random(8), {9: 0, 10: 0}
    for rounds in (9, 10) * 60:
        drift = [draw.gauss(0, 0.08) for _ in range(rounds)]
        base = [100 * math.exp(of_round + draw.gauss(0, 0.01)) for of_round in drift]
        other = [95 * math.exp(of_round + draw.gauss(0, 0.01)) for of_round in drift]
        found[rounds] += ratio_of(base, other).verdict == "slower"
    assert found[10] >= 58
    assert found[9] <= 20


def test_a_round_without_its_run_is_left_out_of_the_pairs() -> None:
    base = {round_: 100.0 + round_ for round_ in range(12)}
    other = {round_: 110.0 + round_ for round_ in range(12) if round_ != 4}
    ratio = judged.ratio_of(base, other)
    assert (ratio.is_paired, ratio.runs) == (True, (11, 11))
    few = {round_: rate for round_, rate in other.items() if round_ < 9}
    assert judged.ratio_of(base, few).runs == (8, 8)
    fewer = {round_: rate for round_, rate in few.items() if round_ < 4}
    assert judged.ratio_of(base, fewer).runs == (12, 4)  # too few pairs: all runs


def test_sign_flips_are_used_only_with_enough_rounds_for_the_ratios() -> None:
    base, other = ([centre + 0.1 * i for i in range(10)] for centre in (100.0, 120.0))
    for ratios in (5, 6):
        found = ratios_of(base, {str(number): other for number in range(ratios)})
        assert {ratio.verdict for ratio in found.values()} == {"faster"}
        assert {ratio.is_paired for ratio in found.values()} == {ratios == 5}


def test_inexact_p_is_students_t_on_the_pairs() -> None:
    draw = random.Random(3)
    base = {round_: math.exp(draw.gauss(0, 0.08)) for round_ in range(8)}
    others = {str(part): {i: rate * math.exp(draw.gauss(0, 0.01)) for i, rate in base.items()} for part in range(24)}
    others["slowed"] = {i: 0.9 * rate * math.exp(draw.gauss(0, 0.01)) for i, rate in base.items()}
    found, exact = (judged.ratios_of_pairs({n: (base, o) for n, o in others.items()}, exact=e) for e in (False, True))
    assert [name for name, ratio in found.items() if ratio.verdict == "slower"] == ["slowed"]
    assert "slower" not in {ratio.verdict for ratio in exact.values()}
    differences = [math.log(others["slowed"][i] / base[i]) for i in base]
    expected = stats.ttest_1samp(differences, 0).pvalue
    assert found["slowed"].p == pytest.approx(25 * expected)


def test_relative_spread_is_the_deviation_of_logarithms() -> None:
    runs = {0: 100.0, 1: 110.0, 5: 121.0}
    assert log_std(runs) == pytest.approx(math.log(1.1))
    assert log_std({0: 5.0}) is None


def test_step_is_bound_by_its_longer_part() -> None:
    shares = (0.0, 0.05, 0.06, 0.5, 0.51, 1.0)
    separate, ahead = ([verdicts.bound_by(share, prefetches=ahead) for share in shares] for ahead in (False, True))
    assert separate == [*["compute-bound"] * 4, *["input-bound"] * 2]
    assert ahead == [*["compute-bound"] * 2, *["input-bound"] * 4]


def test_cores_suffice_where_the_whole_interval_says_so() -> None:
    needed = ((2.0, 4.0), (3.9, 4.1), (4.1, 6.0))
    assert [verdicts.judge_loader_cores(*ends, 4) for ends in needed] == ["enough", "too close to tell", "too few"]


# Parts and whole, measured and predicted

MARGINS = st.floats(0, 0.3)
DIFFERENCES = st.floats(-0.3, 0.3)


@laws
@given(DIFFERENCES, MARGINS)
def test_an_agreement_claims_no_more_than_its_interval(difference: float, margin: float) -> None:
    """Whatever is true inside of it, two figures that agree differ by no more than stated, and that is under 10 %."""
    verdict, said = judge_agreement(difference, margin), max_relative_difference(difference, margin)
    assert verdict == judge_agreement(-difference, margin)
    for truth in (difference - margin, difference, difference + margin):
        assert abs(math.expm1(abs(truth))) <= said * (1 + 1e-9)
    if verdict == "agree":
        assert said <= 0.1 + 1e-9
    if verdict == "disagree":
        assert not difference - margin <= 0 <= difference + margin


@pytest.mark.parametrize(
    ("difference", "margin", "verdict"),
    [
        (0.0, math.log(1.099), "agree"),
        (0.0, math.log(1.101), "inconclusive"),
        (0.05, 0.06, "inconclusive"),  # its middle and half of its interval are under 10 %, its far end is not
        (0.05, 0.04, "disagree"),
        (math.log(1.019), 1e-6, "agree"),
        (math.log(1.021), 1e-6, "disagree"),
        (-math.log(1.021), 1e-6, "disagree"),
        (0.0, None, "inconclusive"),
    ],
)
def test_agreement_needs_a_near_far_end(difference: float, margin: float | None, verdict: str) -> None:
    assert judge_agreement(difference, margin) == verdict


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
def test_accuracy_differences_are_judged_as_one_family(found: list[tuple[float, float | None]]) -> None:
    """Better and worse by the adjusted p alone, at the level of the speeds' verdicts."""
    estimates = {index: Estimate(value, None, None, "", p) for index, (value, p) in enumerate(found)}
    claims = judge_accuracy_differences(estimates)
    known = [index for index, (_, p) in enumerate(found) if p is not None]
    assert [claims[index].p for index in known] == holm([found[index][1] for index in known])
    for index, claim in claims.items():
        called = claim.p is not None and claim.p <= ALPHA
        assert claim.difference is estimates[index]
        assert (claim.verdict in {"better", "worse"}) == called
        assert (claim.verdict == "no interval") == (claim.p is None)
        assert not called or (claim.verdict == "better") == (claim.difference.value > 0)


def test_more_claims_need_more_evidence() -> None:
    """The interval of a single difference excludes 0, and one of many such is not called."""
    one = estimate_over_seeds([0.010, 0.012, 0.011, 0.013, 0.009])
    assert (one.low or 0) > 0
    assert judge_accuracy_differences({0: one})[0].verdict == "better"
    many = judge_accuracy_differences(dict.fromkeys(range(300), one))
    assert {claim.verdict for claim in many.values()} == {"not distinguishable"}


def test_seeds_are_ranked_from_five_common_ones_on() -> None:
    base = dict.fromkeys(range(6), 0.5)
    assert estimate_paired_over_seeds(base, dict.fromkeys(range(2, 6), 0.6)) is None
    found = estimate_paired_over_seeds(base, {seed: 0.6 + seed / 1000 for seed in range(1, 9)})
    assert found is not None
    assert (found.over, judge_accuracy_differences({0: found})[0].verdict) == ("5 seeds", "better")
