"""Floating-point operations of matrix products, counted as torch runs them."""

from collections.abc import Callable, Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode


def count_matmul_flops(work: Callable[[], object]) -> int:
    """Return the FLOPs of the matrix products that something does, two for each multiply-add."""
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: _addmm_flops}) as counter:
        work()
    return int(counter.get_total_flops())


def _addmm_flops(_: Sequence[int], a: Sequence[int], b: Sequence[int], **__: object) -> int:
    """Count a product that is added in place, of two shapes: torch's counter does not know it."""
    return 2 * a[0] * a[1] * b[1]
