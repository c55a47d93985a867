"""An update that is not finite is skipped on the device; a running average is its formula; checkpointing is exact."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.data.stream import Batch
from bench.profilers.counters import TensorByteCounter
from bench.train.build import TrainRun, require_finite_losses
from bench.train.state import collect_state
from tests.small import FP16
from tests.tensors import OperationNames, differing
from tests.train.runs import assembled

CPU = torch.device("cpu")
RATE = 1e-3


def corrupt(batch: Batch[Any]) -> Batch[Any]:
    images = batch.images.clone()
    images[3, 0, 0, 0] = float("nan")
    return Batch(images, batch.target)


def copied_state(run: TrainRun) -> dict[str, Tensor]:
    """The weights, moments, step counts and averages of a run."""
    return {
        name: value.clone()
        for name, value in collect_state(run).items()
        if not name.startswith("scaler")
    }


@pytest.mark.parametrize(
    ("method", "changes"),
    [("clip", {}), ("catlip", {"clip_norm": None}), ("catlip", {"optimizer": "muon"})],
)
def test_non_finite_step_changes_nothing(
    method: str, changes: dict[str, object], results: Path
) -> None:
    """Weights, moments and step counts are, to the last bit, what they would be had the batch never come."""
    spared, struck = (assembled(results, method, **changes) for _ in range(2))
    good = [spared.stream.batch(k) for k in range(3)]
    losses = [spared.step(batch, RATE) for batch in good]
    met = [struck.step(batch, RATE) for batch in (good[0], corrupt(good[1]), *good[1:])]
    assert [bool(loss.isfinite()) for loss in met] == [True, False, True, True]
    assert torch.equal(torch.stack(losses), torch.stack([met[0], *met[2:]]))
    assert not differing(copied_state(struck), copied_state(spared))


def test_non_finite_gradient_with_finite_loss_is_skipped(results: Path) -> None:
    run = assembled(results)
    run.step(run.stream.batch(0), RATE)
    before = copied_state(run)
    loss = run.step.forward(run.stream.batch(1))
    run.step.backward(loss)
    next(run.model.parameters()).grad.view(-1)[0] = float("inf")
    assert run.step.update(loss, RATE).isnan()
    assert not differing(copied_state(run), before)


def test_fp16_has_the_gradients_of_fp32_once_they_are_unscaled(results: Path) -> None:
    """At a scale that does not overflow, of a loss whose gradient has a norm of 46."""
    gradients = {}
    for precision, initial in (("fp32", 1.0), ("fp16", 2.0**16)):
        run = assembled(results, "clip", **FP16 | {"precision": precision}, batch_size=4)
        assert run.step.scaler.get_scale() == initial
        run.step.scaler.load_state_dict(torch.amp.GradScaler("cpu", init_scale=2.0**8).state_dict())
        run.step.backward(run.step.forward(run.stream.batch(0)))
        scale = run.step.scaler.get_scale()
        flat = [value.grad.flatten() / scale for value in run.model.parameters()]
        gradients[precision] = torch.cat(flat)
    exact, rounded = gradients.values()
    assert 0 < (rounded - exact).norm() / exact.norm() < 2**-7


def test_overflow_in_fp16_lowers_the_scale_and_is_counted(results: Path) -> None:
    """Only at a scale of 1 is a gradient that is not finite the model's fault. The scales are those of GradScaler."""
    run = assembled(results, "clip", **FP16, batch_size=4)
    loss = run.step.forward(run.stream.batch(0)).detach()
    before, scales = copy.deepcopy(run.model.state_dict()), []
    for _ in range(17):
        for parameter in run.model.parameters():
            parameter.grad = torch.full_like(parameter, torch.inf)
        assert run.step.scaler.scale(loss) == loss * 2.0 ** (16 - len(scales))
        returned = run.step.update(loss, RATE)
        scales.append(run.step.scaler.get_scale())
        assert torch.equal(returned, loss) if len(scales) < 17 else returned.isnan()
    assert scales == [2.0 ** (15 - k) for k in range(17)]
    assert run.step.overflows == 16
    assert not differing(run.model.state_dict(), before)
    assert run.step(corrupt(run.stream.batch(0)), RATE).isnan()
    assert run.step.overflows == 16, "a loss that is not finite is no overflow"


def test_a_run_that_skipped_an_update_stops_and_names_the_samples(results: Path) -> None:
    run = assembled(results)
    keys = run.stream.keys(11)
    losses = [torch.tensor(1.0), torch.tensor(float("nan")), torch.tensor(2.0)]
    with pytest.raises(FloatingPointError) as text:
        require_finite_losses(losses, range(10, 13), run.stream)
    assert "step 11 is not finite" in str(text.value)
    assert str(text.value).endswith(", ".join(keys[:8]))
    require_finite_losses([losses[0], losses[2]], [10, 12], run.stream)


