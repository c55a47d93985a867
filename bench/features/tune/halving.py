"""Successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943): many short trainings, fewer longer ones."""

from collections.abc import Callable, Sequence

import numpy as np

RUNG_SHARES = (1 / 9, 1 / 3, 1.0)  # of the images of the longest trials
REDUCTION = 3  # trials at a rung over those at the next
MIN_TRIALS = 9  # one is left for the last rung


def find_best_trial(
    num_trials: int, score_trials: Callable[[int, Sequence[int]], Sequence[float]]
) -> int:
    """Return the number of the best trial.

    `score_trials` returns the accuracies at a rung of the trials with these numbers, NaN for one that failed. The best
    third goes on to the next rung.
    """
    numbers = np.arange(num_trials)
    for rung in range(len(RUNG_SHARES)):
        accuracies = np.array(score_trials(rung, numbers.tolist()))
        ranked = np.argsort(-accuracies, kind="stable")  # NaN comes last
        num_kept = max(1, num_trials // REDUCTION ** (rung + 1))
        numbers = numbers[ranked[:num_kept]]
    return int(numbers[0])
