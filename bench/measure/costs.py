"""Costs by count: FLOPs of a step, and parameters and FLOPs of an experiment."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from bench.data.stream import Batch
from bench.data.targets import CaptionTokens, Target
from bench.experiment.config import Experiment
from bench.interfaces.method import Method, get_method
from bench.profilers.counters import (
    count_flops_of_one_image,
    count_forward_flops,
    count_matmul_flops,
    count_step_matmul_flops,
)
from bench.records.record import StepFlops
from bench.tables.groups import group_by
from bench.train.augmentation import get_method_with_augmentation
from bench.train.build import build_untrained_tower, count_trained_parameters
from bench.train.step import make_simulated_group
from models.heads import DistillationStudent
from models.image_tower import PIXEL_CHANNELS, ImageTower
from models.tower_blocks import enable_activation_checkpointing

T = TypeVar("T", bound=Target)
META = torch.device("meta")


@dataclass(frozen=True, slots=True)
class ParametersAndForwardFlops:
    """Numbers of parameters, and FLOPs (2 per multiply-add) of one forward of an image or a caption.

    With several image sizes the FLOPs of an image are the mean over the images of a training.
    """

    trained_parameters: int
    tower_parameters: int  # of the image tower, which is kept
    image_flops: int  # of all views of an image
    text_flops: int  # of a caption that fills its context; 0 without a text tower
    # Of all views of an image in the teacher, which has no backward; 0 without a teacher.
    teacher_flops: int

    @property
    def text_share_of_flops(self) -> float:
        """Return the text tower's share of the FLOPs of both towers' forward."""
        return self.text_flops / (self.text_flops + self.image_flops)


def count_parameters_and_forward_flops(experiment: Experiment) -> ParametersAndForwardFlops:
    """Count parameters and FLOPs of an experiment on the `meta` device, without weights and data."""
    tower, model = build_tower_and_model_on_meta(experiment)
    caption = make_meta_captions(1, experiment.text.context_length)
    method = get_method(experiment.method)
    image = make_meta_images(method.views, experiment.image.image_size, PIXEL_CHANNELS)
    # The mean over the images of equally many batches of each side.
    num_images = 0
    flops_of_images = 0
    for side in experiment.image.all_image_sizes:
        batch_size = experiment.device_batch_size_at(side)
        num_images += batch_size
        flops_of_images += batch_size * count_flops_of_one_image(tower, tower.channels, side)
    view_flops = flops_of_images // num_images
    teacher_flops = 0
    if isinstance(model, DistillationStudent):
        teacher_flops = count_matmul_flops(lambda: model.compute_teacher_features(image))
    return ParametersAndForwardFlops(
        trained_parameters=count_trained_parameters(model),
        tower_parameters=sum(parameter.numel() for parameter in tower.parameters()),
        image_flops=method.views * view_flops,
        text_flops=count_text_forward_flops(method, model, caption),
        teacher_flops=teacher_flops,
    )


def count_mean_step_flops(
    experiment: Experiment, targets: Sequence[Target], image_sizes: Sequence[int] = ()
) -> StepFlops:
    """Count the FLOPs of a step's matrix products on the `meta` device, the mean over batches with these targets.

    On the CPU, torch's counter misses attention. `image_sizes` are the sides of the batches' images in pixels (by
    default the experiment's one size). Text is counted at the computed tokens: packed rows as they are; else each width
    as if the whole batch had it, then the mean over the captions, because the text tower's work is proportional to the
    captions. Recomputation in the backward and products with simulated captions are counted. Elementwise work is not
    counted, nor are products of this process's images with the captions of other processes.
    """
    tower, model = build_tower_and_model_on_meta(experiment)
    sizes = image_sizes or [experiment.image.image_size] * len(targets)
    weighted_flops = []
    for size, pairs in group_by(zip(sizes, targets, strict=True), itemgetter(0)).items():
        targets_of_size = [target for _, target in pairs]
        flops = _count_mean_step_flops_at_size(experiment, tower, model, size, targets_of_size)
        weighted_flops.append((len(pairs), flops))
    return _weighted_mean_flops(weighted_flops)


def _count_mean_step_flops_at_size(
    experiment: Experiment,
    tower: nn.Module,
    model: nn.Module,
    image_size: int,
    targets: Sequence[Target],
) -> StepFlops:
    """Count a step at one image side, the mean over batches with these targets."""
    method = get_method_with_augmentation(experiment)
    captioning_method = get_method(experiment.method)
    simulated = make_simulated_group(
        experiment.method, experiment.runtime, experiment.training.batch_size
    )
    target = targets[0].to(META)
    batch = make_meta_batch(experiment, image_size, target)
    all_views = batch.images.flatten(0, -4)  # of all images, in one dimension
    image_forward = count_forward_flops(tower, all_views)

    def count(target: Target) -> StepFlops:
        def compute_loss() -> Tensor:
            return replace(batch, target=target).compute_loss(method.loss, model, simulated)

        with torch.no_grad():  # a loss may compute its gradient in its forward
            forward = count_matmul_flops(compute_loss)
        step = count_step_matmul_flops(compute_loss)
        return StepFlops(
            image_forward=image_forward,
            text_forward=count_text_forward_flops(captioning_method, model, target.captions),
            forward=forward,
            step=step.total,
            teacher_forward=step.without_backward,
        )

    texts = [target.captions for target in targets if target.captions]
    if not texts:
        return count(target)

    def count_with(captions: CaptionTokens) -> StepFlops:
        return count(target.with_captions(captions))

    is_packed = texts[0].positions is not None
    if is_packed:  # batches are counted as they are, once for each number of rows
        groups = group_by(texts, lambda text: len(text.groups[0])).values()
        return _weighted_mean_flops(
            [(len(group), count_with(group[0].to(META))) for group in groups]
        )
    weighted_flops = []
    for width, weight in _weights_of_three_widths(texts).items():
        if weight:
            captions = make_meta_captions(len(batch.images), width)
            weighted_flops.append((weight, count_with(captions)))
    return _weighted_mean_flops(weighted_flops)


def _weights_of_three_widths(texts: Iterable[CaptionTokens]) -> Counter[int]:
    """Return weights of the widest caption's width and of the next two, whose mean is that over the captions.

    FLOPs are of second degree in the width, so that three widths give the FLOPs at all others, by Newton's formula.
    """
    num_captions = Counter[int]()
    for text in texts:
        num_captions += text.num_rows_by_width
    widest = max(num_captions)
    weights = Counter[int]()
    for width, count in num_captions.items():
        n = widest - width
        pairs = n * (n - 1) // 2
        weights[widest] += count * (1 - n + pairs)
        weights[widest - 1] += count * (n - 2 * pairs)
        weights[widest - 2] += count * pairs
    return weights


def count_text_forward_flops(method: Method, model: Any, captions: CaptionTokens | None) -> int:
    """Count a forward of the text tower or decoder over a batch of captions on the `meta` device; 0 without one."""
    text_module = getattr(model, method.text_module, None)
    if captions is None or text_module is None:
        return 0
    images = make_meta_images(len(captions.lengths), model.tower.image_size, model.tower.channels)
    with torch.no_grad():  # a decoder may compute gradients in its forward
        inputs = method.text_inputs(model, images, captions)
        return count_forward_flops(text_module, *inputs)


def _weighted_mean_flops(weighted_flops: Sequence[tuple[int, StepFlops]]) -> StepFlops:
    """Return the mean of (weight, FLOPs) pairs, rounded down to whole operations."""
    total_weight = sum(weight for weight, _ in weighted_flops)
    means = {}
    for name in StepFlops.__struct_fields__:
        total = sum(weight * getattr(flops, name) for weight, flops in weighted_flops)
        means[name] = total // total_weight
    return StepFlops(**means)


def build_tower_and_model_on_meta(experiment: Experiment) -> tuple[ImageTower, nn.Module]:
    """Return the image tower and the model around it, on the `meta` device."""
    with META:
        tower = build_untrained_tower(experiment)
        model = get_method_with_augmentation(experiment).build_model(tower, experiment)
    if experiment.runtime.activation_checkpointing:
        enable_activation_checkpointing(model)
    return tower, model


def make_meta_images(num_images: int, image_size: int, channels: int) -> torch.Tensor:
    """Return a batch of images, `image_size` pixels a side, on the `meta` device."""
    return torch.empty(num_images, channels, image_size, image_size, device=META)


def make_meta_batch(experiment: Experiment, image_size: int, target: T) -> Batch[T]:
    """Return a batch on the `meta` device, with the views and the rows that the experiment's method reads."""
    method = get_method(experiment.method)
    batch_size = experiment.device_batch_size_at(image_size)
    channels = experiment.image.input_embedding_grid_channels or PIXEL_CHANNELS
    images = make_meta_images(batch_size * method.views, image_size, channels)
    if method.views > 1:
        images = images.view(batch_size, method.views, *images.shape[1:])
    rows = None
    if method.reads_rows_and_step:
        rows = torch.zeros(batch_size, dtype=torch.int64, device=META)
    return Batch(images, target, rows=rows)


def make_meta_captions(num_captions: int, width: int) -> CaptionTokens:
    """Return a batch of captions on the `meta` device, each `width` tokens long."""
    with META:
        ids = torch.zeros(num_captions, width, dtype=torch.int64)
        row = torch.zeros(num_captions, dtype=torch.int64)
    return CaptionTokens((ids,), row, row, row, "max_length")
