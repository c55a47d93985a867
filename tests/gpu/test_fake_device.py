"""The whole step of each method on fake tensors, which have devices and shapes, and no values.

With the wheel of PyTorch for CUDA they are on `cuda`, also without a GPU (`nox -s fake-cuda`): an operation that
mixes devices, reads a value of the device or has no kernel for it raises. With the wheel for CPUs they are on `cpu`.
PyTorch's autograd asks the driver of a GPU for a stream: without a driver gradients are zeros, and forward, loss,
clipping, optimizer and average run.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

from bench.data.stream import Batch
from bench.interfaces.method import METHODS
from bench.train.build import build_train_run, open_batch_stream
from bench.train.state import collect_state
from tests.small import few_images

CPU = torch.device("cpu")
DEVICE = torch.device("cuda", 0) if torch.version.cuda else CPU
# Attention in separate products: torch asks the properties of a GPU to choose a fused kernel.
SETTINGS = {
    "precision": "bf16",
    "text_padding": "packed_rows",
    "compile": "off",
    "attention": "plain",
    "batch_size": 8,
}


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let autocast work for fake tensors on a machine without a GPU, and modules stay where they are made."""
    # It cannot move fake parameters.
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, *_: module)
    monkeypatch.setattr(
        "torch.amp.autocast_mode.torch.cuda.is_bf16_supported", lambda *_, **__: True
    )
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)  # no fake kernel has it
    if not torch.cuda.is_available():
        monkeypatch.setattr("torch.cuda.get_rng_state", lambda _: torch.get_rng_state())


def set_zero_gradients(model: torch.nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)


@pytest.mark.usefixtures("fake_cuda")
@pytest.mark.parametrize("method", METHODS)
def test_step_stays_on_its_device(method: str, results: Path) -> None:
    stream = open_batch_stream(few_images(method, **SETTINGS), CPU, results)
    batch = stream.batch(0)
    with FakeTensorMode(allow_non_fake_inputs=True):
        stream.device = DEVICE
        with DEVICE:
            run = build_train_run(stream)
        step = run.step
        if DEVICE.type == "cuda" and not torch.cuda.is_available():
            step = replace(step, backward=lambda _: set_zero_gradients(run.model))
        for _ in range(2):  # the optimizer has no state before the first
            loss = step(Batch(batch.images.to(DEVICE), batch.target.to(DEVICE)), 1e-3)
        state = [
            value
            for name, value in collect_state(run).items()
            if name.startswith(("model.", "average."))
        ]
    assert isinstance(loss, FakeTensor)
    assert {tensor.device for tensor in tree_leaves([loss, state])} == {DEVICE}
