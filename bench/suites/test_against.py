"""Our losses against the usual ones, in turns in one process: `pytest bench/suites -p no:randomly -m minutes`.

`extra_info` of each figure has the ratio of the median seconds, and of the peak memory.
"""

import math
from collections.abc import Callable
from statistics import median
from time import perf_counter

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from bench.data.targets import Labels
from bench.suites.device import peak_bytes
from losses.contrastive import contrastive_loss
from losses.multilabel import multilabel_loss
from losses.sigmoid import sigmoid_loss

DIM = 512
LABELS = 24_320
POSITIVES = 8
WIDTH = 768
Work = Callable[[], object]

pytestmark = pytest.mark.minutes


def compare_seconds(
    benchmark: BenchmarkFixture, ours: Work, theirs: Work, turns: int, max_ratio: float
) -> None:
    """Time ours as the benchmark's figure and theirs before each turn; ours takes at most this ratio of their time."""
    seconds = []

    def time_theirs() -> None:
        start = perf_counter()
        theirs()
        seconds.append(perf_counter() - start)

    benchmark.pedantic(ours, setup=time_theirs, rounds=turns, warmup_rounds=1)  # type: ignore[no-untyped-call]
    if benchmark.stats is not None:
        ratio = benchmark.stats.stats.median / median(seconds[1:])
        benchmark.extra_info["seconds to theirs"] = round(ratio, 3)
        assert ratio <= max_ratio


def compare_peak_memory(
    benchmark: BenchmarkFixture, ours: Work, theirs: Work, max_ratio: float
) -> None:
    cpu = torch.device("cpu")
    ratio = peak_bytes(ours, cpu) / peak_bytes(theirs, cpu)
    benchmark.extra_info["memory to theirs"] = round(ratio, 4)
    assert ratio <= max_ratio


def gradient_work(loss: Callable[..., Tensor], *leaves: Tensor) -> Work:
    return lambda: torch.autograd.grad(loss(*leaves), leaves)


@pytest.mark.benchmark(group="pairs")
@pytest.mark.parametrize(
    ("batch", "turns", "max_seconds", "max_memory"),
    [(1024, 20, math.inf, 1.0), (4096, 5, 0.9, 1.0), (16_384, 1, 0.9, 1 / 20)],
)
@pytest.mark.parametrize(
    ("loss", "peer", "scalars"),
    [(contrastive_loss, ClipLoss(), [14.3]), (sigmoid_loss, SigLipLoss(), [10.0, -10.0])],
    ids=["clip", "siglip"],
)
def test_pairs(
    benchmark: BenchmarkFixture,
    generator: torch.Generator,
    loss: Callable[..., Tensor],
    peer: Callable[..., Tensor],
    scalars: list[float],
    batch: int,
    turns: int,
    max_seconds: float,
    max_memory: float,
) -> None:
    """Against open_clip's losses, which hold the square of the batch."""
    torch.set_num_threads(2)
    images = F.normalize(torch.randn(batch, DIM, generator=generator), dim=-1)
    texts = F.normalize(torch.randn(batch, DIM, generator=generator), dim=-1)
    leaves = [value.requires_grad_() for value in (images, texts, *map(torch.tensor, scalars))]
    ours = gradient_work(loss, *leaves)
    theirs = gradient_work(peer, *leaves)
    compare_seconds(benchmark, ours, theirs, turns, max_seconds)
    compare_peak_memory(benchmark, ours, theirs, max_memory)


@pytest.mark.benchmark(group="labels")
@pytest.mark.parametrize(
    ("batch", "max_seconds", "max_memory"), [(128, 1.0, 1.0), (1024, 1 / 2.5, 1 / 2)]
)
def test_labels(
    benchmark: BenchmarkFixture,
    generator: torch.Generator,
    batch: int,
    max_seconds: float,
    max_memory: float,
) -> None:
    """Against dense int64 targets, as in CatLIP's released code; the time has no head, the memory has one."""
    rows = [torch.randperm(LABELS, generator=generator)[:POSITIVES] for _ in range(batch)]
    features = torch.randn(batch, WIDTH, generator=generator).requires_grad_()
    head = nn.Linear(WIDTH, LABELS)
    logits = head(features).detach().requires_grad_()

    def sparse_loss(logits: Tensor) -> Tensor:
        labels = Labels.from_lists([row.tolist() for row in rows])
        return multilabel_loss(logits, labels.rows, labels.columns)

    def dense_loss(logits: Tensor) -> Tensor:
        targets = torch.stack(
            [torch.zeros(LABELS, dtype=torch.int64).index_fill_(0, row, 1) for row in rows]
        )
        return (
            F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="sum")
            / batch
        )

    def with_head(loss: Callable[[Tensor], Tensor]) -> Work:
        return gradient_work(lambda *_: loss(head(features)), features, *head.parameters())

    compare_seconds(
        benchmark,
        gradient_work(sparse_loss, logits),
        gradient_work(dense_loss, logits),
        10,
        max_seconds,
    )
    compare_peak_memory(benchmark, with_head(sparse_loss), with_head(dense_loss), max_memory)
