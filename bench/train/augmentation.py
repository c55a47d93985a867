"""A method on images that RangeAugment changes inside the forward, because the loss trains its ranges."""

from typing import Any, cast

from torch import Tensor, nn

from bench.data.transforms import denormalise, normalise
from bench.experiment.config import Experiment
from bench.interfaces.method import Method, get_method
from bench.interfaces.optimizer import ParameterGroup
from bench.train.distributed import world_size
from losses.chunks import loss_dtype
from losses.collectives import ProcessGroupLike
from losses.psnr import psnr_loss, scheduled_target_mse
from models import Images, ImagesOrViews
from models.image_tower import ImageTower
from models.range_augment import RangeAugment


class MethodWithRangeAugment(Method):
    """Another method, on images that RangeAugment changes; its PSNR loss is added to the method's.

    `augmentor` is a part of the model beside the tower. As in the released code, the loss of the method trains it, too,
    the target of its error rises over the steps of the experiment's images, and scoring does not apply it.
    """

    def __init__(self, method: Method, num_steps: int) -> None:
        self._method = method
        self._num_steps = num_steps

    def build_model(self, tower: ImageTower, experiment: Experiment) -> nn.Module:
        model = self._method.build_model(tower, experiment)
        model.augmentor = RangeAugment()
        return model

    def loss(
        self,
        model: nn.Module,
        images: ImagesOrViews,
        target: Any,
        group: ProcessGroupLike,
        **further: Any,
    ) -> Tensor:
        augmentor = cast("RangeAugment", model.augmentor)
        flat_images = images.flatten(0, -4)  # all views of all images, in one dimension
        augmented, range_loss = _augment_and_compute_psnr_loss(
            augmentor, flat_images, self._num_steps
        )
        augmented = augmented.view_as(images)
        return self._method.loss(model, augmented, target, group, **further) + range_loss

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        """Return the method's groups, and one of the ranges, which have weight decay although they are scalars.

        Source: apple/corenet at 1aa3acd, `corenet/modeling/misc/common.py`, `parameter_list`.
        """
        ranges = dict.fromkeys(cast("RangeAugment", model.augmentor).parameters())
        groups = self._method.parameter_groups(model)
        for group in groups:
            group["params"] = [value for value in group["params"] if value not in ranges]
        return [*groups, {"params": [*ranges]}]

    def after_update(self, model: nn.Module) -> None:
        self._method.after_update(model)
        cast("RangeAugment", model.augmentor).steps_taken.add_(1)


def get_method_with_augmentation(experiment: Experiment) -> Method:
    """Return the experiment's method, wrapped in `MethodWithRangeAugment` if the experiment sets that augmentation."""
    method = get_method(experiment.method)
    if experiment.input.augmentation == "none":
        return method
    images_per_step = experiment.mean_device_batch_size * world_size()
    num_steps = max(1, round(experiment.training.images_seen / images_per_step))
    return MethodWithRangeAugment(method, num_steps)


def _augment_and_compute_psnr_loss(
    augmentor: RangeAugment, images: Images, num_steps: int
) -> tuple[Images, Tensor]:
    """Return augmented images, normalised as the given ones, and RangeAugment's loss."""
    pixels = denormalise(images.to(loss_dtype(images.dtype)))
    augmented: Tensor = augmentor(pixels)
    target_mse = scheduled_target_mse(augmentor.steps_taken, num_steps)
    range_loss = psnr_loss(pixels, augmented, target_mse)
    return normalise(augmented).to(images.dtype), range_loss
