import math
import random
import tracemalloc
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations, product
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.statistics.p_values import MAX_PERMUTATIONS, holm, permutation_p, sign_flip_p, student_t_p
from bench.statistics.ratios import ALPHA

laws = settings(derandomize=True, deadline=None, database=None, max_examples=60)

LEAST_P_OF_FIVE = 2 / 252  # the two fully separated deals of ten runs into two hands of five
EIGHTHS = st.integers(-40, 40).map(lambda eighths: eighths / 8)  # exact in binary: ties are ties
P_VALUES = st.lists(st.integers(0, 1000).map(lambda thousandths: thousandths / 1000), min_size=1, max_size=8)


# The permutation test


def recount(a: Sequence[float], b: Sequence[float]) -> Fraction:
    """Deal by position and add as fractions: no rounding, no tolerance, no binomials."""
    values = [Fraction(value) for value in (*a, *b)]

    def gap(hand: Sequence[int]) -> Fraction:
        rest = [i for i in range(len(values)) if i not in hand]
        means = (sum((values[i] for i in side), Fraction(0)) / len(side) for side in (hand, rest))
        return abs(next(means) - next(means))

    deals = [gap(hand) for hand in combinations(range(len(values)), len(a))]
    return Fraction(sum(one >= gap(range(len(a))) for one in deals), len(deals))


@laws
@given(st.lists(EIGHTHS, min_size=1, max_size=5), st.lists(EIGHTHS, min_size=1, max_size=4))
def test_permutation_p_is_the_fraction_at_least_as_extreme(a: list[float], b: list[float]) -> None:
    assert permutation_p(a, b) == float(recount(a, b))


@pytest.mark.parametrize("runs", range(2, 11))
def test_full_separation_gives_the_smallest_possible_p(runs: int) -> None:
    low, high = [1.0 + i for i in range(runs)], [100.0 + i * i for i in range(runs)]
    assert permutation_p(low, high) == permutation_p(high, low) == 2 / math.comb(2 * runs, runs)


def test_one_overlapping_pair_of_five_is_not_enough() -> None:
    assert permutation_p([1.0, 2.0, 3.0, 4.0, 6.0], [5.0, 7.0, 8.0, 9.0, 10.0]) == 4 / 252
    assert LEAST_P_OF_FIVE <= ALPHA < 4 / 252


def test_ten_per_side_are_enumerated_and_eleven_sampled() -> None:
    assert math.comb(20, 10) <= MAX_PERMUTATIONS < math.comb(22, 11)
    p = permutation_p([1.0 + i for i in range(11)], [100.0 + i for i in range(11)])
    assert 1 / (1 + MAX_PERMUTATIONS) <= p <= 6 / (1 + MAX_PERMUTATIONS)  # half a deal so far apart is to be expected


@pytest.mark.parametrize("effect", [0.0, 0.4, 0.8, 1.2, 9.0])
@pytest.mark.parametrize("sizes", [(8, 8), (9, 7), (5, 11)])
def test_sampled_permutation_p_agrees_with_enumeration(
    effect: float, sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, deals = random.Random(f"{effect} {sizes}"), 4_000
    a, b = ([draw.gauss(centre, 1) for _ in range(size)] for centre, size in zip((0, effect), sizes, strict=True))
    exact = permutation_p(a, b)
    error = math.sqrt(exact * (1 - exact) / deals)
    monkeypatch.setattr("bench.statistics.p_values.MAX_PERMUTATIONS", deals)
    for drawn, again in ((permutation_p(a, b), permutation_p(a, b)), (permutation_p(b, a), permutation_p(b, a))):
        assert drawn == again  # seeded
        assert drawn >= 1 / (1 + deals)
        assert drawn == pytest.approx(exact, abs=4 * error + 1 / deals)
    assert permutation_p([1.0] * sizes[0], [1.0] * sizes[1]) == 1


# The signs of differences


def recount_flips(differences: Sequence[float]) -> Fraction:
    """Flip by sign and add as fractions."""
    values = [Fraction(value) for value in differences]
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in product((1, -1), repeat=len(values))
    ]
    return Fraction(sum(one >= abs(sum(values)) for one in sums), len(sums))


@laws
@given(st.lists(EIGHTHS, min_size=1, max_size=7))
def test_sign_flip_p_is_the_fraction_at_least_as_extreme(differences: list[float]) -> None:
    assert sign_flip_p(differences) == float(recount_flips(differences))


