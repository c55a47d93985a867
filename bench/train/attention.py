"""The attention kernel: torch's fused one, or separate product, softmax and product."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch.backends import cuda
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.config import Attention


def use_attention_kernel(kernel: Attention) -> AbstractContextManager[None]:
    """Select the kernel of all attention in the block, for towers of any library."""
    return _unfused_attention() if kernel == "plain" else nullcontext()


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """Use separate products in the precision of their inputs; torch would widen bf16 to fp32 by default."""
    widened = not cuda.fp16_bf16_reduction_math_sdp_allowed()  # type: ignore[no-untyped-call]
    cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        cuda.allow_fp16_bf16_reduction_math_sdp(not widened)
