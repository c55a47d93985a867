"""The losses alone, forward and backward: features or logits in, gradients out."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from bench.suites.device import DEVICE, peak_bytes, rate, seconds
from losses.contrastive import contrastive_loss
from losses.multilabel import multilabel_loss
from losses.sigmoid import sigmoid_loss
from losses.token_softmax import token_softmax_loss

BATCH = 256
DIM = 512
LABELS = 24_320
POSITIVES = 8

pytestmark = pytest.mark.benchmark(group="losses", timer=seconds)


def forward_and_backward(
    benchmark: BenchmarkFixture, loss: Callable[..., Tensor], *inputs: Tensor
) -> None:
    leaves = [value.to(DEVICE).requires_grad_() for value in inputs]

    def work() -> object:
        return torch.autograd.grad(loss(*leaves), leaves)

    benchmark(work)
    rate(benchmark, "images", BATCH)
    benchmark.extra_info["peak tensor bytes"] = peak_bytes(work)


def test_contrastive(benchmark: BenchmarkFixture, generator: torch.Generator) -> None:
    image, text = (
        F.normalize(torch.randn(BATCH, DIM, generator=generator), dim=-1) for _ in range(2)
    )
    forward_and_backward(benchmark, contrastive_loss, image, text, torch.tensor(14.0))


def test_sigmoid(benchmark: BenchmarkFixture, generator: torch.Generator) -> None:
    image, text = (
        F.normalize(torch.randn(BATCH, DIM, generator=generator), dim=-1) for _ in range(2)
    )
    forward_and_backward(
        benchmark, sigmoid_loss, image, text, torch.tensor(10.0), torch.tensor(-10.0)
    )


def positives(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    rows = torch.arange(BATCH).repeat_interleave(POSITIVES)
    columns = torch.stack(
        [torch.randperm(LABELS, generator=generator)[:POSITIVES] for _ in range(BATCH)]
    ).flatten()
    return rows.to(DEVICE), columns.to(DEVICE)


def test_multilabel(benchmark: BenchmarkFixture, generator: torch.Generator) -> None:
    rows, columns = positives(generator)
    logits = torch.randn(BATCH, LABELS, generator=generator)
    forward_and_backward(benchmark, lambda logits: multilabel_loss(logits, rows, columns), logits)


def test_token_softmax(benchmark: BenchmarkFixture, generator: torch.Generator) -> None:
    rows, columns = positives(generator)
    logits = torch.randn(BATCH, LABELS, generator=generator)
    weights = torch.rand(LABELS, generator=generator).to(DEVICE)
    forward_and_backward(
        benchmark, lambda logits: token_softmax_loss(logits, rows, columns, weights), logits
    )