def test_sampled_sign_flips_agree_with_enumeration(monkeypatch: pytest.MonkeyPatch) -> None:
    draw, flips = random.Random(5), 4_000
    for shift in (0.0, 0.3, 0.8):
        differences = [draw.gauss(shift, 1) for _ in range(13)]
        exact = sign_flip_p(differences)
        with monkeypatch.context() as patched:
            patched.setattr("bench.statistics.p_values.MAX_PERMUTATIONS", flips)
            drawn = sign_flip_p(differences)
        assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact / flips) + 1 / flips)


def test_sign_flips_of_very_many_rounds_take_little_memory() -> None:
    """A page of 500 runs has 125 rounds of each of four methods."""
    draw = random.Random(5)
    differences = [draw.gauss(0, 1) for _ in range(125)]
    tracemalloc.start()
    p = sign_flip_p(differences)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert p == pytest.approx(student_p_of(differences), abs=0.01)
    assert peak < 64 * 2**20


# Student's t of differences


def student_p_of(differences: list[float]) -> float:
    return student_t_p(fmean(differences), stdev(differences) / math.sqrt(len(differences)), len(differences) - 1)


@laws
@given(st.lists(EIGHTHS, min_size=2, max_size=9))
def test_student_p_equals_scipy(differences: list[float]) -> None:
    assume(len({*differences}) > 1)
    assert student_p_of(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, rel=1e-9, abs=1e-300)
    assert student_p_of([-one for one in differences]) == student_p_of(differences)


def test_student_p_of_constant_differences() -> None:
    assert student_t_p(0.0, 0.0, 4) == 1
    assert student_t_p(0.25, 0.0, 4) == 0


PROCESSES, PARTS, FAMILIES = 8, 25, 4_000
KINDS = {
    "normal": lambda draw, shape: draw.normal(0, 0.02, shape),
    "heavy tails": lambda draw, shape: 0.02 * draw.standard_t(2, shape),
    "skewed": lambda draw, shape: 0.02 * draw.exponential(1, shape),
    "within bounds": lambda draw, shape: draw.uniform(-0.02, 0.02, shape),
    "two speeds": lambda draw, shape: 0.05 * (draw.random(shape) < 0.5) + draw.normal(0, 0.003, shape),
    "disturbed": lambda draw, shape: draw.normal(0, 0.01, shape) + 0.3 * (draw.random(shape) < 0.05),
}


@pytest.mark.parametrize("kind", KINDS)
def test_family_wise_error_rate_holds_for_any_distribution(kind: str) -> None:
    """Of eight pairs and 25 parts under Holm: .01 of families for normal figures, .02 at most for others."""
    draw = np.random.default_rng(0)
    a, b = KINDS[kind](draw, (2, FAMILIES, PARTS, PROCESSES))
    called = students(a - b).min(axis=1) * PARTS <= ALPHA
    assert called.mean() <= (0.012 if kind == "normal" else 0.02)


def students(differences: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return `student_t_p` of every last axis, which one call of scipy's gives in less time."""
    p: npt.NDArray[np.float64] = stats.ttest_1samp(differences, 0, axis=-1).pvalue
    assert p[0, 0] == pytest.approx(student_p_of(differences[0, 0].tolist()))
    return p


# Several p's in one answer


@laws
@given(P_VALUES, st.sampled_from([0.0105, 0.0503, 0.1007, 0.5003]))
def test_holm_equals_the_step_down_procedure(p_values: list[float], level: float) -> None:
    rejected: set[int] = set()
    for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > level / (len(p_values) - step):
            break
        rejected.add(index)
    assert {index for index, p in enumerate(holm(p_values)) if p <= level} == rejected


@laws
@given(P_VALUES)
@example([])
def test_holm_is_the_running_maximum_of_the_scaled_p_values_in_their_order(p_values: list[float]) -> None:
    raised = sorted(p_values)
    expected = [
        max(min(1.0, (len(raised) - j) * raised[j]) for j in range(len(raised)) if raised[j] <= p) for p in p_values
    ]
    assert holm(p_values) == pytest.approx(expected)
    adjusted = [adjusted for _, adjusted in sorted(zip(p_values, holm(p_values), strict=True))]
    assert all(low <= high for low, high in zip(raised, adjusted, strict=True))
    assert adjusted == sorted(adjusted)
    assert holm(raised[:1]) == raised[:1]
