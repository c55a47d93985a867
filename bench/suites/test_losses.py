"""The losses alone, forward and backward: features or logits in, gradients out."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from bench.suites.device import DEVICE, synchronized_seconds, time_gradients_and_peak_tensor_bytes
from losses.contrastive import contrastive_loss
from losses.multilabel import multilabel_loss
from losses.sigmoid import sigmoid_loss
from losses.token_softmax import token_softmax_loss

BATCH = 256
DIM = 512
LABELS = 24_320
POSITIVES = 8

pytestmark = pytest.mark.benchmark(group="losses", timer=synchronized_seconds)


@pytest.mark.parametrize(
    ("loss", "scalars"), [(contrastive_loss, [14.0]), (sigmoid_loss, [10.0, -10.0])]
)
def test_loss_of_features(
    benchmark: BenchmarkFixture,
    generator: torch.Generator,
    loss: Callable[..., Tensor],
    scalars: list[float],
) -> None:
    """Time a loss of normalised image and caption features; `scalars` are its learned scale and bias."""
    image, text = F.normalize(torch.randn(2, BATCH, DIM, generator=generator), dim=-1)
    time_gradients_and_peak_tensor_bytes(benchmark, loss, image, text, *map(torch.tensor, scalars))


@pytest.mark.parametrize("loss", [multilabel_loss, token_softmax_loss])
def test_loss_of_logits(
    benchmark: BenchmarkFixture, generator: torch.Generator, loss: Callable[..., Tensor]
) -> None:
    """Time a loss of logits with eight labels per image."""
    rows = torch.arange(BATCH, device=DEVICE).repeat_interleave(POSITIVES)
    columns = torch.rand(BATCH, LABELS, generator=generator).topk(POSITIVES).indices.flatten()
    columns = columns.to(DEVICE)
    weights = torch.rand(LABELS, generator=generator).to(DEVICE)
    settings = [weights] if loss is token_softmax_loss else []
    logits = torch.randn(BATCH, LABELS, generator=generator)
    time_gradients_and_peak_tensor_bytes(
        benchmark, lambda logits: loss(logits, rows, columns, *settings), logits
    )
