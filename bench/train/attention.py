"""The kernel of all attention in a step, for towers of any library."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.backends import cuda
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from bench.experiment.fields import Attention

KERNEL_NAMES = {  # by a part of the name of torch's operation
    "cudnn_attention": "cuDNN",
    "flash_attention": "flash",
    "efficient_attention": "memory-efficient",
    "fused_attention_overrideable": "of the device's library",
}
SEPARATE_PRODUCTS = "separate products"


def use_attention_kernel(
    kernel: Attention, *, has_fixed_shapes: bool = True
) -> AbstractContextManager[None]:
    """Return a context in which all attention is computed by a kernel.

    Where batches have several shapes, the fused kernel is not cuDNN's, which on GPUs of compute capability 9.0 and 10.0
    comes first and plans for tens of milliseconds for every new shape. Source: torch 2.13,
    `aten/src/ATen/native/transformers/cuda/sdp_utils.cpp` (`check_prefer_cudnn_attention`) and
    `aten/src/ATen/native/cudnn/MHA.cpp` (`MHAParams`).
    """
    if kernel == "plain":
        return _use_unfused_attention()
    if kernel == "fp32_softmax":
        return _use_fp32_softmax_attention()
    if has_fixed_shapes:
        return nullcontext()
    return sdpa_kernel(
        [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    )


def run_and_list_attention_kernels(forward: Callable[[], object]) -> tuple[str, ...]:
    """Run a forward once, eagerly, and return the names of its attention kernels, sorted.

    Compiled blocks use the same kernels: torch chooses by shapes, precision and device. Attention without a fused
    kernel is `SEPARATE_PRODUCTS`.
    """
    is_compiled = "torch._dynamo" in sys.modules
    with (
        torch.compiler.set_stance("force_eager") if is_compiled else nullcontext(),
        _FusedKernelRecorder() as names,
    ):
        forward()
    return tuple(sorted(names.kernels)) or (SEPARATE_PRODUCTS,)


class _FusedKernelRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects in `kernels` the names of the fused attention kernels that run while it is entered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels: set[str] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        operation = func.overloadpacket.__name__
        for part, name in KERNEL_NAMES.items():
            if part in operation:
                self.kernels.add(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def _use_unfused_attention() -> Iterator[None]:
    """Use separate products in the precision of their inputs; torch would widen bf16 to fp32 by default."""
    widened = not cuda.fp16_bf16_reduction_math_sdp_allowed()  # type: ignore[no-untyped-call]
    cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        cuda.allow_fp16_bf16_reduction_math_sdp(not widened)


@contextmanager
def _use_fp32_softmax_attention() -> Iterator[None]:
    """Replace torch's function, which the towers of all libraries call by its module: it has no such kernel."""
    torch_attention = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = attention_with_fp32_softmax  # type: ignore[assignment]
    try:
        yield
    finally:
        F.scaled_dot_product_attention = torch_attention


def attention_with_fp32_softmax(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Return torch's `scaled_dot_product_attention` by two products, with a softmax in fp32 (or better) between them.

    The products have the precision of their inputs. Source: apple/corenet at 1aa3acd,
    `corenet/modeling/layers/multi_head_attention.py`, `forward_default`.
    """
    if scale is None:
        scale = query.shape[-1] ** -0.5
    logits = (query * scale) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:  # a row without keys stays finite
        logits = logits.masked_fill(~attn_mask, torch.finfo(logits.dtype).min)
    elif attn_mask is not None:
        logits = logits + attn_mask
    wide = torch.promote_types(logits.dtype, torch.float32)
    weights = logits.to(wide).softmax(-1).to(logits.dtype)
    return F.dropout(weights, dropout_p) @ value
