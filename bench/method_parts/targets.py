"""What a method reads beside the images: captions in, targets out, as an experiment asks for it."""

from collections.abc import Callable
from pathlib import Path

import torch

from bench.config import COMPUTED, Experiment
from bench.data.shards.shards import shard_paths
from bench.data.targets import Captions, Features, Labels, Nothing, Tokens, TokensAndLabels
from bench.environment.seeds import TEXT, seed_for
from bench.labels.labeller import labeller
from bench.labels.stored import stored_labels
from bench.labels.subwords import SubwordIds
from bench.towers.stored_features import stored_features
from models.text_tower import text_width, why_padded

STORED_CAPTIONS = 16_384  # rows of features that are read in place of computed ones; more captions share them


def tokens(experiment: Experiment) -> Callable[[Captions], Tokens]:
    """Return captions as a text tower takes them."""
    subwords = SubwordIds(experiment.subword_vocabulary)
    start, end = subwords.start_and_end
    padding = "full" if why_padded(experiment.text_tower) else experiment.text_padding
    return lambda captions: Tokens.of(subwords.encode(captions.texts), start, end, experiment.context_length, padding)


def tokens_or_features(experiment: Experiment) -> Callable[[Captions], Tokens | Features]:
    """Return captions for a text tower; or in place of what it makes of them, features drawn once, a row a caption.

    They cost what features that were stored cost, and teach nothing.
    """
    if experiment.text_features == "computed":
        return tokens(experiment)
    draw = torch.Generator().manual_seed(seed_for(experiment.seed, TEXT))
    width = text_width(experiment.text_tower, experiment.context_length)
    table = torch.randn(STORED_CAPTIONS, width, generator=draw)
    return lambda captions: Features(table[torch.tensor(captions.rows) % STORED_CAPTIONS])


def synset_labels(experiment: Experiment) -> Callable[[Captions], Labels]:
    """Return the WordNet nouns that captions name, by the released rule or as they were stored."""
    if experiment.labels != COMPUTED:
        stored = stored_labels(Path(experiment.labels), shard_paths(experiment.data), experiment.synset_vocabulary)
        return lambda captions: Labels.of(stored.lists(captions.rows, captions.total))
    label = labeller("corenet", experiment.synset_vocabulary)
    return lambda captions: Labels.of(label.lists(captions.texts))


def subword_labels(experiment: Experiment) -> Callable[[Captions], Labels]:
    """Return the subwords that captions hold, as many as a text tower would read."""
    subwords, longest = SubwordIds(experiment.subword_vocabulary), experiment.context_length - 2
    return lambda captions: Labels.of([ids[:longest] for ids in subwords.encode(captions.texts)])


def tokens_and_labels(experiment: Experiment) -> Callable[[Captions], TokensAndLabels]:
    """Return captions for a text tower, and the subwords that they hold."""
    both = tokens(experiment), subword_labels(experiment)
    return lambda captions: TokensAndLabels(both[0](captions), both[1](captions))


def teacher_features(experiment: Experiment) -> Callable[[Captions], Features | Nothing]:
    """Return what a teacher made of each whole image, where that is stored; captions are not read."""
    if (stored := stored_features(experiment)) is not None:
        return lambda captions: Features(stored[torch.tensor(captions.rows)])
    return lambda _: Nothing()