@pytest.mark.parametrize("kernel", ["foreach", "for_loop"])
def test_optimizer_kernels_take_the_same_steps_and_skip_the_same_updates(
    kernel: str, results: Path
) -> None:
    """Weights and averages are equal to rounding; a bad batch leaves no trace with any kernel."""
    fused, other = (
        assembled(results, ema_decay=0.9, optimizer_kernel=one) for one in ("fused", kernel)
    )
    for run in (fused, other):
        batches = [run.stream.batch(k) for k in range(4)]
        batches[2] = corrupt(batches[2])
        with OperationNames() as names:
            finite = [bool(run.step(batch, RATE).isfinite()) for batch in batches]
        assert finite == [True, True, False, True]
        assert ("_fused_adamw_" in names.seen) == (run is fused)
    assert other.step.optimizer.defaults["foreach"] == (kernel == "foreach")
    for one, same in zip(fused.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(one, same, rtol=1e-4, atol=1e-5)
    steps = {float(of_one["step"]) for of_one in other.step.optimizer.state.values()}
    assert steps == {3.0}


def test_logged_gradient_norm_is_that_of_the_unscaled_gradient(results: Path) -> None:
    """In fp16, whose gradients are scaled; the norm is that before clipping, and a gradient that overflows has none."""
    changes = FP16 | {"batch_size": 4, "clip_norm": 0.1, "log_recomputed_grad_norm": True}
    run = assembled(results, "clip", **changes)
    run.step.scaler.load_state_dict(torch.amp.GradScaler("cpu", init_scale=2.0**8).state_dict())
    loss = run.step.forward(run.stream.batch(0))
    run.step.backward(loss)
    scale = run.step.scaler.get_scale()
    squares = [
        float((parameter.grad.double() / scale).square().sum())
        for parameter in run.model.parameters()
    ]
    run.step.update(loss, RATE)
    assert run.step.grad_norms == [pytest.approx(math.sqrt(sum(squares)), rel=1e-5)]
    run.step(corrupt(run.stream.batch(1)), RATE)
    assert len(run.step.grad_norms) == 1


@pytest.mark.parametrize(("kernel", "method"), [("foreach", "superclass"), ("for_loop", "distill")])
def test_ema_equals_its_formula(kernel: str, method: str, results: Path) -> None:
    """Buffers are copied; a frozen teacher is shared."""
    run = assembled(results, method, ema_decay=0.9, ema_kernel=kernel)
    assert run.step.ema is not None
    averages = dict(run.step.ema.named_parameters())
    expected = {name: value.double() for name, value in run.model.named_parameters()}
    for k in range(3):
        with OperationNames() as names:
            run.step(run.stream.batch(k), RATE)
        assert ("_foreach_lerp_" in names.seen) == (kernel == "foreach")
        for name, value in run.model.named_parameters():
            expected[name] = 0.9 * expected[name] + 0.1 * value.double()
    for name, value in averages.items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-7)
    assert all(map(torch.equal, run.step.ema.buffers(), run.model.buffers()))
    assert not any(value.requires_grad for value in averages.values())
    frozen = [name for name, value in run.model.named_parameters() if not value.requires_grad]
    assert bool(frozen) == (method == "distill")
    assert all(averages[name] is run.model.get_parameter(name) for name in frozen)


@pytest.mark.parametrize(
    ("method", "tower"), [("clip", "catlip-bench-tiny"), ("catlip", "vit_tiny_patch16_224")]
)
def test_checkpointing_gives_the_same_gradients_in_less_memory(
    method: str, tower: str, results: Path
) -> None:
    changes = {"batch_size": 32, "tower": tower, "text_tower": "catlip-bench-tiny"}
    losses, gradients, peaks = [], [], []
    for on in (False, True):
        run = assembled(results, method, activation_checkpointing=on, **changes)
        batch = run.stream.batch(0)
        with TensorByteCounter(CPU, [*run.model.parameters()]) as counted:
            loss = run.step.forward(batch)
            run.step.backward(loss)
        losses.append(loss.detach())
        gradients.append([parameter.grad for parameter in run.model.parameters()])
        peaks.append(counted.peak_bytes)
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=0)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
    assert peaks[1] < 0.8 * peaks[0]


def test_a_tower_without_checkpointing_is_refused(results: Path) -> None:
    with pytest.raises(ValueError, match="has no activation checkpointing"):
        assembled(results, tower="RN50", image_size=64, activation_checkpointing=True)
