"""The kernel of attention: torch's fused one, or product, softmax and product one after the other."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch.backends import cuda
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.config import Attention


def attention(kernel: Attention) -> AbstractContextManager[None]:
    """Choose the kernel of all attention within the block, of whichever library the tower is; of a device's own."""
    return _plain() if kernel == "plain" else nullcontext()


@contextmanager
def _plain() -> Iterator[None]:
    """Compute the products in the precision of their inputs, where torch would widen bf16 to fp32."""
    widened = not cuda.fp16_bf16_reduction_math_sdp_allowed()  # type: ignore[no-untyped-call]
    cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        cuda.allow_fp16_bf16_reduction_math_sdp(not widened)
