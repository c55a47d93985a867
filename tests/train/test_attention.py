"""Plain attention gives what the fused kernel gives, in every tower, and the fused one is not called."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.backends import cuda
from torch.utils._python_dispatch import TorchDispatchMode

from bench.train.attention import (
    attention_with_fp32_softmax,
    run_and_list_attention_kernels,
    use_attention_kernel,
)
from bench.train.build import build_train_run, open_batch_stream
from tests.small import few_images
from tests.tensors import OperationNames

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("tower", "checkpointed", "kernel", "padding"),
    [
        ("catlip-bench-tiny", False, "plain", "length_groups"),
        # Rows of several captions have a mask, and unused rows have no key.
        ("catlip-bench-tiny", True, "fp32_softmax", "packed_rows"),
        ("test_vit", True, "plain", "length_groups"),
    ],
)
def test_unfused_attention_equals_fused_attention(
    tower: str, checkpointed: bool, kernel: str, padding: str, results: Path
) -> None:
    """Losses and the gradient of every parameter of image and text tower; forward, backward and what is recomputed."""
    found = {}
    for attention in ("fused", kernel):
        changes = {"attention": attention, "tower": tower, "text_padding": padding}
        changes["activation_checkpointing"] = checkpointed
        run = build_train_run(open_batch_stream(few_images("clip", **changes), CPU, results))
        with OperationNames() as names:
            loss = run.step.forward(run.stream.batch(0))
            run.step.backward(loss)
        fused = [
            name
            for name in names.seen
            if "flash_attention" in name or "efficient_attention" in name
        ]
        assert bool(fused) == (attention == "fused")
        found[attention] = [
            loss.detach(),
            *(weight.grad for weight in run.model.parameters() if weight.grad is not None),
        ]
    for fused, unfused in zip(*found.values(), strict=True):
        torch.testing.assert_close(unfused, fused, rtol=1e-3, atol=1e-5)


BOOLEAN_MASK = torch.tensor([[True, False, False], [True, True, False]])
MASKS: dict[str, dict[str, Any]] = {
    "none": {},
    "causal": {"is_causal": True},
    "boolean": {"attn_mask": BOOLEAN_MASK},
    "added": {
        "attn_mask": torch.zeros(2, 3, dtype=torch.float64).masked_fill(~BOOLEAN_MASK, -torch.inf)
    },
    "scaled": {"scale": 0.3},
}


@pytest.mark.parametrize("mask", MASKS)
def test_attention_with_fp32_softmax_equals_torchs_function(mask: str) -> None:
    """In float64, in which its softmax is, too."""
    inputs = [
        torch.randn(2, 4, tokens, 8, dtype=torch.float64, requires_grad=True)
        for tokens in (2, 3, 3)
    ]
    found = []
    for attention in (F.scaled_dot_product_attention, attention_with_fp32_softmax):
        result = attention(*inputs, **MASKS[mask])
        found.append([result.detach(), *torch.autograd.grad(result.square().sum(), inputs)])
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


class Dtypes(TorchDispatchMode):
    """The dtypes of the inputs of products and softmaxes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[torch.dtype]] = {}

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.bmm, torch.ops.aten._softmax):
            self.seen.setdefault(func.overloadpacket.__name__, set()).add(args[0].dtype)
        return func(*args, **(kwargs or {}))


def test_softmax_alone_is_in_fp32_under_autocast() -> None:
    inputs = [torch.randn(2, 4, 5, 8, dtype=torch.bfloat16) for _ in range(3)]
    with (
        Dtypes() as dtypes,
        torch.autocast("cpu", torch.bfloat16),
        use_attention_kernel("fp32_softmax"),
    ):
        result = F.scaled_dot_product_attention(*inputs)
    assert dtypes.seen == {"bmm": {torch.bfloat16}, "_softmax": {torch.float32}}
    assert result.dtype == torch.bfloat16


def test_attention_kernel_choice_ends_with_its_block() -> None:
    def chosen() -> tuple[bool, ...]:
        return (
            cuda.flash_sdp_enabled(),
            cuda.mem_efficient_sdp_enabled(),
            cuda.math_sdp_enabled(),
            cuda.fp16_bf16_reduction_math_sdp_allowed(),
            cuda.cudnn_sdp_enabled(),
        )

    before, plain_function = chosen(), F.scaled_dot_product_attention
    for kernel in ("plain", "fp32_softmax"):
        with suppress(ZeroDivisionError), use_attention_kernel(kernel):
            if kernel == "plain":
                assert chosen() == (False, False, True, True, False)
            else:
                assert F.scaled_dot_product_attention is attention_with_fp32_softmax
            raise ZeroDivisionError
        assert chosen() == before
        assert F.scaled_dot_product_attention is plain_function
    with use_attention_kernel("fused", has_fixed_shapes=False):
        assert chosen() == (*before[:4], False)
    assert chosen() == before


@pytest.mark.parametrize(
    ("padding", "with_cudnn"), [("length_groups", False), ("packed_rows", True)]
)
def test_shapes_that_change_keep_cudnn_out(padding: str, with_cudnn: bool, results: Path) -> None:
    """It would plan for every new shape; the blocks that are computed again in the backward included."""
    run = build_train_run(
        open_batch_stream(
            few_images("clip", text_padding=padding, activation_checkpointing=True), CPU, results
        )
    )
    with OperationNames() as names:
        run.step.backward(run.step.forward(run.stream.batch(0)))
    assert names.with_cudnn == {with_cudnn}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("attention", "compiled", "kernel"),
    [("fused", "on", "flash"), ("plain", "off", "separate products")],
)
def test_kernels_of_attention_are_named(
    attention: str, compiled: str, kernel: str, results: Path
) -> None:
    changes = {"attention": attention, "compile": compiled, "text_padding": "packed_rows"}
    run = build_train_run(open_batch_stream(few_images("clip", **changes), CPU, results))
    assert run_and_list_attention_kernels(lambda: run.step.forward(run.stream.batch(0))) == (
        kernel,
    )
