"""Counted floating-point operations of a step."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import nn

from bench.config import Experiment
from bench.data.targets import Target, Tokens
from bench.methods import get_method, simulated_group
from bench.profilers.flops import count_matmul_flops
from bench.record import Flops
from models.heads import DualEncoder, Student
from models.image_tower import PIXEL_CHANNELS, build_image_tower
from models.tower_blocks import checkpoint_activations

META = torch.device("meta")


def count_flops(experiment: Experiment, batches: Sequence[Target], sides: Sequence[int] = ()) -> Flops:
    """Count the FLOPs of a step's matrix products on the `meta` device, the mean over the batches.

    On the CPU, torch's counter misses attention. `sides` are of the batches' images in pixels (by default the
    experiment's one size). Text is counted at the computed tokens: each width as if the whole batch had it, then the
    mean over the captions, because the text tower's work is proportional to the captions. Recomputation in the backward
    and products with simulated captions are counted. Elementwise work is not counted, nor are products of this
    process's images with the captions of other processes.
    """
    tower, model = build_on_meta(experiment)
    by_side: dict[int, list[Target]] = {}
    for side, batch in zip(sides or [experiment.image_size] * len(batches), batches, strict=True):
        by_side.setdefault(side, []).append(batch)
    counts = [(len(of_side), _count(experiment, tower, model, side, of_side)) for side, of_side in by_side.items()]
    return _mean(counts)


def _count(experiment: Experiment, tower: nn.Module, model: nn.Module, side: int, batches: Sequence[Target]) -> Flops:
    """Count a step at one image side, the mean over its batches."""
    method, size = get_method(experiment.method), experiment.batch_size_for(side)
    alike = simulated_group(experiment)
    images = meta_images(size, side, image_channels(experiment))
    image = count_matmul_flops(lambda: tower(images))
    student = model if isinstance(model, Student) and model.teacher is not None else None
    teacher = 0 if student is None else count_matmul_flops(lambda: student.teacher_features(images))

    def count(target: Target) -> Flops:
        def step() -> None:
            method.loss(model, images, target, alike).backward()  # type: ignore[no-untyped-call]

        text = 0
        if isinstance(model, DualEncoder) and (read := target.captions) is not None:
            text = count_matmul_flops(lambda: model.text(read.groups, read.lengths, read.inverse_permutation))
        with torch.no_grad():  # a loss may compute its gradient in its forward
            forward = count_matmul_flops(lambda: method.loss(model, images, target, alike))
        return Flops(
            image_forward=image,
            text_forward=text,
            forward=forward,
            step=count_matmul_flops(step),
            teacher_forward=teacher,
        )

    widths: Counter[int] = Counter()
    for batch in batches:
        widths.update(batch.captions.count_widths if batch.captions else {})
    some = batches[0].to(META)
    if not widths:
        return count(some)
    return _mean([(many, count(some.with_captions(meta_captions(size, width)))) for width, many in widths.items()])


def _mean(counts: Sequence[tuple[int, Flops]]) -> Flops:
    """Return the mean of counts, weighted by the numbers before them."""
    total = sum(often for often, _ in counts)
    names = Flops.__struct_fields__
    return Flops(**{name: sum(often * getattr(flops, name) for often, flops in counts) // total for name in names})


def build_on_meta(experiment: Experiment) -> tuple[nn.Module, nn.Module]:
    """Return the image tower and the model around it, on the `meta` device."""
    with META:
        drawn = experiment.image_sizes, experiment.patch_drop, experiment.embedding_channels
        tower = build_image_tower(experiment.tower, experiment.image_size, experiment.seed, *drawn)
        model = get_method(experiment.method).wrap(tower, experiment)
    if experiment.activation_checkpointing:
        checkpoint_activations(model)
    return tower, model


def image_channels(experiment: Experiment) -> int:
    """Return the number of channels of an experiment's images."""
    return experiment.embedding_channels or PIXEL_CHANNELS


def meta_images(count: int, side: int, channels: int) -> torch.Tensor:
    """Return a batch of images on the `meta` device."""
    return torch.empty(count, channels, side, side, device=META)


def meta_captions(count: int, width: int) -> Tokens:
    """Return a batch of captions of one width, on the `meta` device."""
    with META:
        ids, row = torch.zeros(count, width, dtype=torch.int64), torch.zeros(count, dtype=torch.int64)
    return Tokens((ids,), row, row, "max_length")
