"""The costs of an experiment by count: parameters, and FLOPs of an image and its caption."""

from dataclasses import dataclass
from functools import cache, partial

import torch
from msgspec.structs import replace
from torch import nn

from bench.config import Experiment
from bench.measure.flops import META, captions_of, images_of, on_meta
from bench.profilers.flops import counted
from bench.train.build import trained_parameters
from models.heads import Classifier, Contrastive, ImageSide, Student
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


def costs_of(experiment: Experiment) -> Costs:
    """Count on the `meta` device, without weights and data."""
    tower, model = on_meta(replace(experiment, image_sizes=()))  # the weights are the same
    caption = captions_of(1, experiment.context_length)
    text = teacher = 0
    if isinstance(model, Contrastive):
        text = counted(lambda: model.text(caption.groups, caption.lengths, caption.places))
    drawn = experiment.image_sizes, experiment.patch_drop, experiment.embedding_channels
    flops = _image_flops(experiment.tower, experiment.image_size, *drawn)
    images = {side: experiment.batch_size_at(side) for side in experiment.sides}
    if isinstance(model, Student) and model.teacher is not None:
        teacher = counted(lambda: model.taught(images_of(1, experiment.image_size, PIXEL_CHANNELS)))
    return Costs(
        parameters=trained_parameters(model),
        tower_parameters=_size(tower),
        image_flops=sum(images[side] * flops[side] for side in images) // sum(images.values()),
        text_flops=text,
        teacher_flops=teacher,
    )


def released_flops(experiment: Experiment) -> int:
    """Return the FLOPs of a forward of one image with its caption in the released code of the methods.

    Captions are padded to the context, and every token is computed. With several image sizes it is the mean.
    """
    _, model = on_meta(replace(experiment, image_sizes=()))
    beside = 0
    if isinstance(model, Classifier):
        beside = counted(lambda: model.head(torch.empty(1, model.head.in_features, device=META)))
    if isinstance(model, ImageSide):
        with META:
            text = open_clip_text_tower(experiment.text_tower, experiment.context_length, 2)
            ids = torch.zeros(1, experiment.context_length, dtype=torch.int64)
        beside = counted(lambda: text(ids))
    return costs_of(experiment).image_flops + beside


@cache
def _image_flops(
    name: str, image_size: int, image_sizes: tuple[int, ...], patch_drop: float, channels: int | None
) -> dict[int, int]:
    """Return the FLOPs of an image, by its side in pixels."""
    with META:
        tower = build_image_tower(name, image_size, 0, image_sizes, patch_drop, channels)
    return {side: counted(partial(tower, images_of(1, side, tower.channels))) for side in image_sizes or (image_size,)}


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
