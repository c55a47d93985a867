"""Parts of CatLIP: a classifier of WordNet synsets, and functions that turn captions into their labels."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bench.console.console import PROGRAM
from bench.data.released_labels import DenseLabels
from bench.data.targets import CaptionsWithRows, LabelPairs
from bench.experiment.fields import TargetSettings
from bench.labels.labeller import get_labeller
from bench.labels.vocabulary import (
    Vocabulary,
    count_synset_head_rows,
    read_vocabulary,
    replace_unshipped_vocabulary,
)
from models.heads import ImageClassifier
from models.image_tower import ImageTower

# `model.layer.linear_init_std_dev` of CatLIP's recipes (bench/cli/released_recipes.toml).
HEAD_STD = 0.02


def build_synset_classifier(tower: ImageTower, targets: TargetSettings) -> ImageClassifier:
    """Return the tower with a linear classifier of one row per synset."""
    head = nn.Linear(tower.width, count_synset_head_rows(targets))
    if targets.synset_head_initialisation == "trunc_normal":
        nn.init.trunc_normal_(head.weight, std=HEAD_STD)
        nn.init.zeros_(head.bias)
    if targets.synset_head_initialisation == "log_odds":
        vocabulary = read_vocabulary(replace_unshipped_vocabulary(targets.synset_vocabulary))
        with torch.no_grad():
            head.bias.copy_(compute_label_log_odds(vocabulary, len(head.bias)))
    return ImageClassifier(tower, head)


def compute_label_log_odds(vocabulary: Vocabulary, num_rows: int) -> Float[Tensor, " rows"]:
    """Return the logarithm of the odds that a caption has each label; rows beyond the vocabulary were never counted.

    A head that starts with them predicts the frequencies; a head that starts at 0 first learns that each caption lacks
    most labels. A label that a caption repeats counts once, as in training. Half a caption with and without each label
    keeps the odds finite. Raises ValueError if the number of captions is unknown.
    Source: Lin et al. 2017, arXiv:1708.02002, section 4.1 (a prior for the bias of binary classifiers).
    """
    if vocabulary.captions is None:
        raise ValueError(
            "synset_head_initialisation=log_odds needs the number of captions, which this vocabulary lacks: count it "
            f"with {PROGRAM} label, or add --set synset_head_initialisation=uniform"
        )
    with_label = torch.zeros(num_rows)
    counts = [float(label.captions) for label in vocabulary.labels]
    with_label[: len(counts)] = torch.tensor(counts)
    without_label = vocabulary.captions - with_label
    return torch.log((with_label + 0.5) / (without_label + 0.5))


def make_synset_label_function(
    targets: TargetSettings,
) -> Callable[[CaptionsWithRows], LabelPairs | DenseLabels]:
    """Return a function that turns captions into labels, their WordNet nouns, by the released rule."""
    vocabulary = replace_unshipped_vocabulary(targets.synset_vocabulary)
    labeller = get_labeller("corenet", vocabulary)
    num_rows = count_synset_head_rows(targets)

    def make_labels(captions: CaptionsWithRows) -> LabelPairs | DenseLabels:
        labels = LabelPairs.from_label_lists(labeller.find_label_columns(captions.texts))
        return labels if targets.synset_label_format == "sparse" else DenseLabels(labels, num_rows)

    return make_labels
