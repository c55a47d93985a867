"""Captions to labels by one of several rules, and labels to columns of a vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bench.data.captions.reader import MAX_CAPTION_BYTES, REPLACED, CaptionFieldCounts
from bench.environment.files import prefix_errors
from bench.experiment.config import look_up
from bench.labels.label_rule import LabelRule
from bench.labels.vocabulary import SUBWORD, Vocabulary, VocabularyLabel, read_vocabulary

Counts = npt.NDArray[np.int64]
RULES = ("corenet", "paper", SUBWORD)


@cache
def get_label_rule(name: str) -> LabelRule:
    """Return a rule, loaded once per process; ValueError suggests the nearest name."""
    look_up(name, dict.fromkeys(RULES), "rule")
    if name == SUBWORD:
        from bench.labels.subwords import SubwordRule  # imports torch through open_clip

        return SubwordRule()
    from bench.labels.synset_rules import CorenetRule, PaperRule

    return PaperRule() if name == "paper" else CorenetRule()


def _broadcastable_zero_counts() -> Counts:
    """Return the counts of no captions: a single zero, which is broadcast when others are added."""
    return np.zeros(1, np.int64)


@dataclass(slots=True)
class LabelTally:
    """Counts of labelled captions and of the labels of one rule."""

    captions: int = 0
    missing: int = 0  # rows without a caption, or with one that is too long
    repaired: int = 0  # captions with U+FFFD, as which bytes that are not UTF-8 are read
    empty: int = 0  # captions without a label
    # Occurrences of each label of the rule.
    counts: Counts = field(default_factory=_broadcastable_zero_counts)
    # Captions with each label.
    caption_counts: Counts = field(default_factory=_broadcastable_zero_counts)
    # Texts that the files have, by field.
    field_counts: CaptionFieldCounts = field(default_factory=CaptionFieldCounts)

    def add(self, other: "LabelTally") -> None:
        """Add the counts of other captions."""
        self.captions += other.captions
        self.missing += other.missing
        self.repaired += other.repaired
        self.empty += other.empty
        self.field_counts.add(other.field_counts)
        self.counts = self.counts + other.counts
        self.caption_counts = self.caption_counts + other.caption_counts


class VocabularyLabeller:
    """Labels captions by a rule with the columns of a vocabulary, which are the rows of a classification head."""

    def __init__(self, rule: LabelRule, vocabulary: Vocabulary) -> None:
        column_of = {key: column for column, key in enumerate(vocabulary.keys)}
        unknown = column_of.keys() - set(rule.keys)
        if unknown:
            raise ValueError(
                f"the vocabulary has labels that the rule {rule.name!r} never gives: {min(unknown)}, …"
            )
        self._rule = rule
        columns = [column_of.get(key, -1) for key in rule.keys]
        self._columns = np.array(columns)

    def find_label_columns(self, captions: Sequence[str]) -> list[list[int]]:
        """Return the columns of each caption's labels in the vocabulary; labels outside it are left out."""
        labels = self._rule.label_ids(pa.array(captions, pa.string()))
        columns = self._columns[labels.values.to_numpy()]
        has_column = columns >= 0
        num_before = np.concatenate([[0], np.cumsum(has_column)])
        offsets = num_before[labels.offsets.to_numpy()].tolist()
        kept = columns[has_column].tolist()
        return [kept[start:end] for start, end in pairwise(offsets)]


def label_and_tally(rule: LabelRule, captions: pa.BinaryArray) -> tuple[pa.ListArray, LabelTally]:
    """Return the label ids of each caption, and the tally of them all."""
    texts = decode_captions(captions)
    is_repaired = pc.match_substring(texts, REPLACED)
    labels = rule.label_ids(texts)
    numbers = labels.values.to_numpy()
    num_labels = np.diff(labels.offsets)
    num_keys = len(rule.keys)
    rows = np.repeat(np.arange(len(texts)), num_labels)
    # Pairs of caption and label as one number; a caption may repeat a label.
    pairs = np.unique(rows * num_keys + numbers)
    tally = LabelTally(
        captions=len(texts),
        missing=texts.null_count,
        repaired=pc.sum(is_repaired).as_py() or 0,
        empty=int((num_labels == 0).sum()),
        counts=np.bincount(numbers, minlength=num_keys),
        caption_counts=np.bincount(pairs % num_keys, minlength=num_keys),
    )
    return labels, tally


def decode_captions(captions: pa.BinaryArray) -> pa.StringArray:
    """Return captions as text; bytes that are not UTF-8 become U+FFFD, and captions that are too long nulls."""
    too_long = pc.greater(pc.binary_length(captions), MAX_CAPTION_BYTES)
    captions = pc.if_else(too_long, pa.scalar(None, captions.type), captions)
    try:
        return captions.cast(pa.string())
    except pa.ArrowInvalid:
        texts = list[str | None]()
        for content in captions.to_pylist():
            text = None if content is None else content.decode(errors="replace")
            texts.append(text)
        return pa.array(texts, pa.string())


@cache
def get_labeller(rule_name: str, vocabulary_name: str) -> VocabularyLabeller:
    """Return the labeller of a rule and of a vocabulary, named or a path, loaded once per process."""
    with prefix_errors(vocabulary_name):
        return VocabularyLabeller(get_label_rule(rule_name), read_vocabulary(vocabulary_name))


def make_vocabulary(rule: LabelRule, tally: LabelTally) -> Vocabulary:
    """Return the labels that occur in a tally of this rule as a vocabulary, by descending count.

    Ties are broken by the synset's offset or the subword's id.
    """
    labels = []
    for number in np.flatnonzero(tally.counts).tolist():
        label = VocabularyLabel(
            key=rule.keys[number],
            name=rule.title(number),
            count=int(tally.counts[number]),
            captions=int(tally.caption_counts[number]),
            gloss=rule.gloss(number),
        )
        labels.append(label)
    labels.sort(key=lambda label: int(label.key.lstrip("n")))
    labels.sort(key=lambda label: label.count, reverse=True)
    return Vocabulary(rule=rule.name, captions=tally.captions, labels=tuple(labels))
