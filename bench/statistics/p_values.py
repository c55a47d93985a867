"""P values of the difference of two groups, and their adjustment for multiple comparisons."""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, combinations
from statistics import fmean

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr

Floats = npt.NDArray[np.float64]
MAX_PERMUTATIONS = 200_000  # enumerated exactly; ten runs per side have 184,756
ROUNDING = 1e-9  # tolerance on logarithms, so that equal differences compare as equal


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for multiple comparisons, in the order given.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        adjusted[index] = largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
    return adjusted


def permutation_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the share of all splits into groups of these sizes whose means differ at least as much.

    It is exact up to ten per side; beyond, it counts as many random splits (seeded) and the observed one.
    """
    values, size = np.array([*a, *b]), len(a)
    sums = _splits_into_two_groups(len(values), size, MAX_PERMUTATIONS) @ values
    distances = np.abs(sums / size - (values.sum() - sums) / len(b))
    observed, is_exact = abs(fmean(b) - fmean(a)), math.comb(len(values), size) <= MAX_PERMUTATIONS
    return _fraction_as_extreme(distances, observed, values, exact=is_exact)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Return the share of all sign flips of the differences whose mean is at least as far from 0.

    It is exact up to 17 differences; beyond, it counts as many random flips (seeded) and the observed one.
    """
    values = np.array(differences)
    distances = np.abs(_sums_of_sign_flips(values, MAX_PERMUTATIONS)) / len(values)
    is_exact = 2 ** len(values) <= MAX_PERMUTATIONS
    return _fraction_as_extreme(distances, abs(fmean(differences)), values, exact=is_exact)


def student_t_p(mean: float, error: float, degrees_of_freedom: int) -> float:
    """Return the two-sided p of Student's t of a mean with its standard error; 1 where the mean is 0.

    It assumes normal differences. For heavy tails it is mostly conservative; for bounded or two-level figures the
    false-positive rate is at most twice the nominal one (`tests/test_p_values.py` counts it, for 25 parts).
    """
    if not mean:
        return 1.0
    return 2 * float(stdtr(degrees_of_freedom, -abs(mean) / error)) if error else 0.0


def _fraction_as_extreme(distances: Floats, observed: float, values: Floats, *, exact: bool) -> float:
    as_far = int((distances >= observed - ROUNDING * np.abs(values).max()).sum())
    return as_far / len(distances) if exact else (1 + as_far) / (1 + len(distances))


@lru_cache(maxsize=4)
def _splits_into_two_groups(num_values: int, size: int, max_rows: int) -> Floats:
    """Return one row per split, with 1 for members of the first group."""
    splits = math.comb(num_values, size)
    if splits <= max_rows:
        indices = chain.from_iterable(combinations(range(num_values), size))
        members = np.fromiter(indices, np.intp, splits * size).reshape(splits, size)
    else:  # deterministic
        members = np.random.default_rng(0).random((max_rows, num_values)).argsort(axis=1)[:, :size]
    rows = np.zeros((len(members), num_values))
    np.put_along_axis(rows, members, 1.0, axis=1)
    return rows


def _sums_of_sign_flips(values: Floats, max_rows: int) -> Floats:
    """Return the sum of the values for each flip of their signs; eight signs are one byte, whose sums are a table."""
    eights, bits = np.pad(values, (0, -len(values) % 8)).reshape(-1, 8), np.arange(8)
    if 2 ** len(values) <= max_rows:
        flips = np.arange(2 ** len(values))[:, None] >> 8 * np.arange(len(eights)) & 255
    else:
        flips = np.random.default_rng(0).integers(0, 256, (max_rows, len(eights)))  # deterministic
    tables = eights @ (1.0 - 2.0 * (np.arange(256) >> bits[:, None] & 1))
    sums: Floats = sum(table[flip] for table, flip in zip(tables, flips.T, strict=True))
    return sums
