"""CLIP classifies which of the batch's captions belongs to each image, and the reverse."""

from typing import TYPE_CHECKING

from bench.experiment.config import Experiment
from bench.methods.contrastive import SoftmaxContrastiveMethod

if TYPE_CHECKING:
    from torch import Tensor

    from bench.data.targets import CaptionTokens, PrecomputedFeatures
    from losses.collectives import ProcessGroupLike
    from models import Images
    from models.heads import ProjectedImageTower
    from models.image_tower import ImageTower

SCALE = 1 / 0.07  # of the logits, initially


class Clip(SoftmaxContrastiveMethod):
    """Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", 2103.00020."""

    name = "clip"
    title = "CLIP"
    targets_description = "the caption's token ids, through a text tower"
    loss_description = "contrastive: cross-entropy over the batch, image to caption and back"
    ladder_role = "pair"

    def build_model(self, tower: "ImageTower", experiment: Experiment) -> "ProjectedImageTower":
        from bench.method_parts.captions import build_contrastive_model

        return build_contrastive_model(tower, experiment, SCALE, None)

    def loss(
        self,
        model: "ProjectedImageTower",
        images: "Images",
        target: "CaptionTokens | PrecomputedFeatures",
        group: "ProcessGroupLike",
    ) -> "Tensor":
        from bench.method_parts.captions import clip_loss, encode_images_and_captions

        return clip_loss(model, *encode_images_and_captions(model, images, target), group)
