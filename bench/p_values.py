"""How likely chance alone brings two groups of figures so far apart, and what is left of that among many pairs."""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, combinations
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr

MOST_DEALS = 200_000  # counted one by one; ten runs a side have 184,756
ROUNDING = 1e-9  # of a logarithm: 2 % is 2 % however it was computed


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for their number, in the order given.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6.
    """
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def permutation_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Share of all ways to deal the values into two hands of these sizes whose means lie at least as far apart.

    Exact up to ten a side; beyond, of as many deals drawn at random (seeded), the one seen counted among them.
    """
    values, size = np.array([*a, *b]), len(a)
    dealt = _hands(len(values), size, MOST_DEALS) @ values
    apart = np.abs(dealt / size - (values.sum() - dealt) / len(b))
    return _share(apart, abs(fmean(b) - fmean(a)), values, exact=math.comb(len(values), size) <= MOST_DEALS)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Share of all ways to flip the signs of the differences whose mean lies at least as far from 0.

    Exact up to 17 differences; beyond, of as many flips drawn at random (seeded), the one seen counted among them.
    """
    values = np.array(differences)
    apart = np.abs(_flips(len(values), MOST_DEALS) @ values) / len(values)
    return _share(apart, abs(fmean(differences)), values, exact=2 ** len(values) <= MOST_DEALS)


def student_p(differences: Sequence[float]) -> float:
    """Return the two-sided p of Student's t on the mean of the differences; 1 where all are 0.

    It takes differences for normal. Where figures are not, it mostly says too little, for heavy tails widen the spread;
    where they have bounds or two levels, at worst twice too much (`tests/test_p_values.py` counts it, for 25 parts).
    """
    mean, spread = fmean(differences), stdev(differences)
    if not mean:
        return 1.0
    return 2 * float(stdtr(len(differences) - 1, -abs(mean) / spread * math.sqrt(len(differences)))) if spread else 0.0


def _share(apart: npt.NDArray[np.float64], seen: float, values: npt.NDArray[np.float64], *, exact: bool) -> float:
    as_far = int((apart >= seen - ROUNDING * np.abs(values).max()).sum())
    return as_far / len(apart) if exact else (1 + as_far) / (1 + len(apart))


@lru_cache(maxsize=4)
def _hands(values: int, size: int, most: int) -> npt.NDArray[np.float64]:
    """Return one row a deal, 1 for what is in the first hand."""
    deals = math.comb(values, size)
    if deals <= most:
        members = chain.from_iterable(combinations(range(values), size))
        places = np.fromiter(members, np.intp, deals * size).reshape(deals, size)
    else:
        draw = np.random.default_rng(0)  # the same answer each time
        places = draw.random((most, values)).argsort(axis=1)[:, :size]
    hands = np.zeros((len(places), values))
    np.put_along_axis(hands, places, 1.0, axis=1)
    return hands


@lru_cache(maxsize=4)
def _flips(values: int, most: int) -> npt.NDArray[np.float64]:
    """Return one row a flip, of 1 and -1."""
    if 2**values <= most:
        bits = np.arange(2**values)[:, None] >> np.arange(values) & 1
    else:
        bits = np.random.default_rng(0).integers(0, 2, (most, values))  # the same answer each time
    return 1.0 - 2.0 * bits.astype(np.float64)
