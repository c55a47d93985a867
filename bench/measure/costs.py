"""The costs of an experiment by count: parameters, and FLOPs of an image and its caption."""

from dataclasses import dataclass
from functools import cache, partial

import torch
from msgspec.structs import replace
from torch import nn

from bench.config import Experiment
from bench.measure.flops import META, build_on_meta, meta_captions, meta_images
from bench.profilers.flops import count_matmul_flops
from bench.train.build import count_trained_parameters
from models.heads import Classifier, DualEncoder, ImageProjection, Student
from models.image_tower import PIXEL_CHANNELS, build_image_tower
from models.text_tower import open_clip_text_tower


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
    tower, model = build_on_meta(replace(experiment, image_sizes=()))  # the weights are the same
    caption = meta_captions(1, experiment.context_length)
    text = teacher = 0
    if isinstance(model, DualEncoder):
        text = count_matmul_flops(lambda: model.text(caption.groups, caption.lengths, caption.inverse_permutation))
    drawn = experiment.image_sizes, experiment.patch_drop, experiment.embedding_channels
    flops = _image_flops(experiment.tower, experiment.image_size, *drawn)
    images = {side: experiment.batch_size_for(side) for side in experiment.all_image_sizes}
    if isinstance(model, Student) and model.teacher is not None:
        teacher = count_matmul_flops(
            lambda: model.teacher_features(meta_images(1, experiment.image_size, PIXEL_CHANNELS))
        )
    return Costs(
        parameters=count_trained_parameters(model),
        tower_parameters=_num_parameters(tower),
        image_flops=sum(images[side] * flops[side] for side in images) // sum(images.values()),
        text_flops=text,
        teacher_flops=teacher,
    )


def count_flops_as_released(experiment: Experiment) -> int:
    """Return the FLOPs of a forward of one image with its caption in the released code of the methods.

    Captions are padded to the context, and every token is computed. With several image sizes it is the mean.
    """
    _, model = build_on_meta(replace(experiment, image_sizes=()))
    beside = 0
    if isinstance(model, Classifier):
        beside = count_matmul_flops(lambda: model.head(torch.empty(1, model.head.in_features, device=META)))
    if isinstance(model, ImageProjection):
        with META:
            text = open_clip_text_tower(experiment.text_tower, experiment.context_length, 2)
            ids = torch.zeros(1, experiment.context_length, dtype=torch.int64)
        beside = count_matmul_flops(lambda: text(ids))
    return count_costs(experiment).image_flops + beside


@cache
def _image_flops(
    name: str, image_size: int, image_sizes: tuple[int, ...], patch_drop: float, channels: int | None
) -> dict[int, int]:
    """Return the FLOPs of an image, by its side in pixels."""
    with META:
        tower = build_image_tower(name, image_size, 0, image_sizes, patch_drop, channels)
    return {
        side: count_matmul_flops(partial(tower, meta_images(1, side, tower.channels)))
        for side in image_sizes or (image_size,)
    }


def _num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
