"""Other parts of a step: optimizer, text forward, image block, patches, a batch of images, making targets."""

from typing import get_args

import pytest
import torch
from open_clip.transformer import ResidualAttentionBlock
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from bench.data.pack import PackImages
from bench.data.stream import PackStream, augment
from bench.data.targets import Captions
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.fields import TextPadding
from bench.interfaces.method import METHODS
from bench.labels.subwords import SubwordIds
from bench.measure.costs import count_flops
from bench.measure.memory import step_tensor_bytes
from bench.suites.device import DEVICE, rate, seconds
from bench.train.build import (
    build_train_state,
    build_untrained_tower,
    take_steps_at_full_learning_rate,
)
from bench.train.step import make_optimizer
from losses.psnr import psnr_loss, scheduled_error
from models.open_clip_blocks import ImageBlock
from models.patch_embedding import LinearPatchEmbedding
from models.range_augment import RangeAugment
from models.text_tower import build_text_tower

CLIP = EXPERIMENTS["clip-tiny"]
NUM_COUNTED_STEPS = 3
NUM_COUNTED_IMAGES = 128
COUNTED_BATCH = 32
ON_GPU = DEVICE.type == "cuda"
SIDE = 224
# Of ViT-B/16 and ViT-S/32.
WIDTH, HEADS, PATCH, IMAGES = (768, 12, 16, 128) if ON_GPU else (384, 6, 32, 8)
METHODS_WITH_TARGETS = [name for name, method in METHODS.items() if not method.has_teacher]


