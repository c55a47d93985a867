"""Costs by count: FLOPs of a step, and parameters and FLOPs of an experiment."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from msgspec.structs import astuple
from torch import nn

from bench.data.targets import Target, Tokens
from bench.experiment.config import Experiment, change
from bench.experiment.fields import ImageSettings
from bench.profilers.counters import count_forward_flops, count_image_flops, count_matmul_flops
from bench.records.record import Flops
from bench.train.augmentation import get_augmented_method
from bench.train.build import (
    apply_block_settings,
    build_tower,
    build_untrained_tower,
    count_trained_parameters,
)
from bench.train.step import simulated_group
from models.heads import Classifier, DualEncoder, DualEncoderClassifier, ImageProjection, Student
from models.image_tower import PIXEL_CHANNELS
from models.open_clip_blocks import ClassTokenOnlyBlock
from models.text_tower import open_clip_text_tower

META = torch.device("meta")
FLOPS_FIELDS = Flops.__struct_fields__


@dataclass(frozen=True, slots=True)
class Costs:
    """Parameters, and FLOPs of one forward of an image, and of a caption that fills its context.

    A multiply-add is two. With several image sizes they are the mean over the images of a training.
    """

    parameters: int  # trained
    tower_parameters: int  # image tower, which is kept
    image_flops: int
    text_flops: int  # 0 without a text tower
    teacher_flops: int  # forward, without a backward; 0 without a teacher

    @property
    def text_share(self) -> float:
        """Return the text tower's share of the FLOPs of both towers' forward."""
        return self.text_flops / (self.text_flops + self.image_flops)


def count_costs(experiment: Experiment) -> Costs:
    """Count on the `meta` device, without weights and data."""
    tower, model = build_on_meta(change(experiment, image_sizes=()))  # the weights are the same
    return Costs(
        parameters=count_trained_parameters(model),
        tower_parameters=sum(parameter.numel() for parameter in tower.parameters()),
        image_flops=_mean_image_flops(experiment),
        text_flops=text_forward_flops(model, meta_captions(1, experiment.text.context_length)),
        teacher_flops=_teacher_forward_flops(
            model, meta_images(1, experiment.image.image_size, PIXEL_CHANNELS)
        ),
    )


def forward_flops_as_released(experiment: Experiment, caption_lengths: Sequence[int] = ()) -> int:
    """Return the FLOPs of a forward of one image with its caption in the released code of the methods.

    Captions are padded to the context. Without padding it is the mean over captions of `caption_lengths` tokens, which
    are cut to the context. Every token of captions and images is computed. With several image sizes it is the mean.
    """
    _, model = build_on_meta(change(experiment, image_sizes=()))
    flops = _mean_image_flops(experiment, all_tokens=True)
    if isinstance(model, Classifier | DualEncoderClassifier):
        features = torch.empty(1, model.tower.width, device=META)
        flops += count_matmul_flops(lambda: model.head(features))
    if isinstance(model, ImageProjection):
        context = experiment.text.context_length
        counts = Counter(min(length, context) for length in caption_lengths or (context,))
        text_flops = _count_at_widths(
            lambda length: (_text_flops_as_released(experiment.text.text_tower, length),), counts
        )
        total = sum(counts[length] * forward for length, (forward,) in text_flops.items())
        flops += total // counts.total()
    return flops


@cache
def _text_flops_as_released(text_tower: str, length: int) -> int:
    with META:
        return count_forward_flops(
            open_clip_text_tower(text_tower, length, 2), torch.zeros(1, length, dtype=torch.int64)
        )


def count_flops(
    experiment: Experiment, batches: Sequence[Target], image_sizes: Sequence[int] = ()
) -> Flops:
    """Count the FLOPs of a step's matrix products on the `meta` device, the mean over the batches.

    On the CPU, torch's counter misses attention. `image_sizes` are the sides of the batches' images in pixels (by
    default the experiment's one size). Text is counted at the computed tokens: packed rows as they are; else each width
    as if the whole batch had it, then the mean over the captions, because the text tower's work is proportional to the
    captions. Recomputation in the backward and products with simulated captions are counted. Elementwise work is not
    counted, nor are products of this process's images with the captions of other processes.
    """
    tower, model = build_on_meta(experiment)
    by_size: dict[int, list[Target]] = {}
    for size, batch in zip(
        image_sizes or [experiment.image.image_size] * len(batches), batches, strict=True
    ):
        by_size.setdefault(size, []).append(batch)
    counts = {
        size: _count_flops_at_size(experiment, tower, model, size, group)
        for size, group in by_size.items()
    }
    return _weighted_mean([(len(by_size[size]), flops) for size, flops in counts.items()])


def _count_flops_at_size(
    experiment: Experiment,
    tower: nn.Module,
    model: nn.Module,
    image_size: int,
    batches: Sequence[Target],
) -> Flops:
    """Count a step at one image side, the mean over its batches."""
    method = get_augmented_method(experiment)
    batch_size = experiment.batch_size_for(image_size)
    simulated = simulated_group(experiment)
    images = meta_images(
        batch_size, image_size, experiment.image.embedding_channels or PIXEL_CHANNELS
    )
    image_forward = count_forward_flops(tower, images)
    teacher_forward = _teacher_forward_flops(model, images)

    def count(target: Target) -> Flops:
        def step() -> None:
            method.loss(model, images, target, simulated).backward()  # type: ignore[no-untyped-call]

        with torch.no_grad():  # a loss may compute its gradient in its forward
            forward = count_matmul_flops(lambda: method.loss(model, images, target, simulated))
        return Flops(
            image_forward=image_forward,
            text_forward=text_forward_flops(model, target.captions),
            forward=forward,
            step=count_matmul_flops(step),
            teacher_forward=teacher_forward,
        )

    target = batches[0].to(META)
    counts = Counter[int]()  # of batches by rows of packed captions, or else of captions by width
    layouts: dict[int, Tokens] = {}
    for text in (batch.captions for batch in batches if batch.captions):
        if text.positions is None:
            counts += text.rows_by_width
        else:
            counts[len(text.positions)] += 1
            layouts[len(text.positions)] = text
    if not counts:
        return count(target)
    if layouts:
        flops = {rows: count(target.with_captions(text.to(META))) for rows, text in layouts.items()}
    else:
        values = _count_at_widths(
            lambda width: astuple(count(target.with_captions(meta_captions(batch_size, width)))),
            counts,
        )
        flops = {
            width: Flops(**dict(zip(FLOPS_FIELDS, figures, strict=True)))
            for width, figures in values.items()
        }
    return _weighted_mean([(counts[key], flops[key]) for key in counts])


def _count_at_widths(
    count: Callable[[int], Sequence[int]], widths: Collection[int]
) -> dict[int, list[int]]:
    """Return the FLOPs at every width from counts at three: they are of second degree in the width."""
    widest = max(widths)
    if len(widths) == 1:
        return {widest: list(count(widest))}
    counts = [count(widest - difference) for difference in range(3)]
    flops = {}
    for width in widths:
        n = widest - width
        flops[width] = [
            first + n * (second - first) + n * (n - 1) // 2 * (third - 2 * second + first)
            for first, second, third in zip(*counts, strict=True)
        ]
    return flops


def text_forward_flops(model: nn.Module, captions: Tokens | None) -> int:
    """Count a forward of the text tower over a batch of captions on the `meta` device; 0 without one."""
    if captions is None or not isinstance(model, DualEncoder):
        return 0
    return count_forward_flops(model.text, *captions.inputs)


def _teacher_forward_flops(model: nn.Module, images: torch.Tensor) -> int:
    if not isinstance(model, Student):
        return 0
    return count_matmul_flops(lambda: model.teacher_features(images))


def _mean_image_flops(experiment: Experiment, *, all_tokens: bool = False) -> int:
    """Return the FLOPs of the image tower's forward, the mean over the images of a training."""
    flops_by_size = _image_flops_by_size(experiment.image, all_tokens=all_tokens)
    images_by_size = {
        size: experiment.batch_size_for(size) for size in experiment.image.all_image_sizes
    }
    flops = sum(images * flops_by_size[size] for size, images in images_by_size.items())
    return flops // sum(images_by_size.values())


@cache
def _image_flops_by_size(image: ImageSettings, *, all_tokens: bool) -> dict[int, int]:
    with META:
        tower = build_tower(image, 0)
    for block in tower.modules() if all_tokens else ():
        if isinstance(block, ClassTokenOnlyBlock):
            block.forward = block.forward_all_tokens  # type: ignore[method-assign]
    return {size: count_image_flops(tower, tower.channels, size) for size in image.all_image_sizes}


def _weighted_mean(counts: Sequence[tuple[int, Flops]]) -> Flops:
    """Return the mean of counts, weighted by the numbers before them."""
    total = sum(weight for weight, _ in counts)
    weighted = {
        name: sum(weight * getattr(flops, name) for weight, flops in counts)
        for name in FLOPS_FIELDS
    }
    return Flops(**{name: value // total for name, value in weighted.items()})


def build_on_meta(experiment: Experiment) -> tuple[nn.Module, nn.Module]:
    """Return the image tower and the model around it, on the `meta` device."""
    with META:
        tower = build_untrained_tower(experiment)
        model = get_augmented_method(experiment).build_model(tower, experiment)
    apply_block_settings(model, experiment.runtime)
    return tower, model


def meta_images(count: int, image_size: int, channels: int) -> torch.Tensor:
    """Return a batch of images on the `meta` device."""
    return torch.empty(count, channels, image_size, image_size, device=META)


def meta_captions(count: int, width: int) -> Tokens:
    """Return a batch of captions of one width, on the `meta` device."""
    with META:
        ids = torch.zeros(count, width, dtype=torch.int64)
        row = torch.zeros(count, dtype=torch.int64)
    return Tokens((ids,), row, row, row, "max_length")
