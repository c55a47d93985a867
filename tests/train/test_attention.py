"""Plain attention gives what the fused kernel gives, in every tower, and the fused one is not called."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.backends import cuda
from torch.utils._python_dispatch import TorchDispatchMode

from bench.train.attention import use_attention_kernel
from bench.train.build import build_train_state, load_data
from tests.small import small

CPU = torch.device("cpu")


class Names(TorchDispatchMode):
    """The names of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.with_cudnn: set[bool] = set()  # whether attention might use cuDNN's kernel on a GPU

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(func.__name__)
        if "attention" in func.__name__:
            self.with_cudnn.add(cuda.cudnn_sdp_enabled())
        return func(*args, **(kwargs or {}))

    @property
    def fused(self) -> set[str]:
        return {name for name in self.seen if "flash_attention" in name or "efficient_attention" in name}


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("tower", ["catlip-bench-tiny", "vit_tiny_patch16_224"])
def test_unfused_attention_equals_fused_attention(tower: str, checkpointed: bool, results: Path) -> None:
    """Losses and the gradient of every parameter of image and text tower; forward, backward and what is recomputed."""
    found = {}
    for kernel in ("fused", "plain"):
        changes = {"attention": kernel, "tower": tower, "activation_checkpointing": checkpointed}
        run = build_train_state(load_data(small("clip", **changes), CPU, results))
        with Names() as names:
            loss = run.step.forward(run.stream.batch(0))
            run.step.backward(loss)
        assert bool(names.fused) == (kernel == "fused")
        found[kernel] = [loss.detach(), *(one.grad for one in run.model.parameters() if one.grad is not None)]
    for fused, plain in zip(*found.values(), strict=True):
        torch.testing.assert_close(plain, fused, rtol=1e-3, atol=1e-5)


def test_attention_kernel_choice_ends_with_its_block() -> None:
    def chosen() -> tuple[bool, ...]:
        return (
            cuda.flash_sdp_enabled(),
            cuda.mem_efficient_sdp_enabled(),
            cuda.math_sdp_enabled(),
            cuda.fp16_bf16_reduction_math_sdp_allowed(),
            cuda.cudnn_sdp_enabled(),
        )

    before = chosen()
    with use_attention_kernel("plain"):
        assert chosen() == (False, False, True, True, False)
    assert chosen() == before
    with use_attention_kernel("fused", has_fixed_shapes=False):
        assert chosen() == (*before[:4], False)
    assert chosen() == before
    with pytest.raises(ZeroDivisionError), use_attention_kernel("plain"):
        _ = 1 / 0
    assert chosen() == before


@pytest.mark.parametrize(("padding", "with_cudnn"), [("bucketed", False), ("longest", False), ("packed", True)])
def test_shapes_that_change_keep_cudnn_out(padding: str, with_cudnn: bool, results: Path) -> None:
    """It would plan for every new shape; the blocks that are computed again in the backward included."""
    run = build_train_state(load_data(small("clip", text_padding=padding, activation_checkpointing=True), CPU, results))
    with Names() as names:
        run.step.backward(run.step.forward(run.stream.batch(0)))
    assert names.with_cudnn == {with_cudnn}
