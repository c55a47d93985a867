"""SuperClass and SuperCLIP as released: the head reads the mean of the patch tokens after the last norm."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.data.targets import CaptionsWithRows
from bench.interfaces.method import METHODS
from bench.train.build import build_untrained_tower
from models.image_tower import build_image_tower
from tests.small import small

CAPTIONS = CaptionsWithRows.from_texts(
    ["a red apple", "two dogs and a cat", "a dog with a red ball"]
)


def built(method: str, **changes: object) -> tuple[Any, Tensor, Any]:
    """Return a method's model in float64, with images and targets; its head and scale are moved off their start."""
    experiment = small(method, **changes)
    torch.manual_seed(1)
    model = METHODS[method].build_model(build_untrained_tower(experiment), experiment).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return (
        model,
        torch.randn(3, 3, 48, 48, dtype=torch.float64),
        METHODS[method].make_target_function(experiment)(CAPTIONS),
    )


def norm_by_hand(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = x - x.sum() / len(x)
    return centred / ((centred**2).sum() / len(x) + norm.eps).sqrt() * norm.weight + norm.bias


def tokens_before_norm(model: Any, images: Tensor) -> Tensor:
    trunk = model.tower.trunk
    return trunk.transformer(trunk._embeds(images))


def head_loss_by_hand(model: Any, images: Tensor, labels: Any) -> Tensor:
    """Image by image and patch by patch: norm, mean, norm, linear layer, and softmax against the weighted tokens."""
    trunk, (norm, linear) = model.tower.trunk, model.head
    loss = torch.zeros((), dtype=torch.float64)
    starts, columns = labels.starts.tolist(), labels.columns.tolist()
    seen = {token: columns.count(token) for token in columns}
    for row, tokens in enumerate(tokens_before_norm(model, images)):
        patches = [norm_by_hand(token, trunk.ln_post) for token in tokens[1:]]
        logits = linear.weight @ norm_by_hand(sum(patches) / len(patches), norm) + linear.bias
        weights = {
            token: math.log(4 / (seen[token] + 1))
            for token in columns[starts[row] : starts[row + 1]]
        }
        for token, weight in weights.items():
            share = weight / sum(weights.values())
            loss += (logits.exp().sum().log() - logits[token]) * share / len(images)
    return loss


def clip_loss_by_hand(model: Any, images: Tensor, captions: Any) -> Tensor:
    tokens = tokens_before_norm(model, images)[:, 0]
    projected = [
        norm_by_hand(token, model.tower.trunk.ln_post) @ model.projection for token in tokens
    ]
    texts = model.text(*captions.text_tower_inputs)
    logits = [
        [model.log_scale.exp() * image @ text / image.norm() / text.norm() for text in texts]
        for image in projected
    ]
    loss = torch.zeros((), dtype=torch.float64)
    for one in range(3):
        for others in (logits[one], [row[one] for row in logits]):
            loss += (torch.stack(others).exp().sum().log() - logits[one][one]) / 6
    return loss


@pytest.mark.parametrize("method", ["superclass", "superclip"])
def test_loss_and_gradients_equal_the_released_formula(method: str) -> None:
    model, images, target = built(method)
    loss = METHODS[method].loss(model, images, target, None)
    by_hand = head_loss_by_hand(model, images, getattr(target, "labels", target))
    if method == "superclip":
        by_hand += clip_loss_by_hand(model, images, target.tokens)
    torch.testing.assert_close(loss, by_hand, rtol=1e-9, atol=1e-9)
    names, parameters = zip(*model.named_parameters(), strict=True)
    for name, *gradients in zip(
        names,
        torch.autograd.grad(loss, parameters),
        torch.autograd.grad(by_hand, parameters),
        strict=True,
    ):
        torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9, msg=name)


def test_class_token_that_a_tower_does_not_pool_itself_is_pooled_where_both_are_asked_for() -> None:
    """timm's `Eva` of DINOv3 has a class token and four registers, and pools the mean of the patches."""
    own, mean, both = (
        build_image_tower("vit_tiny_patch16_dinov3_qkvb", 32, 3, pooling=pooling).eval()
        for pooling in ("tower", "mean", "mean_for_classifier")
    )
    images = torch.randn(2, 3, 32, 32)
    tokens = own.trunk.forward_features(images)
    feature, patch_mean = both(images, with_patch_mean=True)
    for found in (own(images), mean(images), patch_mean):
        torch.testing.assert_close(found, tokens[:, 5:].mean(dim=1))
    for found in (both(images), feature):
        torch.testing.assert_close(found, tokens[:, 0])
