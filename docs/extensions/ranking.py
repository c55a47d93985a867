"""The hardest caption of the batch must be less similar to an image than its own (after Faghri et al. 2018, VSE++)."""

from typing import Annotated

import torch
import torch.nn.functional as F

from bench.experiment.experiments import MethodChangesFromClip
from bench.experiment.fields import PositiveFloat, SettingsGroup, field_metadata
from bench.interfaces.extensions import Extension
from bench.interfaces.method import LossCommunication
from bench.method_parts.captions import build_contrastive_model, encode_images_and_captions
from bench.methods.contrastive import ContrastiveMethod
from losses.chunks import without_autocast
from losses.collectives import all_gather_with_gradient, rank_and_world_size


class RankingSettings(SettingsGroup, frozen=True):
    margin: Annotated[
        PositiveFloat,
        field_metadata("Difference of similarities above which a caption costs little."),
    ] = 0.2


class Ranking(ContrastiveMethod):
    name = "ranking"
    title = "VSE++, smooth"
    targets_description = "the caption's token ids, through a text tower"
    loss_description = "softplus of how much the hardest caption is too similar to an image"
    ladder_role = "pair"  # `explain` leads from here to a classifier
    communication = LossCommunication(loss_products=3)  # the similarity, and two gradients
    settings = RankingSettings

    def build_model(self, tower, experiment):
        model = build_contrastive_model(tower, experiment, initial_scale=10.0, initial_bias=None)
        model.margin = self.own_settings(experiment).margin
        return model

    def loss(self, model, images, target, group):
        image, text = encode_images_and_captions(model, images, target)
        with without_autocast(images.device):
            rank, _ = rank_and_world_size(group)
            similarity = image.float() @ all_gather_with_gradient(text.float(), group).T
            matching = similarity.diagonal(rank * len(image))
            mask = torch.eye(*similarity.shape, device=similarity.device).roll(rank * len(image), 1)
            hardest = (similarity - 2 * mask).amax(1)
            scale = model.log_scale.exp()
            return (F.softplus(scale * (model.margin + hardest - matching)) / scale).mean()


EXTENSION = Extension(
    methods=[Ranking()],
    experiments={
        "ranking": MethodChangesFromClip("ranking", {"learning_rate": 1e-3}),
        "ranking-half": MethodChangesFromClip("ranking", {"patch_drop": 0.5, "margin": 0.1}),
    },
)