@pytest.mark.benchmark(group="optimizer", timer=seconds)
@pytest.mark.parametrize("method", [*METHODS])
def test_adamw(benchmark: BenchmarkFixture, images: PackImages, method: str) -> None:
    """Time the update alone; `extra_info` has the counters of whole steps."""
    experiment = EXPERIMENTS[f"{method}-tiny"]
    model = METHODS[method].build_model(build_untrained_tower(experiment), experiment).to(DEVICE)
    optimizer = make_optimizer(experiment.optimizer, model)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    benchmark(optimizer.step)
    benchmark.extra_info["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    benchmark.extra_info |= step_counters(experiment, images)


@pytest.mark.benchmark(group="text forward", timer=seconds)
@pytest.mark.parametrize(
    "padding", get_args(TextPadding), ids=("none", "packed", "batch", "full")
)  # names of series
def test_text_tower(
    benchmark: BenchmarkFixture,
    images: PackImages,
    generator: torch.Generator,
    padding: TextPadding,
) -> None:
    targets = METHODS["clip"].targets(change(CLIP, text_padding=padding))(
        Captions.from_texts(images.captions)
    )
    batch = targets.select(
        torch.randperm(len(images), generator=generator)[: CLIP.training.batch_size]
    ).to(DEVICE)
    size = SubwordIds(CLIP.targets.subword_vocabulary).size
    text = build_text_tower(CLIP.text.text_tower, CLIP.text.context_length, size, 0).to(DEVICE)
    with torch.inference_mode():
        benchmark(text, *batch.inputs)
    benchmark.extra_info["tokens per caption"] = batch.tokens_per_caption
    rate(benchmark, "captions", CLIP.training.batch_size)


@pytest.mark.benchmark(group="image block", timer=seconds)
@pytest.mark.parametrize("is_open_clips", [False, True], ids=("ours", "open_clip"))
def test_image_block(benchmark: BenchmarkFixture, is_open_clips: bool) -> None:
    """Forward and backward of a block of the image tower, and of open_clip's, which copies queries, keys and values.

    On a GPU both are compiled, with tokens in bf16, as in training.
    """
    theirs = ResidualAttentionBlock(WIDTH, HEADS)
    block = theirs if is_open_clips else ImageBlock(theirs)
    tokens = torch.randn(IMAGES, 1 + (SIDE // PATCH) ** 2, WIDTH)
    if ON_GPU:
        block.compile()
        tokens = tokens.bfloat16()
    time_forward_and_backward(benchmark, block, tokens)


@pytest.mark.benchmark(group="patch embedding", timer=seconds)
@pytest.mark.parametrize("kind", [LinearPatchEmbedding, nn.Conv2d])
def test_patch_embedding(benchmark: BenchmarkFixture, kind: type[nn.Conv2d]) -> None:
    """Forward and backward of the patch embedding, as a linear layer and as a convolution."""
    time_forward_and_backward(
        benchmark, kind(3, WIDTH, PATCH, PATCH, bias=False), torch.randn(IMAGES, 3, SIDE, SIDE)
    )


def time_forward_and_backward(
    benchmark: BenchmarkFixture, module: nn.Module, inputs: Tensor
) -> None:
    """Time a module on a batch; on a GPU in bf16, as in training."""
    module = module.to(DEVICE)
    inputs = inputs.to(DEVICE)

    def work() -> None:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=ON_GPU):
            total: Tensor = module(inputs).sum()
        total.backward()  # type: ignore[no-untyped-call]

    benchmark(work)
    rate(benchmark, "images", len(inputs))


@pytest.mark.benchmark(group="loading", timer=seconds)
def test_augmented_batch(
    benchmark: BenchmarkFixture, images: PackImages, generator: torch.Generator
) -> None:
    rows = torch.randperm(len(images), generator=generator)[: CLIP.training.batch_size]
    pixels = images.pixels.to(DEVICE)
    rows = rows.to(DEVICE)
    benchmark(lambda: augment(pixels[rows], CLIP, CLIP.image.image_size, generator))
    rate(benchmark, "images", CLIP.training.batch_size)


@pytest.mark.benchmark(group="augmentation", timer=seconds)
def test_range_augment(benchmark: BenchmarkFixture) -> None:
    """Forward and backward of RangeAugment and its loss, without a tower."""
    augmentor = RangeAugment().to(DEVICE)
    side = CLIP.image.image_size
    images = torch.rand(CLIP.training.batch_size, 3, side, side).to(DEVICE)
    target = scheduled_error(augmentor.steps_taken, 1)
    benchmark(lambda: psnr_loss(images, augmentor(images), target).backward())  # type: ignore[no-untyped-call]
    rate(benchmark, "images", CLIP.training.batch_size)


@pytest.mark.benchmark(group="targets")
@pytest.mark.parametrize("method", METHODS_WITH_TARGETS)
def test_targets_of_a_thousand_captions_seen_before(
    benchmark: BenchmarkFixture, images: PackImages, method: str
) -> None:
    captions = Captions.from_texts(images.captions[:1000])
    make = METHODS[method].targets(EXPERIMENTS[f"{method}-tiny"])
    benchmark(make, captions)
    rate(benchmark, "captions", len(captions.texts))


def step_counters(experiment: Experiment, images: PackImages) -> dict[str, float]:
    """Return bytes and FLOPs of a step of a small batch, and on a CPU the loss of the third step."""
    few = PackImages(
        images.pixels[:NUM_COUNTED_IMAGES],
        images.captions[:NUM_COUNTED_IMAGES],
        images.classes[:NUM_COUNTED_IMAGES],
        images.keys[:NUM_COUNTED_IMAGES],
    )
    small = change(
        experiment, batch_size=COUNTED_BATCH, images=NUM_COUNTED_IMAGES, warmup_images=COUNTED_BATCH
    )
    stream = PackStream(small, few, METHODS[small.method].targets(small), DEVICE)
    counters: dict[str, float] = {
        "peak tensor bytes": step_tensor_bytes(stream),
        "FLOPs of a step": count_flops(small, [stream.target(0)]).step,
    }
    if DEVICE.type == "cpu":  # elsewhere sums are taken in an order that varies
        losses = take_steps_at_full_learning_rate(
            build_train_state(stream, plain=True), range(NUM_COUNTED_STEPS)
        )
        counters[f"loss at step {NUM_COUNTED_STEPS}"] = losses[-1].item()
    return counters
