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

from losses.contrastive import contrastive_loss
from losses.multilabel import multilabel_loss
from losses.sigmoid import sigmoid_loss
from losses.token_softmax import inverse_document_frequency, token_softmax_loss

SCALE, BIAS = torch.tensor(7.0, dtype=torch.float64), torch.tensor(-3.0, dtype=torch.float64)


def unit_rows(rows: int, columns: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, columns, dtype=torch.float64, generator=generator), dim=-1)


def logits_of(rows: int, columns: int, seed: int) -> Tensor:
    return 4 * torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


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


@pytest.mark.parametrize("batch", [2, 5])
def test_contrastive_is_the_formula_and_open_clips(batch: int) -> None:
    inputs = unit_rows(batch, 3, 0), unit_rows(batch, 3, 1), SCALE
    agree(contrastive_loss, contrastive_by_hand, *inputs)
    agree(contrastive_loss, ClipLoss(), *inputs)


@pytest.mark.parametrize("batch", [2, 5])
def test_sigmoid_is_the_formula_and_open_clips(batch: int) -> None:
    inputs = unit_rows(batch, 3, 0), unit_rows(batch, 3, 1), SCALE, BIAS
    agree(sigmoid_loss, sigmoid_by_hand, *inputs)
    agree(sigmoid_loss, SigLipLoss(), *inputs)


def test_an_all_zero_scale_is_a_uniform_guess() -> None:
    loss = contrastive_loss(unit_rows(6, 4, 0), unit_rows(6, 4, 1), torch.tensor(0.0, dtype=torch.float64))
    assert loss.item() == pytest.approx(math.log(6))


LABELS = st.lists(st.lists(st.integers(0, 8), unique=True, max_size=5), min_size=1, max_size=6)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(LABELS)
def test_multilabel_is_binary_cross_entropy_of_the_multi_hot_target(labels: list[list[int]]) -> None:
    """Also where a caption has no label: its row still enters the sum."""
    rows, columns = pairs(labels)
    target = torch.zeros(len(labels), 9, dtype=torch.float64)
    target[rows, columns] = 1

    def dense(logits: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(logits)

    agree(lambda logits: multilabel_loss(logits, rows, columns), dense, logits_of(len(labels), 9, 2))


def test_multilabel_stays_finite_at_extreme_logits() -> None:
    logits = torch.tensor([[800.0, -800.0]], requires_grad=True)
    loss = multilabel_loss(logits, torch.tensor([0]), torch.tensor([1]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 1600
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


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
@given(LABELS.filter(any), st.integers(0, 3))
def test_token_softmax_is_the_formula(labels: list[list[int]], weightless: int) -> None:
    """Also where all of a caption's tokens weigh nothing: it adds nothing and no NaN."""
    rows, columns = pairs(labels)
    weights = torch.arange(9, dtype=torch.float64).sub(weightless).clamp_min(0)
    agree(
        lambda logits: token_softmax_loss(logits, rows, columns, weights),
        lambda logits: superclass_by_hand(labels, weights)(logits) + 0 * logits.sum(),
        logits_of(len(labels), 9, 3),
    )


def test_a_token_in_every_caption_weighs_nothing() -> None:
    weights = inverse_document_frequency(torch.tensor([10.0, 1.0, 0.0]), torch.tensor(10.0))
    torch.testing.assert_close(weights, torch.tensor([0.0, math.log(11 / 2), math.log(11)]))
