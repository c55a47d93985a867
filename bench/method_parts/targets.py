"""Factories of the functions that turn captions into targets."""

from collections.abc import Callable
from pathlib import Path

import torch

from bench.config import COMPUTED, NLTK, Experiment
from bench.data.released_labels import DenseLabels, UncomputedLabels
from bench.data.shards.shards import find_shards
from bench.data.targets import Captions, Features, Labels, NoTarget, Tokens, TokensAndLabels
from bench.environment.seeds import TEXT, seed_for
from bench.labels.label_files import load_stored_labels
from bench.labels.labeller import get_labeller
from bench.labels.nltk_labels import NltkLabeller
from bench.labels.subwords import SubwordIds
from bench.labels.vocabulary import read_vocabulary, resolve_vocabulary
from bench.method_parts.models import count_synset_rows
from bench.towers.teacher import stored_features
from models.text_tower import text_width, why_padding_is_needed

STORED_CAPTIONS = 16_384  # rows of stored features; captions beyond share them


def tokens(experiment: Experiment) -> Callable[[Captions], Tokens]:
    """Return a function from captions to the tokens of a text tower; the experiment's padding is not "auto"."""
    assert experiment.text_padding != "auto"
    subwords = SubwordIds(experiment.subword_vocabulary)
    start, end = subwords.start_and_end
    padding = "max_length" if why_padding_is_needed(experiment.text_tower) else experiment.text_padding
    length = experiment.context_length
    return lambda captions: Tokens.from_ids(subwords.encode(captions.texts), start, end, length, padding)


def tokens_or_features(experiment: Experiment) -> Callable[[Captions], Tokens | Features]:
    """Return a function to tokens, or to random features per caption in place of the text tower's.

    Random features have the cost of stored ones, and train nothing useful.
    """
    if experiment.text_features == "computed":
        return tokens(experiment)
    generator = torch.Generator().manual_seed(seed_for(experiment.seed, TEXT))
    width = text_width(experiment.text_tower, experiment.context_length)
    table = torch.randn(STORED_CAPTIONS, width, generator=generator)
    return lambda captions: Features(table[torch.tensor(captions.rows) % STORED_CAPTIONS])


def synset_labels(experiment: Experiment) -> Callable[[Captions], Labels | UncomputedLabels | DenseLabels]:
    """Return a function to the WordNet nouns in captions, by the released rule or as stored."""
    make_labels = _sparse_synset_labels(experiment)
    if experiment.label_format == "sparse":
        return make_labels
    width = count_synset_rows(experiment)
    return lambda captions: DenseLabels(make_labels(captions), width)


def _sparse_synset_labels(experiment: Experiment) -> Callable[[Captions], Labels | UncomputedLabels]:
    vocabulary = resolve_vocabulary(experiment.synset_vocabulary)
    if experiment.labels == NLTK:
        label = NltkLabeller([*read_vocabulary(vocabulary).keys])
        return lambda captions: UncomputedLabels(captions.texts, label)
    if experiment.labels != COMPUTED:
        stored = load_stored_labels(Path(experiment.labels), find_shards(experiment.data), vocabulary)
        return lambda captions: Labels.from_lists(stored.select(captions.rows, captions.total))
    labeller = get_labeller("corenet", vocabulary)
    return lambda captions: Labels.from_lists(labeller.label_texts(captions.texts))


def subword_labels(experiment: Experiment) -> Callable[[Captions], Labels]:
    """Return a function to the subwords of captions, as many as a text tower reads."""
    subwords, longest = SubwordIds(experiment.subword_vocabulary), experiment.context_length - 2
    return lambda captions: Labels.from_lists([ids[:longest] for ids in subwords.encode(captions.texts)])


def tokens_and_labels(experiment: Experiment) -> Callable[[Captions], TokensAndLabels]:
    """Return a function to tokens and subwords of captions."""
    to_tokens, to_labels = tokens(experiment), subword_labels(experiment)
    return lambda captions: TokensAndLabels(to_tokens(captions), to_labels(captions))


def stored_teacher_features(experiment: Experiment) -> Callable[[Captions], Features | NoTarget]:
    """Return a function to the stored features of a teacher; captions are ignored."""
    if (stored := stored_features(experiment)) is not None:
        return lambda captions: Features(stored[torch.tensor(captions.rows)])
    return lambda _: NoTarget()
