"""Other parts of a step: optimizer, text forward, image block, making targets."""

from typing import get_args

import pytest
import torch
from open_clip.transformer import ResidualAttentionBlock
from pytest_benchmark.fixture import BenchmarkFixture

from bench.data.pack import PackImages
from bench.data.stream import PackStream
from bench.data.targets import CaptionsWithRows
from bench.experiment.config import change
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.fields import TextPadding
from bench.interfaces.method import METHODS
from bench.labels.subwords import SubwordEncoder
from bench.measure.costs import count_mean_step_flops
from bench.measure.memory import take_step_and_count_peak_tensor_bytes
from bench.suites.device import DEVICE, synchronized_seconds
from bench.train.build import (
    build_train_run,
    build_untrained_tower,
    take_steps_at_full_learning_rate,
)
from bench.train.step import make_optimizer
from models.open_clip_blocks import ImageBlock
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


@pytest.mark.benchmark(group="optimizer", timer=synchronized_seconds)
@pytest.mark.parametrize("method", [*METHODS])
def test_adamw(benchmark: BenchmarkFixture, images: PackImages, method: str) -> None:
    """Time the update alone; `extra_info` has the counters of a step of a small batch."""
    experiment = EXPERIMENTS[f"{method}-tiny"]
    model = METHODS[method].build_model(build_untrained_tower(experiment), experiment).to(DEVICE)
    groups = METHODS[method].parameter_groups(model)
    optimizer = make_optimizer(experiment.optimizer, model, groups)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    benchmark(optimizer.step)
    small = change(
        experiment,
        batch_size=COUNTED_BATCH,
        images_seen=NUM_COUNTED_IMAGES,
        warmup_images=COUNTED_BATCH,
    )
    counted_images = PackImages(
        images.premultiplied_rgba[:NUM_COUNTED_IMAGES],
        images.captions[:NUM_COUNTED_IMAGES],
        images.classes[:NUM_COUNTED_IMAGES],
        images.keys[:NUM_COUNTED_IMAGES],
    )
    stream = PackStream(small, counted_images, METHODS[method].make_target_function(small), DEVICE)
    benchmark.extra_info |= {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "peak tensor bytes": take_step_and_count_peak_tensor_bytes(stream),
        "FLOPs of a step": count_mean_step_flops(small, [stream.target(0)]).step,
    }
    if not ON_GPU:  # where sums are taken in an order that varies
        run = build_train_run(stream, eager_without_group=True)
        losses = take_steps_at_full_learning_rate(run, range(NUM_COUNTED_STEPS))
        benchmark.extra_info[f"loss at step {NUM_COUNTED_STEPS}"] = losses[-1].item()


@pytest.mark.benchmark(group="text forward", timer=synchronized_seconds)
@pytest.mark.parametrize("padding", get_args(TextPadding))
def test_text_tower(
    benchmark: BenchmarkFixture,
    images: PackImages,
    generator: torch.Generator,
    padding: TextPadding,
) -> None:
    """Time the forward of the text tower over a batch of captions with one kind of padding."""
    captions = CaptionsWithRows.from_texts(images.captions)
    targets = METHODS["clip"].make_target_function(change(CLIP, text_padding=padding))(captions)
    rows = torch.randperm(len(images), generator=generator)[: CLIP.training.batch_size]
    batch = targets.select(rows).to(DEVICE)
    size = SubwordEncoder(CLIP.targets.subword_vocabulary).size
    text = build_text_tower(CLIP.text.text_tower, CLIP.text.context_length, size, 0).to(DEVICE)
    with torch.inference_mode():
        benchmark(text, *batch.text_tower_inputs)
    benchmark.extra_info["tokens per caption"] = batch.tokens_per_caption


@pytest.mark.benchmark(group="image block", timer=synchronized_seconds)
def test_image_block(benchmark: BenchmarkFixture) -> None:
    """Forward and backward of a block of the image tower; on a GPU compiled, with tokens in bf16, as in training."""
    block = ImageBlock(ResidualAttentionBlock(WIDTH, HEADS)).to(DEVICE)
    tokens = torch.randn(IMAGES, 1 + (SIDE // PATCH) ** 2, WIDTH, device=DEVICE)
    if ON_GPU:
        block.compile()
        tokens = tokens.bfloat16()

    def work() -> None:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=ON_GPU):
            total: torch.Tensor = block(tokens).sum()
        total.backward()  # type: ignore[no-untyped-call]

    benchmark(work)


@pytest.mark.benchmark(group="targets")
@pytest.mark.parametrize("method", METHODS_WITH_TARGETS)
def test_targets_of_a_thousand_captions_seen_before(
    benchmark: BenchmarkFixture, images: PackImages, method: str
) -> None:
    """Time making a method's targets of 1,000 captions, whose words are known after the first round."""
    captions = CaptionsWithRows.from_texts(images.captions[:1000])
    benchmark(METHODS[method].make_target_function(EXPERIMENTS[f"{method}-tiny"]), captions)
