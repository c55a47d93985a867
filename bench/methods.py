"""The whole difference between the methods, on one screen.

A method says what is put around the shared tower, what it reads beside the images, and what it minimises. Everything
else (tower, images, their order and augmentation, step, optimizer) is the same for all.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bench.config import COMPUTED, CONTRASTIVE, Experiment, choose
from bench.data.shards import shard_paths
from bench.data.subwords import SubwordIds
from bench.data.targets import Captions, Features, Labels, Nothing, Target, Tokens, TokensAndLabels
from bench.data.vocabulary import read_vocabulary
from bench.labels.labeller import labeller
from bench.labels.stored import stored_labels
from bench.seeds import TEXT, seed_for
from bench.towers.stored_features import stored_features
from bench.towers.trained import build_teacher
from losses.contrastive import contrastive_loss
from losses.distillation import distillation_loss
from losses.multilabel import multilabel_loss
from losses.ranks import Alike, Meeting
from losses.sigmoid import sigmoid_loss
from losses.token_softmax import inverse_document_frequency, token_softmax_loss
from models.heads import (
    Classifier,
    Contrastive,
    ContrastiveClassifier,
    ImageSide,
    Student,
    TokenClassifier,
    TokenCounts,
)
from models.image_tower import ImageTower
from models.text_tower import TextTower, build_text_tower, text_width, why_padded

T = TypeVar("T", bound=Target)
CLIP_SCALE = 1 / 0.07
STORED_CAPTIONS = 16_384  # rows of features that are read in place of computed ones; more captions share them
Images = Float[Tensor, "batch channels height width"]


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
    targets: Callable[[Experiment], Callable[[Captions], T]]
    loss: Callable[[nn.Module, Images, T, Meeting], Float[Tensor, ""]]
    after_update: Callable[[nn.Module], None] = nothing


# CLIP: which of the batch's captions belongs to which image.
def clip(tower: ImageTower, experiment: Experiment) -> nn.Module:
    return _pair(tower, experiment, CLIP_SCALE, None)


def clip_loss(model: nn.Module, images: Images, target: Tokens | Features, group: Meeting) -> Float[Tensor, ""]:
    pair = cast("ImageSide", model)
    return contrastive_loss(*_met(pair, images, target), pair.log_scale.exp(), group)


@torch.no_grad()
def clamp_scale(model: nn.Module) -> None:
    """Keep the logit scale in [1, 100], as open_clip_train does after each update."""
    cast("ImageSide", model).log_scale.clamp_(0, math.log(100))


# SigLIP: is this caption this image's, for every pair of the batch.
def siglip(tower: ImageTower, experiment: Experiment) -> nn.Module:
    return _pair(tower, experiment, 10.0, -10.0)


def siglip_loss(model: nn.Module, images: Images, target: Tokens | Features, group: Meeting) -> Float[Tensor, ""]:
    pair = cast("ImageSide", model)
    return sigmoid_loss(*_met(pair, images, target), pair.log_scale.exp(), cast("Tensor", pair.bias), group)


# CatLIP: which WordNet nouns the caption names.
def catlip(tower: ImageTower, experiment: Experiment) -> nn.Module:
    return Classifier(tower, _head_rows(experiment, len(read_vocabulary(experiment.synset_vocabulary).labels)))


def synset_labels(experiment: Experiment) -> Callable[[Captions], Labels]:
    if experiment.labels != COMPUTED:
        stored = stored_labels(Path(experiment.labels), shard_paths(experiment.data), experiment.synset_vocabulary)
        return lambda captions: Labels.of(stored.lists(captions.rows, captions.total))
    label = labeller("corenet", experiment.synset_vocabulary)
    return lambda captions: Labels.of(label.lists(captions.texts))


def catlip_loss(model: nn.Module, images: Images, target: Labels, _group: Meeting) -> Float[Tensor, ""]:
    return multilabel_loss(model(images), target.rows, target.columns)


# SuperClass: which subwords the caption holds, rare ones weighing more.
def superclass(tower: ImageTower, experiment: Experiment) -> nn.Module:
    return TokenClassifier(tower, _head_rows(experiment, _subwords(experiment).size))


def subword_labels(experiment: Experiment) -> Callable[[Captions], Labels]:
    subwords, longest = _subwords(experiment), experiment.context_length - 2
    return lambda captions: Labels.of([ids[:longest] for ids in subwords.encode(captions.texts)])


def superclass_loss(model: nn.Module, images: Images, target: Labels, group: Meeting) -> Float[Tensor, ""]:
    return _weighted_softmax(model(images), target, cast("TokenClassifier", model).counts, group)


# SuperCLIP: CLIP's loss and SuperClass's on one image tower, as much of each.
def superclip(tower: ImageTower, experiment: Experiment) -> nn.Module:
    rows = _head_rows(experiment, _subwords(experiment).size)
    return ContrastiveClassifier(tower, _text_tower(experiment), rows, initial_scale=CLIP_SCALE)


def tokens_and_labels(experiment: Experiment) -> Callable[[Captions], TokensAndLabels]:
    both = tokens(experiment), subword_labels(experiment)
    return lambda captions: TokensAndLabels(both[0](captions), both[1](captions))


def superclip_loss(model: nn.Module, images: Images, target: TokensAndLabels, group: Meeting) -> Float[Tensor, ""]:
    pair, read = cast("ContrastiveClassifier", model), target.tokens
    embedded = pair.tower(images)
    image, text = pair.meet(embedded, read.groups, read.lengths, read.places)
    contrast = contrastive_loss(image, text, pair.log_scale.exp(), group)
    return contrast + _weighted_softmax(pair.head(embedded), target.labels, pair.counts, group)


# Distillation: what another tower makes of the image, as augmented, or stored of the whole; no caption is read.
def distill(tower: ImageTower, experiment: Experiment) -> nn.Module:
    if (stored := stored_features(experiment)) is not None:
        return Student(tower, None, stored.shape[1])
    teacher = build_teacher(experiment)
    return Student(tower, teacher, teacher.width)


def features(experiment: Experiment) -> Callable[[Captions], Features | Nothing]:
    if (stored := stored_features(experiment)) is not None:
        return lambda captions: Features(stored[torch.tensor(captions.rows)])
    return lambda _: Nothing()


def distill_loss(model: nn.Module, images: Images, target: Features | Nothing, _group: Meeting) -> Float[Tensor, ""]:
    taught = target.rows if isinstance(target, Features) else cast("Student", model).taught(images)
    return distillation_loss(model(images), taught)


def tokens(experiment: Experiment) -> Callable[[Captions], Tokens]:
    subwords = _subwords(experiment)
    start, end = subwords.start_and_end
    padding = "full" if why_padded(experiment.text_tower) else experiment.text_padding
    return lambda captions: Tokens.of(subwords.encode(captions.texts), start, end, experiment.context_length, padding)


def tokens_or_features(experiment: Experiment) -> Callable[[Captions], Tokens | Features]:
    """Captions for a text tower; or in place of what it makes of them, features drawn once, a row a caption.

    They cost what features that were stored cost, and teach nothing.
    """
    if experiment.text_features == "computed":
        return tokens(experiment)
    draw = torch.Generator().manual_seed(seed_for(experiment.seed, TEXT))
    width = text_width(experiment.text_tower, experiment.context_length)
    table = torch.randn(STORED_CAPTIONS, width, generator=draw)
    return lambda captions: Features(table[torch.tensor(captions.rows) % STORED_CAPTIONS])


CLIP = Method(clip, tokens_or_features, clip_loss, clamp_scale)
SIGLIP = Method(siglip, tokens_or_features, siglip_loss)
CATLIP = Method(catlip, synset_labels, catlip_loss)
SUPERCLASS = Method(superclass, subword_labels, superclass_loss)
SUPERCLIP = Method(superclip, tokens_and_labels, superclip_loss, clamp_scale)
DISTILL = Method(distill, features, distill_loss)
METHODS: dict[str, Method[Any]] = {
    "clip": CLIP,
    "siglip": SIGLIP,
    "catlip": CATLIP,
    "superclass": SUPERCLASS,
    "superclip": SUPERCLIP,
    "distill": DISTILL,
}


def method_named(name: str) -> Method[Any]:
    """Return a method; ValueError names the nearest."""
    return choose(name, METHODS, "method")


def simulated(experiment: Experiment) -> Alike | None:
    """Return the processes that a contrastive loss is to work beside and that there are not."""
    if experiment.simulated_batch is None or experiment.method not in CONTRASTIVE:
        return None
    return Alike(max(1, experiment.simulated_batch // experiment.batch_size))


def _pair(tower: ImageTower, experiment: Experiment, scale: float, bias: float | None) -> ImageSide:
    if experiment.text_features == "stored":
        width = text_width(experiment.text_tower, experiment.context_length)
        return ImageSide(tower, width, initial_scale=scale, initial_bias=bias)
    return Contrastive(tower, _text_tower(experiment), initial_scale=scale, initial_bias=bias)


def _met(pair: ImageSide, images: Images, target: Tokens | Features) -> tuple[Tensor, Tensor]:
    """Return the features of images and captions."""
    if isinstance(target, Features):
        return pair.beside(images, target.rows)
    image, text = pair(images, target.groups, target.lengths, target.places)
    return image, text


def _text_tower(experiment: Experiment) -> TextTower:
    seed = seed_for(experiment.seed, TEXT)
    return build_text_tower(experiment.text_tower, experiment.context_length, _subwords(experiment).size, seed)


def _subwords(experiment: Experiment) -> SubwordIds:
    return SubwordIds(experiment.subword_vocabulary)


def _weighted_softmax(logits: Tensor, target: Labels, counts: TokenCounts, group: Meeting) -> Float[Tensor, ""]:
    """SuperClass's loss; the batch counts before it is weighed."""
    counts.add(target.columns, len(logits), None if isinstance(group, Alike) else group)
    weights = inverse_document_frequency(counts.images_with_token, counts.images_seen)
    return token_softmax_loss(logits, target.rows, target.columns, weights)


def _head_rows(experiment: Experiment, labels: int) -> int:
    """Rows of the head: as many as the vocabulary has, or more where the experiment says so."""
    if experiment.head_rows is None:
        return labels
    if experiment.head_rows < labels:
        raise ValueError(f"{experiment.name}: head_rows is {experiment.head_rows}, its vocabulary has {labels} labels")
    return experiment.head_rows
