"""Factories of the models around the tower."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bench.config import Experiment
from bench.console.console import PROGRAM
from bench.environment.seeds import TEXT, seed_for
from bench.labels.subwords import SubwordIds
from bench.labels.vocabulary import Vocabulary, read_vocabulary, resolve_vocabulary
from bench.recipes import DATACOMP_SYNSETS, DATACOMP_VOCABULARY
from bench.towers.teacher import build_teacher, stored_features
from models.heads import Classifier, DualEncoder, DualEncoderClassifier, ImageProjection, Student, TokenClassifier
from models.image_tower import ImageTower
from models.text_tower import TextTower, build_text_tower, text_width

HEAD_STD = 0.02  # `model.layer.linear_init_std_dev` of CatLIP's recipes (bench/cli/released_recipes.toml)


def build_dual_encoder(tower: ImageTower, experiment: Experiment, scale: float, bias: float | None) -> ImageProjection:
    """Return the tower with a text tower, or without one if captions' features are stored."""
    if experiment.text_features == "stored":
        width = text_width(experiment.text_tower, experiment.context_length)
        pair = ImageProjection(tower, width, initial_scale=scale, initial_bias=bias)
    else:
        pair = DualEncoder(tower, _build_text_tower(experiment), initial_scale=scale, initial_bias=bias)
    pair.loss_in_autocast = experiment.contrastive_precision == "autocast"
    pair.loss_gathers_images = experiment.gather == "both"
    return pair


def build_synset_classifier(tower: ImageTower, experiment: Experiment) -> Classifier:
    """Return the tower with a classifier of one row per synset."""
    head = nn.Linear(tower.width, count_synset_rows(experiment))
    if experiment.head_initialisation == "trunc_normal":
        nn.init.trunc_normal_(head.weight, std=HEAD_STD)
        nn.init.zeros_(head.bias)
    if experiment.head_initialisation == "log_odds":
        with torch.no_grad():
            vocabulary = read_vocabulary(resolve_vocabulary(experiment.synset_vocabulary))
            head.bias.copy_(label_log_odds(vocabulary, len(head.bias)))
    return Classifier(tower, head)


def label_log_odds(vocabulary: Vocabulary, rows: int) -> Float[Tensor, " rows"]:
    """Return the logarithm of the odds that a caption has each label; rows beyond the vocabulary were never counted.

    A head that starts with them predicts the frequencies, where one that starts at 0 first learns to say no to hundreds
    of labels. Half a caption with and without each label keeps the odds finite. Raises ValueError without a count.
    Source: Lin et al. 2017, arXiv:1708.02002, section 4.1 (a prior for the bias of binary classifiers).
    """
    if vocabulary.captions is None:
        raise ValueError(
            "head_initialisation=log_odds needs the number of captions, which this vocabulary lacks: count it with "
            f"{PROGRAM} label --count-only, or add --set head_initialisation=uniform"
        )
    counts = torch.zeros(rows)
    counts[: len(vocabulary.labels)] = torch.tensor([float(label.count) for label in vocabulary.labels])
    return torch.log((counts + 0.5) / (vocabulary.captions - counts + 0.5))


def count_synset_rows(experiment: Experiment) -> int:
    """Return the number of rows of the classifier of synsets."""
    is_datacomp = experiment.synset_vocabulary == DATACOMP_VOCABULARY
    return _resolve_head_rows(experiment, DATACOMP_SYNSETS if is_datacomp else len(row_synsets(experiment)))


def row_synsets(experiment: Experiment) -> tuple[str, ...]:
    """Return the synsets in the order of the classifier's rows."""
    return read_vocabulary(experiment.synset_vocabulary).keys


def build_token_classifier(tower: ImageTower, experiment: Experiment) -> TokenClassifier:
    """Return the tower with a classifier of one row per subword, which counts the images of each."""
    return TokenClassifier(tower, _resolve_head_rows(experiment, SubwordIds(experiment.subword_vocabulary).size))


def build_dual_encoder_classifier(tower: ImageTower, experiment: Experiment, scale: float) -> DualEncoderClassifier:
    """Return the tower with a text tower and a classifier of one row per subword."""
    rows = _resolve_head_rows(experiment, SubwordIds(experiment.subword_vocabulary).size)
    text, has_patch_mean = _build_text_tower(experiment), experiment.pooling == "both"
    pair = DualEncoderClassifier(tower, text, rows, initial_scale=scale, has_patch_mean=has_patch_mean)
    pair.loss_in_autocast = experiment.contrastive_precision == "autocast"
    pair.loss_gathers_images = experiment.gather == "both"
    return pair


def build_student(tower: ImageTower, experiment: Experiment) -> Student:
    """Return the tower with a teacher, or without one if its features are stored."""
    if (stored := stored_features(experiment)) is not None:
        return Student(tower, None, stored.shape[1])
    teacher = build_teacher(experiment)
    return Student(tower, teacher, teacher.width)


def _build_text_tower(experiment: Experiment) -> TextTower:
    size, seed = SubwordIds(experiment.subword_vocabulary).size, seed_for(experiment.seed, TEXT)
    return build_text_tower(experiment.text_tower, experiment.context_length, size, seed)


def _resolve_head_rows(experiment: Experiment, labels: int) -> int:
    """Return the number of rows of the head: that of the vocabulary, or the experiment's larger one."""
    if experiment.head_rows is None:
        return labels
    if experiment.head_rows < labels:
        raise ValueError(f"{experiment.name}: head_rows is {experiment.head_rows}, its vocabulary has {labels} labels")
    return experiment.head_rows
