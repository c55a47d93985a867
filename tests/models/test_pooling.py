"""SuperClass and SuperCLIP as released: the head reads the mean of the patch tokens after the last norm."""

import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.data.targets import Captions
from bench.interfaces.method import METHODS
from bench.train.build import build_untrained_tower
from models.image_tower import build_image_tower
from tests.models.superclass_checkouts import (
    RELEASED,
    label_rows,
    released_model_and_loss,
    their_name,
)
from tests.small import small

CAPTIONS = Captions.from_texts(["a red apple", "two dogs and a cat", "a dog with a red ball"])
VITS = [("catlip-bench-tiny", 48), ("test_vit", 32)]


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
        METHODS[method].targets(experiment)(CAPTIONS),
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
    texts = model.text(*captions.inputs)
    logits = [
        [model.log_scale.exp() * image @ text / image.norm() / text.norm() for text in texts]
        for image in projected
    ]
    loss = torch.zeros((), dtype=torch.float64)
    for one in range(3):
        for others in (logits[one], [row[one] for row in logits]):
            loss += (torch.stack(others).exp().sum().log() - logits[one][one]) / 6
    return loss


def assert_same_values_and_gradients(model: Any, losses: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(*losses, rtol=1e-9, atol=1e-9)
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = [torch.autograd.grad(loss, parameters, allow_unused=True) for loss in losses]
    for name, ours, theirs in zip(names, *gradients, strict=True):
        assert ours is not None, name
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9, msg=name)


def test_superclass_loss_and_gradients_equal_the_released_formula() -> None:
    model, images, target = built("superclass")
    loss = METHODS["superclass"].loss(model, images, target, None)
    assert_same_values_and_gradients(model, (loss, head_loss_by_hand(model, images, target)))


def test_superclip_loss_and_gradients_equal_the_released_formula() -> None:
    model, images, target = built("superclip")
    loss = METHODS["superclip"].loss(model, images, target, None)
    by_hand = clip_loss_by_hand(model, images, target.tokens) + head_loss_by_hand(
        model, images, target.labels
    )
    assert_same_values_and_gradients(model, (loss, by_hand))


@pytest.mark.filterwarnings("ignore")  # of the released imports
@pytest.mark.parametrize("method", ["superclass", "superclip"])
def test_logits_loss_and_gradients_equal_those_of_a_released_checkout(method: str) -> None:
    """Logits and features to 1e-9; the loss to 1e-6, for the released targets are fp32."""
    if not (checkout := os.environ.get(variable := f"CATLIP_BENCH_{method.upper()}", "")):
        pytest.skip(f"{variable} names no checkout of {RELEASED[method][0]}")
    model, images, target = built(method)
    theirs, their_loss = released_model_and_loss(method, Path(checkout), model)
    rows = label_rows(getattr(target, "labels", target))
    if method == "superclip":
        feature, classified = model.pair_and_classifier_features(images)
        ours = [
            model.head(classified),
            *model.project_and_encode_captions(feature, *target.tokens.inputs),
        ]
        found = theirs(images, target.tokens.groups[0]) | {"labels": rows}
        reference = [found["logits"], found["image_features"], found["text_features"]]
    else:
        ours, found = [model(images)], theirs(images, rows)
        reference = [found["logits"]]
    for one, other in zip(ours, reference, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    weights = [torch.randn_like(one) for one in ours]
    their_parameters = dict(theirs.named_parameters())
    pairs = [
        (one, their_parameters[their_name(name)])
        for name, one in model.named_parameters()
        if name != "log_scale"
    ]
    for mine, other in zip(
        torch.autograd.grad(weighted_sum(ours, weights), [mine for mine, _ in pairs]),
        torch.autograd.grad(
            weighted_sum(reference, weights), [other for _, other in pairs], retain_graph=True
        ),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)
    losses = their_loss(**found)
    losses = sum(losses) if isinstance(losses, tuple) else losses
    torch.testing.assert_close(
        METHODS[method].loss(model, images, target, None), losses, rtol=1e-6, atol=1e-6
    )


def weighted_sum(outputs: list[Tensor], weights: list[Tensor]) -> Tensor:
    return torch.stack(
        [(one * weight).sum() for one, weight in zip(outputs, weights, strict=True)]
    ).sum()


def test_class_token_that_a_tower_does_not_pool_itself_is_pooled_where_both_are_asked_for() -> None:
    """timm's `Eva` of DINOv3 has a class token and four registers, and pools the mean of the patches."""
    own, mean, both = (
        build_image_tower("vit_tiny_patch16_dinov3_qkvb", 32, 3, pooling=pooling).eval()
        for pooling in ("own", "mean", "both")
    )
    images = torch.randn(2, 3, 32, 32)
    tokens = own.trunk.forward_features(images)
    feature, patch_mean = both(images, with_patch_mean=True)
    for found in (own(images), mean(images), patch_mean):
        torch.testing.assert_close(found, tokens[:, 5:].mean(dim=1))
    for found in (both(images), feature):
        torch.testing.assert_close(found, tokens[:, 0])


@pytest.mark.parametrize(("name", "size"), VITS)
def test_only_kept_patches_are_in_the_mean(name: str, size: int) -> None:
    """With one patch kept, the mean is that patch: images that are equal in all patches have one feature."""
    towers = [
        build_image_tower(name, size, 0, patch_drop=0.99, pooling=pooling)
        for pooling in ("mean", "both")
    ]
    images = torch.randn(1, 3, size, size).repeat(32, 1, 1, 1)
    features = towers[0].train()(images), towers[1].train()(images, with_patch_mean=True)[1]
    for one in features:
        assert 2 <= len(one.round(decimals=3).unique(dim=0)) <= 16  # patches
    assert len(towers[0].eval()(images).round(decimals=3).unique(dim=0)) == 1
