"""Verdicts on the parts of a step, and on a ratio beside its prediction from FLOPs."""

from typing import Literal

Bottleneck = Literal["input-bound", "compute-bound"]
FlopsVerdict = Literal["consistent with FLOPs", "not consistent with FLOPs", "cannot be told"]
MAX_WAIT_SHARE = 0.05  # of a step's time, for batches that are loaded ahead
FLOPS_TOLERANCE = 0.08  # of a logarithm: what is left to elementwise work, memory and launches


def judge_bottleneck(data_share: float, *, has_prefetching: bool) -> Bottleneck:
    """Say what limits a step, by the share (0 to 1) of its time that goes to its data.

    Where data takes longer than all the rest, a loader that works in the background would still be waited for. Where
    one does work ahead, what a step spends on its data is waiting, and little of it is allowed.
    """
    max_share = MAX_WAIT_SHARE if has_prefetching else 0.5
    if data_share > max_share:
        return "input-bound"
    return "compute-bound"


def judge_flops_prediction(log_difference: float, half_width: float | None) -> FlopsVerdict:
    """Judge whether a measured ratio agrees with the ratio of FLOPs, by the logarithm of their quotient.

    It agrees where the interval of `log_difference`, which is +- `half_width`, is within 0.08. None: there is no
    interval.
    """
    if half_width is None:
        return "cannot be told"
    if abs(log_difference) + half_width <= FLOPS_TOLERANCE:
        return "consistent with FLOPs"
    if abs(log_difference) - half_width > FLOPS_TOLERANCE:
        return "not consistent with FLOPs"
    return "cannot be told"
