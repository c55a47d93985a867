import math
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.statistics.p_values import adjust_p_values_holm, student_t_p_value
from bench.statistics.ratios import ALPHA

laws = settings(derandomize=True, deadline=None, database=None, max_examples=60)

EIGHTHS = st.integers(-40, 40).map(lambda eighths: eighths / 8)  # exact in binary: ties are ties
P_VALUES = st.lists(
    st.integers(0, 1000).map(lambda thousandths: thousandths / 1000), min_size=1, max_size=8
)


# Student's t of differences


def student_p_of(differences: list[float]) -> float:
    return student_t_p_value(
        fmean(differences), stdev(differences) / math.sqrt(len(differences)), len(differences) - 1
    )


@laws
@given(st.lists(EIGHTHS, min_size=2, max_size=9))
def test_student_p_equals_scipy(differences: list[float]) -> None:
    assume(len({*differences}) > 1)
    assert student_p_of(differences) == pytest.approx(
        stats.ttest_1samp(differences, 0).pvalue, rel=1e-9, abs=1e-300
    )
    assert student_p_of([-one for one in differences]) == student_p_of(differences)


def test_student_p_of_constant_differences() -> None:
    assert student_t_p_value(0.0, 0.0, 4) == 1
    assert student_t_p_value(0.25, 0.0, 4) == 0


PROCESSES, PARTS, FAMILIES = 8, 25, 4_000
KINDS = {
    "normal": lambda draw, shape: draw.normal(0, 0.02, shape),
    "heavy tails": lambda draw, shape: 0.02 * draw.standard_t(2, shape),
    "skewed": lambda draw, shape: 0.02 * draw.exponential(1, shape),
    "within bounds": lambda draw, shape: draw.uniform(-0.02, 0.02, shape),
    "two speeds": lambda draw, shape: (
        0.05 * (draw.random(shape) < 0.5) + draw.normal(0, 0.003, shape)
    ),
    "disturbed": lambda draw, shape: (
        draw.normal(0, 0.01, shape) + 0.3 * (draw.random(shape) < 0.05)
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_family_wise_error_rate_holds_for_any_distribution(kind: str) -> None:
    """Of eight pairs and 25 parts under Holm: .01 of families for normal figures, .02 at most for others."""
    draw = np.random.default_rng(0)
    a, b = KINDS[kind](draw, (2, FAMILIES, PARTS, PROCESSES))
    called = students(a - b).min(axis=1) * PARTS <= ALPHA
    assert called.mean() <= (0.012 if kind == "normal" else 0.02)


def students(differences: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return `student_t_p_value` of every last axis, which one call of scipy's gives in less time."""
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
    adjusted = adjust_p_values_holm(dict(enumerate(p_values)))
    assert {index for index, p in adjusted.items() if p <= level} == rejected
