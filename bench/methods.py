"""The whole difference between the methods, on one screen.

A method defines the model around the shared tower, the targets beside the images, and the loss. Everything else (tower,
images, their order and augmentation, step, optimizer) is equal for all methods. A new method needs an entry here, its
name in `bench.config` and its traits and experiments in `bench.experiments`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bench.config import CONTRASTIVE, Experiment
from bench.data.released_labels import DenseLabels
from bench.data.targets import Captions, Features, Labels, NoTarget, Target, Tokens, TokensAndLabels
from bench.method_parts import models, targets
from losses.collectives import ProcessGroupLike, SimulatedGroup
from losses.contrastive import contrastive_loss
from losses.distillation import cosine_loss
from losses.multilabel import dense_multilabel_loss, multilabel_loss
from losses.sigmoid import sigmoid_loss
from losses.token_softmax import inverse_document_frequency, token_softmax_loss
from models import Images
from models.heads import Classifier, DualEncoderClassifier, ImageProjection, Student, TokenClassifier, TokenCounts
from models.image_tower import ImageTower

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T", bound=Target)
CLIP_SCALE = 1 / 0.07  # of the logits, initially
Loss = Float[Tensor, ""]


@dataclass(frozen=True, slots=True)
class Method(Generic[M, T]):
    """A way to pre-train an image tower: the model around it, its targets, and its loss.

    `loss` is a scalar in nats, averaged over the batch's images, on the device and attached to the graph; it is
    called in timed windows and copies nothing from the device. The group is that of the processes that share the batch:
    contrastive losses all-gather features themselves; the other losses average over the local batch, which has as
    many images on every process. `targets` turns captions into targets. `row_labels` returns the WordNet synsets of the
    classifier's rows, which can initialise a transfer; none without such a classifier.
    """

    build_model: Callable[[ImageTower, Experiment], M]
    targets: Callable[[Experiment], Callable[[Captions], T]]
    loss: Callable[[M, Images, T, ProcessGroupLike], Loss]
    after_update: Callable[[M], None] = lambda _: None
    row_labels: Callable[[Experiment], tuple[str, ...]] = lambda _: ()


# CLIP classifies which of the batch's captions belongs to each image, and the reverse.
build_clip = partial(models.build_dual_encoder, scale=CLIP_SCALE, bias=None)


def clip_loss(pair: ImageProjection, images: Images, target: Tokens | Features, group: ProcessGroupLike) -> Loss:
    return _contrast(pair, *_encode(pair, images, target), group)


@torch.no_grad()
def clamp_scale(pair: ImageProjection) -> None:
    """Keep the logit scale in [1, 100], as open_clip_train does after each update."""
    pair.log_scale.clamp_(0, math.log(100))


# SigLIP classifies for every image and caption of the batch whether they are a pair.
build_siglip = partial(models.build_dual_encoder, scale=10.0, bias=-10.0)


def siglip_loss(pair: ImageProjection, images: Images, target: Tokens | Features, group: ProcessGroupLike) -> Loss:
    return sigmoid_loss(*_encode(pair, images, target), pair.log_scale.exp(), cast("Tensor", pair.bias), group)


# CatLIP predicts the WordNet nouns in the caption.
def catlip_loss(model: Classifier, images: Images, target: Labels | DenseLabels, _group: ProcessGroupLike) -> Loss:
    if isinstance(target, DenseLabels):
        return dense_multilabel_loss(model(images), cast("Tensor", target.values))
    return multilabel_loss(model(images), target.rows, target.columns)


# SuperClass predicts the subwords of the caption from the mean of the patches, with higher weights for rare ones.
def superclass_loss(model: TokenClassifier, images: Images, target: Labels, group: ProcessGroupLike) -> Loss:
    return _weighted_softmax(model(images), target, model.counts, group)


# SuperCLIP adds CLIP's loss on the class token and SuperClass's loss on the mean of the patches, with equal weights.
build_superclip = partial(models.build_dual_encoder_classifier, scale=CLIP_SCALE)


def superclip_loss(
    pair: DualEncoderClassifier, images: Images, target: TokensAndLabels, group: ProcessGroupLike
) -> Loss:
    captions = target.tokens
    feature, classified = pair.embed(images)
    image, text = pair.encode_pair(feature, *captions.inputs)
    contrast = _contrast(pair, image, text, group)
    return contrast + _weighted_softmax(pair.head(classified), target.labels, pair.counts, group)


# Distillation predicts a teacher's features of the augmented image, or stored ones of the whole image; no caption.
def distill_loss(student: Student, images: Images, target: Features | NoTarget, _group: ProcessGroupLike) -> Loss:
    features = target.values if isinstance(target, Features) else student.teacher_features(images)
    return cosine_loss(student(images), features)


METHODS: dict[str, Method[Any, Any]] = {
    "clip": Method(build_clip, targets.tokens_or_features, clip_loss, clamp_scale),
    "siglip": Method(build_siglip, targets.tokens_or_features, siglip_loss),
    "catlip": Method(models.build_synset_classifier, targets.synset_labels, catlip_loss, row_labels=models.row_synsets),
    "superclass": Method(models.build_token_classifier, targets.subword_labels, superclass_loss),
    "superclip": Method(build_superclip, targets.tokens_and_labels, superclip_loss, clamp_scale),
    "distill": Method(models.build_student, targets.stored_teacher_features, distill_loss),
}


def simulated_group(experiment: Experiment) -> SimulatedGroup | None:
    """Return the simulated process group of a contrastive loss; None where nothing is simulated."""
    if experiment.simulated_global_batch is None or experiment.method not in CONTRASTIVE:
        return None
    return SimulatedGroup(max(1, experiment.simulated_global_batch // experiment.batch_size))


def _encode(pair: ImageProjection, images: Images, target: Tokens | Features) -> tuple[Tensor, Tensor]:
    if isinstance(target, Features):
        return pair.encode_with_text(images, target.values)
    image, text = pair(images, *target.inputs)
    return image, text


def _contrast(pair: ImageProjection, image: Tensor, text: Tensor, group: ProcessGroupLike) -> Loss:
    how = {"in_autocast": pair.loss_in_autocast, "gathers_images": pair.loss_gathers_images}
    return contrastive_loss(image, text, pair.log_scale.exp(), group, **how)


def _weighted_softmax(logits: Tensor, target: Labels, counts: TokenCounts, group: ProcessGroupLike) -> Loss:
    """Return SuperClass's loss; the batch is counted before it is weighted."""
    counts.add(target.columns, len(logits), None if isinstance(group, SimulatedGroup) else group)
    weights = inverse_document_frequency(counts.images_with_token, counts.images_seen)
    return token_softmax_loss(logits, target.rows, target.columns, weights)
