"""Each loss equals its formula written as a loop, and open_clip's, in value and gradient, in float64."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor

import losses.chunks
from bench.profilers.counters import TensorByteCounter
from losses.contrastive import contrastive_loss
from losses.distillation import cosine_loss
from losses.multilabel import multilabel_loss
from losses.sigmoid import sigmoid_loss
from losses.token_softmax import inverse_document_frequency, token_softmax_loss

SCALE, BIAS = torch.tensor(7.0, dtype=torch.float64), torch.tensor(-3.0, dtype=torch.float64)


def unit_rows(rows: int, columns: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, columns, dtype=torch.float64, generator=generator), dim=-1)


def logits_of(rows: int, columns: int, seed: int) -> Tensor:
    return 4 * torch.randn(
        rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def pairs(labels: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    flat = [(row, label) for row, caption in enumerate(labels) for label in caption]
    return torch.tensor([row for row, _ in flat], dtype=torch.int64), torch.tensor(
        [label for _, label in flat], dtype=torch.int64
    )


def agree(ours: Callable[..., Tensor], reference: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Values and gradients with respect to every input are equal to 1e-9."""
    results = []
    for loss in (ours, reference):
        leaves = [value.clone().requires_grad_() for value in inputs]
        value = loss(*leaves)
        results.append((value.detach(), *torch.autograd.grad(value, leaves)))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def contrastive_by_hand(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    similarity = scale * image @ text.T
    total = torch.zeros((), dtype=image.dtype)
    for i in range(len(image)):
        total = total - (similarity[i, i] - similarity[i].exp().sum().log())
        total = total - (similarity[i, i] - similarity[:, i].exp().sum().log())
    return total / (2 * len(image))


def sigmoid_by_hand(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    total = torch.zeros((), dtype=image.dtype)
    for i in range(len(image)):
        for j in range(len(text)):
            sign = 1 if i == j else -1
            total = total + (1 + (-sign * (scale * image[i] @ text[j] + bias)).exp()).log()
    return total / len(image)


@pytest.fixture(params=[3, 4096], ids=["in pieces", "whole"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits are looked at in squares of 3 x 3 and rows of 1, or all at once."""
    monkeypatch.setattr(losses.chunks, "TILE_SIDE", request.param)
    monkeypatch.setattr(losses.chunks, "LOGITS_AT_ONCE", request.param)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("batch", [2, 3, 8])
def test_pair_losses_equal_their_formulas_and_open_clip(batch: int) -> None:
    inputs = unit_rows(batch, 3, 0), unit_rows(batch, 3, 1), SCALE
    for reference in (contrastive_by_hand, ClipLoss()):
        agree(contrastive_loss, reference, *inputs)
    for reference in (sigmoid_by_hand, SigLipLoss()):
        agree(sigmoid_loss, reference, *inputs, BIAS)


@pytest.mark.parametrize(("dtype", "precision"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_contrastive_loss_in_autocast_has_the_precision_of_its_products(
    dtype: torch.dtype, precision: float
) -> None:
    """Its gradients are scaled as a gradient scaler does, without which fp16 has no small shares."""
    found: list[list[Tensor]] = []
    for in_autocast in (False, True):
        image, text = (unit_rows(300, 8, seed).float().requires_grad_() for seed in (0, 1))
        scale = torch.tensor(20.0, requires_grad=True)
        with torch.autocast("cpu", dtype):
            loss = contrastive_loss(image, text, scale, in_autocast=in_autocast)
        found.append([loss, *torch.autograd.grad(2**16 * loss, (image, text, scale))])
    for exact, rounded in zip(*found, strict=True):
        assert 0 < (rounded - exact).norm() / exact.norm() < 2 * precision
    outside = contrastive_loss(image, text, scale, in_autocast=True)  # without autocast
    assert torch.equal(outside, contrastive_loss(image, text, scale))


@pytest.mark.parametrize("loss", [contrastive_loss, sigmoid_loss])
def test_opposite_pair_at_the_largest_scale_has_a_finite_loss(loss: Callable[..., Tensor]) -> None:
    """Logits from -100 to 100, whose exponentials a float32 cannot hold."""
    image = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    leaves = [image, -image.detach(), torch.tensor(100.0)]
    leaves += [torch.tensor(0.0)] if loss is sigmoid_loss else []
    value = loss(*leaves)
    assert value.item() == pytest.approx(200)
    assert torch.autograd.grad(value, image)[0].isfinite().all()


@pytest.mark.parametrize(
    ("loss", "scalars"), [(contrastive_loss, (7.0,)), (sigmoid_loss, (7.0, -3.0))]
)
def test_full_similarity_matrix_is_never_allocated(
    loss: Callable[..., Tensor], scalars: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses.chunks, "TILE_SIDE", 64)
    batch, dim = 512, 8
    leaves = [unit_rows(batch, dim, 0), unit_rows(batch, dim, 1), *map(torch.tensor, scalars)]
    for leaf in leaves:
        leaf.requires_grad_()
    with TensorByteCounter(torch.device("cpu"), []) as counted:
        torch.autograd.grad(loss(*leaves), leaves)
    doubles = counted.peak_bytes / 8
    assert doubles < 6 * batch * dim + 4 * 64 * 64 + 4 * batch < batch * batch / 4


LABELS = st.lists(st.lists(st.integers(0, 8), unique=True, max_size=5), min_size=1, max_size=6)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(LABELS, st.sampled_from([9, 18, 4096]))
def test_multilabel_loss_equals_bce_with_the_multi_hot_target(
    labels: list[list[int]], at_once: int
) -> None:
    """Also where a caption has no label: its row still enters the sum."""
    rows, columns = pairs(labels)
    target = torch.zeros(len(labels), 9, dtype=torch.float64)
    target[rows, columns] = 1

    def dense(logits: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(logits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses.chunks, "LOGITS_AT_ONCE", at_once)
        agree(
            lambda logits: multilabel_loss(logits, rows, columns),
            dense,
            logits_of(len(labels), 9, 2),
        )


def superclass_by_hand(labels: list[list[int]], weights: Tensor) -> Callable[[Tensor], Tensor]:
    def loss(logits: Tensor) -> Tensor:
        total = torch.zeros((), dtype=logits.dtype)
        for row, caption in enumerate(labels):
            weight_of_caption = sum(weights[token] for token in caption)
            for token in caption:
                if weight_of_caption > 0:
                    log_share = logits[row, token] - logits[row].exp().sum().log()
                    total = total - weights[token] / weight_of_caption * log_share
        return total / len(logits)

    return loss


@settings(max_examples=40, derandomize=True, deadline=None)
@given(LABELS.filter(any), st.integers(0, 3), st.sampled_from([9, 18, 4096]))
def test_token_softmax_loss_equals_the_formula(
    labels: list[list[int]], weightless: int, at_once: int
) -> None:
    """Also where all of a caption's tokens weigh nothing: it adds nothing and no NaN."""
    rows, columns = pairs(labels)
    weights = torch.arange(9, dtype=torch.float64).sub(weightless).clamp_min(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses.chunks, "LOGITS_AT_ONCE", at_once)
        agree(
            lambda logits: token_softmax_loss(logits, rows, columns, weights),
            lambda logits: superclass_by_hand(labels, weights)(logits) + 0 * logits.sum(),
            logits_of(len(labels), 9, 3),
        )


def test_token_in_every_caption_has_zero_weight() -> None:
    weights = inverse_document_frequency(torch.tensor([10.0, 1.0, 0.0]), torch.tensor(10.0))
    torch.testing.assert_close(weights, torch.tensor([0.0, math.log(11 / 2), math.log(11)]))


def test_distillation_loss_is_one_minus_cosine_in_fp32_or_better() -> None:
    inputs = unit_rows(7, 5, 0), unit_rows(7, 5, 1)

    def by_hand(student: Tensor, teacher: Tensor) -> Tensor:
        pairs = zip(student, teacher, strict=True)
        return 1 - sum(a @ b / (a.norm() * b.norm()) for a, b in pairs) / 7

    agree(
        lambda student: cosine_loss(student, inputs[1]), lambda s: by_hand(s, inputs[1]), inputs[0]
    )
    student, teacher = (value.bfloat16().requires_grad_() for value in inputs)
    loss = cosine_loss(student, teacher)
    torch.testing.assert_close(loss, by_hand(student.float(), teacher.float()))
    loss.backward()
    assert teacher.grad is None
