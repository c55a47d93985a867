"""The whole difference between the methods, on one screen.

A method says what is put around the shared tower, what it reads beside the images, and what it minimises. Everything
else (tower, images, their order and augmentation, step, optimizer) is the same for all.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bench.config import COMPUTED, Experiment, choose
from bench.data.manifest import pretrain_shards
from bench.data.subwords import SubwordIds
from bench.data.targets import Labels, Target, Tokens
from bench.data.vocabulary import read_vocabulary
from bench.labels.labeller import labeller
from bench.labels.stored import stored_labels
from bench.seeds import TEXT, seed_for
from losses.contrastive import contrastive_loss
from losses.multilabel import multilabel_loss
from losses.ranks import Group
from losses.sigmoid import sigmoid_loss
from losses.token_softmax import inverse_document_frequency, token_softmax_loss
from models.heads import Classifier, Contrastive, TokenClassifier
from models.image_tower import ImageTower
from models.text_tower import build_text_tower, why_padded

T = TypeVar("T", bound=Target)
Images = Float[Tensor, "batch 3 height width"]


def nothing(_: nn.Module) -> None:
    """Leave the model as the optimizer left it."""


@dataclass(frozen=True, slots=True)
class Method(Generic[T]):
    """A way to pre-train an image tower: what is put around it, what it reads beside the images, what it minimises.

    `loss` is a scalar in nats, averaged over the batch's images, on the device and attached to the graph; it is
    called while the clock runs and reads nothing back. The group is the processes that share the batch, where there are
    several: a loss in which images meet others' captions gathers them itself, others are means over their own images,
    of which every process has equally many. `targets` turns captions into what the method reads.
    """

    wrap: Callable[[ImageTower, Experiment], nn.Module]
    targets: Callable[[Experiment], Callable[[Sequence[str]], T]]
    loss: Callable[[nn.Module, Images, T, Group], Float[Tensor, ""]]
    after_update: Callable[[nn.Module], None] = nothing


# CLIP: which of the batch's captions belongs to which image.
def clip(tower: ImageTower, experiment: Experiment) -> nn.Module:
    return _contrastive(tower, experiment, initial_scale=1 / 0.07, initial_bias=None)


def clip_loss(model: nn.Module, images: Images, target: Tokens, group: Group) -> Float[Tensor, ""]:
    pair = cast("Contrastive", model)
    image, text = pair(images, target.groups, target.lengths, target.places)
    return contrastive_loss(image, text, pair.log_scale.exp(), group)


@torch.no_grad()
def clamp_scale(model: nn.Module) -> None:
    """Keep the logit scale in [1, 100], as open_clip_train does after each update."""
    cast("Contrastive", model).log_scale.clamp_(0, math.log(100))


# SigLIP: is this caption this image's, for every pair of the batch.
def siglip(tower: ImageTower, experiment: Experiment) -> nn.Module:
    return _contrastive(tower, experiment, initial_scale=10.0, initial_bias=-10.0)


def siglip_loss(model: nn.Module, images: Images, target: Tokens, group: Group) -> Float[Tensor, ""]:
    pair = cast("Contrastive", model)
    image, text = pair(images, target.groups, target.lengths, target.places)
    return sigmoid_loss(image, text, pair.log_scale.exp(), cast("Tensor", pair.bias), group)


# CatLIP: which WordNet nouns the caption names.
def catlip(tower: ImageTower, experiment: Experiment) -> nn.Module:
    return Classifier(tower, _head_rows(experiment, len(read_vocabulary(experiment.synset_vocabulary).labels)))


def synset_labels(experiment: Experiment) -> Callable[[Sequence[str]], Labels]:
    if experiment.labels != COMPUTED:
        stored = stored_labels(Path(experiment.labels), pretrain_shards(), experiment.synset_vocabulary)
        return lambda captions: Labels.of(stored.lists(len(captions)))
    label = labeller("corenet", experiment.synset_vocabulary)
    return lambda captions: Labels.of(label.lists(captions))


def catlip_loss(model: nn.Module, images: Images, target: Labels, _group: Group) -> Float[Tensor, ""]:
    return multilabel_loss(model(images), target.rows, target.columns)


# SuperClass: which subwords the caption holds, rare ones weighing more.
def superclass(tower: ImageTower, experiment: Experiment) -> nn.Module:
    return TokenClassifier(tower, _head_rows(experiment, SubwordIds(experiment.subword_vocabulary).size))


def subword_labels(experiment: Experiment) -> Callable[[Sequence[str]], Labels]:
    subwords = SubwordIds(experiment.subword_vocabulary)
    return lambda captions: Labels.of([ids[: experiment.context_length - 2] for ids in subwords.encode(captions)])


def superclass_loss(model: nn.Module, images: Images, target: Labels, group: Group) -> Float[Tensor, ""]:
    classifier = cast("TokenClassifier", model)
    classifier.count(target.columns, len(images), group)
    weights = inverse_document_frequency(classifier.images_with_token, classifier.images_seen)
    return token_softmax_loss(classifier(images), target.rows, target.columns, weights)


def tokens(experiment: Experiment) -> Callable[[Sequence[str]], Tokens]:
    subwords = SubwordIds(experiment.subword_vocabulary)
    start, end = subwords.start_and_end
    padding = "full" if why_padded(experiment.text_tower) else experiment.text_padding
    return lambda captions: Tokens.of(subwords.encode(captions), start, end, experiment.context_length, padding)


CLIP = Method(clip, tokens, clip_loss, clamp_scale)
SIGLIP = Method(siglip, tokens, siglip_loss)
CATLIP = Method(catlip, synset_labels, catlip_loss)
SUPERCLASS = Method(superclass, subword_labels, superclass_loss)
METHODS: dict[str, Method[Any]] = {"clip": CLIP, "siglip": SIGLIP, "catlip": CATLIP, "superclass": SUPERCLASS}


def method_named(name: str) -> Method[Any]:
    """Return a method; ValueError names the nearest."""
    return choose(name, METHODS, "method")


def _contrastive(
    tower: ImageTower, experiment: Experiment, *, initial_scale: float, initial_bias: float | None
) -> Contrastive:
    size = SubwordIds(experiment.subword_vocabulary).size
    seed = seed_for(experiment.seed, TEXT)
    text = build_text_tower(experiment.text_tower, experiment.context_length, size, seed)
    return Contrastive(tower, text, initial_scale=initial_scale, initial_bias=initial_bias)


def _head_rows(experiment: Experiment, labels: int) -> int:
    """Rows of the head: as many as the vocabulary has, or more where the experiment says so."""
    if experiment.head_rows is None:
        return labels
    if experiment.head_rows < labels:
        raise ValueError(f"{experiment.name}: head_rows is {experiment.head_rows}, its vocabulary has {labels} labels")
    return experiment.head_rows
