"""Our parts against the usual ones, turn by turn in one process on two threads.

Run by `pytest bench/suites -p no:randomly -m minutes`.

Each figure's `extra_info` has the ratios: of seconds the median of the turns' with its range, of memory exactly.
"""

import math
import time
from collections.abc import Callable
from statistics import median

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from bench.data.caption_lengths import WEB, match_lengths
from bench.data.pack import PackImages
from bench.data.targets import Labels, Tokens
from bench.experiment.config import change
from bench.experiment.experiments import EXPERIMENTS
from bench.labels.subwords import SubwordIds, encode_caption
from bench.suites.device import peak_bytes
from losses.contrastive import contrastive_loss
from losses.multilabel import multilabel_loss
from losses.sigmoid import sigmoid_loss
from models.text_tower import build_text_tower

DIM, LABELS, POSITIVES, WIDTH = 512, 24_320, 8, 768
Work = Callable[[], object]

pytestmark = pytest.mark.minutes


@pytest.fixture(autouse=True)
def two_threads(one_thread: None) -> None:  # noqa: ARG001 - which this one comes after
    torch.set_num_threads(2)


def compare_seconds(
    benchmark: BenchmarkFixture, ours: Work, theirs: Work, *, turns: int, max_ratio: float = math.inf
) -> None:
    """Time ours as the benchmark's figure and theirs before each turn; ours takes at most so much of their seconds."""
    seconds = []

    def first_theirs() -> None:
        start = time.perf_counter()
        theirs()
        seconds.append(time.perf_counter() - start)

    benchmark.pedantic(ours, setup=first_theirs, rounds=turns, warmup_rounds=1)  # type: ignore[no-untyped-call]
    if benchmark.stats is not None:
        ratios = [mine / other for mine, other in zip(benchmark.stats.stats.data, seconds[1:], strict=True)]
        benchmark.extra_info["seconds to theirs"] = round(median(ratios), 3)
        benchmark.extra_info["least and most"] = [round(min(ratios), 3), round(max(ratios), 3)]
        assert median(ratios) <= max_ratio


def compare_peak_memory(benchmark: BenchmarkFixture, ours: Work, theirs: Work) -> float:
    bytes_held = [peak_bytes(work, torch.device("cpu")) for work in (ours, theirs)]
    ratio = bytes_held[0] / bytes_held[1]
    benchmark.extra_info["memory to theirs"] = round(ratio, 4)
    return ratio


def gradient_work(loss: Callable[..., Tensor], *leaves: Tensor) -> Work:
    return lambda: torch.autograd.grad(loss(*leaves), leaves)


@pytest.mark.benchmark(group="pairs")
@pytest.mark.parametrize(("batch", "turns"), [(1024, 20), (4096, 5), (16_384, 1)])
@pytest.mark.parametrize("method", ["clip", "siglip"])
def test_pairs(benchmark: BenchmarkFixture, generator: torch.Generator, method: str, batch: int, turns: int) -> None:
    """Against open_clip's losses, whose memory is that of the batch's square."""
    features = [F.normalize(torch.randn(batch, DIM, generator=generator), dim=-1) for _ in range(2)]
    scalars = [torch.tensor(14.3)] if method == "clip" else [torch.tensor(10.0), torch.tensor(-10.0)]
    leaves = [value.requires_grad_() for value in (*features, *scalars)]
    loss, peer = (contrastive_loss, ClipLoss()) if method == "clip" else (sigmoid_loss, SigLipLoss())
    ours, theirs = gradient_work(loss, *leaves), gradient_work(peer, *leaves)
    compare_seconds(benchmark, ours, theirs, turns=turns, max_ratio=0.9 if batch >= 4096 else math.inf)  # noqa: PLR2004
    less = compare_peak_memory(benchmark, ours, theirs)
    assert less < 1
    if batch == 16_384:  # noqa: PLR2004
        assert less < 1 / 20


@pytest.mark.benchmark(group="labels")
@pytest.mark.parametrize("batch", [128, 1024])
def test_labels(benchmark: BenchmarkFixture, generator: torch.Generator, batch: int) -> None:
    """Against dense int64 targets, as CatLIP's released code has them: targets and loss timed, memory with the head."""
    torch.set_num_threads(1)  # elementwise work, whose threads would wait for each other on a busy machine
    captions = [torch.randperm(LABELS, generator=generator)[:POSITIVES].tolist() for _ in range(batch)]
    features = torch.randn(batch, WIDTH, generator=generator).requires_grad_()
    head = nn.Linear(WIDTH, LABELS)
    given = head(features).detach().requires_grad_()

    def sparse_loss(logits: Tensor) -> Tensor:
        labels = Labels.from_lists(captions)
        return multilabel_loss(logits, labels.rows, labels.columns)

    def dense_loss(logits: Tensor) -> Tensor:
        targets = torch.stack([torch.zeros(LABELS, dtype=torch.int64).index_fill_(0, row, 1) for row in rows])
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="sum") / batch

    def with_head(loss: Callable[[Tensor], Tensor]) -> Work:
        return gradient_work(lambda *_: loss(head(features)), features, *head.parameters())

    rows = [torch.tensor(caption) for caption in captions]
    is_large = batch == 1024  # noqa: PLR2004 - below, the head's own gradient is what is held
    max_ratio = 1 / 2.5 if is_large else 1.0
    compare_seconds(
        benchmark, gradient_work(sparse_loss, given), gradient_work(dense_loss, given), turns=10, max_ratio=max_ratio
    )
    assert compare_peak_memory(benchmark, with_head(sparse_loss), with_head(dense_loss)) <= (1 / 2 if is_large else 1)


@pytest.mark.benchmark(group="text without padding")
@pytest.mark.parametrize(("batch", "turns"), [(8, 10), (64, 3), (256, 1), (1024, 1)])
def test_text_without_padding(
    benchmark: BenchmarkFixture, images: PackImages, generator: torch.Generator, batch: int, turns: int
) -> None:
    """Against the same layer of ViT-B/32's text tower, 512 wide, at all 77 tokens; forward and backward."""
    experiment = change(EXPERIMENTS["clip-tiny"], context_length=77)
    subwords = SubwordIds(experiment.targets.subword_vocabulary)
    texts = match_lengths(images.captions, WEB, lambda text: len(encode_caption(text)), seed=0)
    captions = subwords.encode(texts)
    tower = build_text_tower("ViT-B-32", 77, subwords.size, 0)
    del tower.text.transformer.resblocks[1:]
    rows = torch.randperm(len(captions), generator=generator)[:batch]
    cut, padded = (
        Tokens.from_ids(captions, *subwords.start_and_end, 77, padding).select(rows)
        for padding in ("bucketed", "max_length")
    )

    def work(tokens: Tokens) -> Work:
        return gradient_work(lambda *_: tower(*tokens.inputs).sum(), *tower.parameters())

    benchmark.extra_info["tokens per caption"] = round(cut.tokens_per_caption, 1)
    benchmark.extra_info["tokens of captions"] = round(cut.lengths.double().mean().item(), 1)
    compare_seconds(benchmark, work(cut), work(padded), turns=turns)
