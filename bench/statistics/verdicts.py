"""Verdicts on the parts of a step, and on a ratio beside its prediction from FLOPs."""

from typing import Literal

Bottleneck = Literal["input-bound", "compute-bound"]
Loading = Literal["enough", "too few", "too close to tell"]
Prediction = Literal["consistent with FLOPs", "not consistent with FLOPs", "cannot be told"]
MAX_WAIT_SHARE = 0.05  # of a step's time, for batches that are loaded ahead
FLOPS_TOLERANCE = 0.08  # of a logarithm: what is left to elementwise work, memory and launches


def bound_by(data_share: float, *, prefetches: bool) -> Bottleneck:
    """Say what a step waits for most, by the share of its time that goes to its data.

    Where data takes longer than all the rest, a loader that works in the background would still be waited for. Where
    one does work ahead, what a step spends on its data is waiting, and little of it is allowed.
    """
    max_share = MAX_WAIT_SHARE if prefetches else 0.5
    if data_share > max_share:
        return "input-bound"
    return "compute-bound"


def judge_loader_cores(min_cores: float, max_cores: float, spare: int) -> Loading:
    """Judge whether `spare` cores suffice where `min_cores` to `max_cores` are needed, the ends of a 95 % interval."""
    if max_cores <= spare:
        return "enough"
    if min_cores > spare:
        return "too few"
    return "too close to tell"


def judge_flops_prediction(log_difference: float, margin: float | None) -> Prediction:
    """Judge ln(measured ratio / that of the FLOPs), with half of its interval: within 0.08, beyond it, or neither."""
    if margin is None:
        return "cannot be told"
    if abs(log_difference) + margin <= FLOPS_TOLERANCE:
        return "consistent with FLOPs"
    if abs(log_difference) - margin > FLOPS_TOLERANCE:
        return "not consistent with FLOPs"
    return "cannot be told"
