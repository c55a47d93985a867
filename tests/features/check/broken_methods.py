"""An extension whose methods each break one rule."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.data.targets import CaptionTokens
from bench.interfaces.extensions import Extension
from bench.interfaces.method import Method
from bench.method_parts.captions import make_token_function
from models.heads import ImageClassifier

CLASSES = 4


class Broken(Method):
    """Cross-entropy of a class for each image, which its brightest corner says."""

    def build_model(self, tower: Any, _: Any) -> nn.Module:
        return ImageClassifier(tower, nn.Linear(tower.width, CLASSES))

    def loss(self, model: Any, images: Tensor, _target: Any, _: Any) -> Tensor:
        return F.cross_entropy(model(images), brightest_corner(images))


def brightest_corner(images: Tensor) -> Tensor:
    corners = images[:, 0, :2, :2].flatten(1)
    return corners.argmax(1)


class TowerElsewhere(Broken):
    name = "tower_elsewhere"

    def build_model(self, tower: Any, _: Any) -> nn.Module:
        return nn.Sequential(tower, nn.Linear(tower.width, CLASSES))


class NoTower(Broken):
    name = "no_tower"

    def loss(self, model: Any, images: Tensor, _target: Any, _: Any) -> Tensor:
        features = images.mean((1, 2, 3))[:, None].expand(-1, model.tower.width)
        return F.cross_entropy(model.head(features), brightest_corner(images))


class ReadsItem(Broken):
    name = "reads_item"

    def loss(self, model: Any, images: Tensor, _target: Any, _: Any) -> Tensor:
        losses = F.cross_entropy(model(images), brightest_corner(images), reduction="none")
        return losses.mean() / max(1.0, losses.max().item())


class NotScalar(Broken):
    name = "not_scalar"

    def loss(self, model: Any, images: Tensor, _target: Any, _: Any) -> Tensor:
        return F.cross_entropy(model(images), brightest_corner(images), reduction="none")


class NoGradient(Broken):
    name = "no_gradient"

    def loss(self, model: Any, images: Tensor, _target: Any, _: Any) -> Tensor:
        return F.cross_entropy(model(images), brightest_corner(images)).detach()


class DetachedTower(Broken):
    name = "detached_tower"

    def loss(self, model: Any, images: Tensor, _target: Any, _: Any) -> Tensor:
        return F.cross_entropy(model.head(model.tower(images).detach()), brightest_corner(images))


class SumOfBatch(Broken):
    name = "sum_of_batch"

    def loss(self, model: Any, images: Tensor, _target: Any, _: Any) -> Tensor:
        return F.cross_entropy(model(images), brightest_corner(images), reduction="sum")


class NotFinite(Broken):
    name = "not_finite"

    def loss(self, model: Any, images: Tensor, _target: Any, _: Any) -> Tensor:
        return (model(images).abs().sum() - 1e6).log()


class HoldsLambda(Broken):
    name = "holds_lambda"

    def __init__(self) -> None:
        self.double = lambda value: 2 * value


class KeepsCount(Broken):
    """Its loss depends on the number of calls, which no checkpoint holds."""

    name = "keeps_count"

    def build_model(self, tower: Any, experiment: Any) -> nn.Module:
        model = super().build_model(tower, experiment)
        model.calls = 0
        return model

    def loss(self, model: Any, images: Tensor, _target: Any, _: Any) -> Tensor:
        model.calls += 1
        return F.cross_entropy(model(images), brightest_corner(images)) * model.calls


class MovesFrozen(Broken):
    """It changes a frozen parameter after each update, as a momentum encoder does."""

    name = "moves_frozen"

    def build_model(self, tower: Any, experiment: Any) -> nn.Module:
        model = super().build_model(tower, experiment)
        model.average = nn.Parameter(torch.zeros(CLASSES), requires_grad=False)
        return model

    def after_update(self, model: Any) -> None:
        model.average.lerp_(model.head.bias, 0.5)


class MeanOverTokens(Broken):
    """It averages over the tokens of a batch, padding included."""

    name = "mean_over_tokens"
    vocabulary_field = "subword_vocabulary"

    def runs_text_model_on_captions(self, _: Any) -> bool:
        return True

    def make_target_function(self, experiment: Any) -> Any:
        vocabulary = experiment.targets.subword_vocabulary
        return make_token_function(experiment.text, vocabulary, is_for_decoder=True)

    def loss(self, model: Any, images: Tensor, target: CaptionTokens, _: Any) -> Tensor:
        padded = torch.cat([ids.flatten() for ids in target.groups])
        return F.cross_entropy(model(images), brightest_corner(images)) * padded.double().mean()


class BiasOfGroup(Broken):
    """It has a parameter that only several processes read, with no effect on the loss."""

    name = "bias_of_group"

    def build_model(self, tower: Any, experiment: Any) -> nn.Module:
        model = super().build_model(tower, experiment)
        model.bias = nn.Parameter(torch.ones(()))
        return model

    def loss(self, model: Any, images: Tensor, _target: Any, group: Any) -> Tensor:
        loss = F.cross_entropy(model(images), brightest_corner(images))
        return loss if group is None else loss + 0 * model.bias


class FailsInGroup(Broken):
    name = "fails_in_group"

    def loss(self, model: Any, images: Tensor, target: Any, group: Any) -> Tensor:
        if group is not None:
            raise KeyError("queue")
        return super().loss(model, images, target, group)


METHODS = (
    TowerElsewhere,
    NoTower,
    ReadsItem,
    NotScalar,
    NoGradient,
    DetachedTower,
    SumOfBatch,
    NotFinite,
    HoldsLambda,
    KeepsCount,
    MovesFrozen,
    MeanOverTokens,
    BiasOfGroup,
    FailsInGroup,
)
EXTENSION = Extension(methods=[method() for method in METHODS])
