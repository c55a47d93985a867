"""A method on images that RangeAugment changes inside the forward, because the loss trains its ranges."""

from dataclasses import replace
from typing import Any, cast

from torch import Tensor, nn

from bench.config import Experiment
from bench.data.transforms import denormalise, normalise
from bench.methods import METHODS, Loss, Method
from bench.train.distributed import world_size
from losses.chunks import loss_dtype
from losses.collectives import ProcessGroupLike
from losses.psnr import psnr_loss, scheduled_error
from models import Images
from models.image_tower import ImageTower
from models.range_augment import RangeAugment


def get_augmented_method(experiment: Experiment) -> Method[Any, Any]:
    """Return the experiment's method; with RangeAugment its loss is of augmented images, and the PSNR loss is added.

    `augmentor` is a part of the model beside the tower. As in the released code, the method's loss trains it, too, its
    target error rises over the steps of the experiment's images, and scoring does not apply it.
    """
    method = METHODS[experiment.method]
    if experiment.augmentation == "none":
        return method
    images_per_step = experiment.mean_batch_size * world_size()
    num_steps = max(1, round(experiment.images / images_per_step))

    def build_model(tower: ImageTower, experiment: Experiment) -> nn.Module:
        model: nn.Module = method.build_model(tower, experiment)
        model.augmentor = RangeAugment()
        return model

    def loss(model: nn.Module, images: Images, target: Any, group: ProcessGroupLike) -> Loss:
        augmented, range_loss = _augment(cast("RangeAugment", model.augmentor), images, num_steps)
        total: Tensor = method.loss(model, augmented, target, group) + range_loss
        return total

    def after_update(model: nn.Module) -> None:
        method.after_update(model)
        cast("RangeAugment", model.augmentor).steps_taken.add_(1)

    return replace(method, build_model=build_model, loss=loss, after_update=after_update)


def _augment(augmentor: RangeAugment, images: Images, num_steps: int) -> tuple[Images, Loss]:
    """Return augmented images, normalised as the given ones, and the loss of the ranges."""
    pixels = denormalise(images.to(loss_dtype(images.dtype)))
    augmented: Tensor = augmentor(pixels)
    range_loss = psnr_loss(pixels, augmented, scheduled_error(augmentor.steps_taken, num_steps))
    return normalise(augmented).to(images.dtype), range_loss
