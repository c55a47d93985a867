"""SigLIP classifies for every image and caption of the batch whether they are a pair."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from bench.experiment.config import Experiment
from bench.interfaces.method import LossCommunication
from bench.methods.contrastive import ContrastiveMethod

if TYPE_CHECKING:
    from torch import Tensor

    from bench.data.targets import CaptionTokens, PrecomputedFeatures
    from losses.collectives import ProcessGroupLike
    from models import Images
    from models.heads import ProjectedImageTower
    from models.image_tower import ImageTower

SCALE = 10.0  # of the logits, initially
BIAS = -10.0  # of the logits, initially


class SigLip(ContrastiveMethod):
    """Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", arXiv:2303.15343."""

    name = "siglip"
    title = "SigLIP"
    targets_description = "the caption's token ids, through a text tower"
    loss_description = "sigmoid: for every image and caption of the batch, whether they are a pair"
    ladder_role = "pair"
    # The logits once, because the forward computes the gradients.
    communication = LossCommunication(loss_products=3)

    def config_errors(self, experiment: Experiment) -> Iterator[str]:
        if experiment.runtime.clip_loss_precision == "autocast":
            yield "clip_loss_precision must be fp32, for siglip's loss has no other, got autocast"
        if experiment.runtime.gathered_features == "both":
            yield "gathered_features must be captions, for siglip's loss needs no images of other processes, got both"

    def build_model(self, tower: "ImageTower", experiment: Experiment) -> "ProjectedImageTower":
        from bench.method_parts.captions import build_contrastive_model

        return build_contrastive_model(tower, experiment, SCALE, BIAS)

    def loss(
        self,
        model: "ProjectedImageTower",
        images: "Images",
        target: "CaptionTokens | PrecomputedFeatures",
        group: "ProcessGroupLike",
    ) -> "Tensor":
        from bench.method_parts.captions import encode_images_and_captions
        from losses.sigmoid import sigmoid_loss

        image, text = encode_images_and_captions(model, images, target)
        return sigmoid_loss(image, text, model.log_scale.exp(), cast("Tensor", model.bias), group)
