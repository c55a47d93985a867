"""Captions to labels by one of several rules, and labels to columns of a vocabulary."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bench.console.console import PROGRAM
from bench.data.captions.batches import CaptionBatch
from bench.data.captions.reader import MAX_CAPTION_BYTES, NO_CAPTION, CaptionFieldCounts
from bench.environment.files import prefix_errors
from bench.experiment.config import choose
from bench.labels.label_rule import LabelIds, LabelRule, Offsets
from bench.labels.vocabulary import (
    SUBWORD,
    Vocabulary,
    VocabularyLabel,
    read_vocabulary,
    sort_labels_by_count,
)

Counts = npt.NDArray[np.int64]
NOT_UTF8 = "the caption is not UTF-8"  # it is still labelled, after a repair
LABEL_LISTS = pa.list_(pa.field("element", pa.uint32(), nullable=False))
RULES = ("corenet", "paper", "subword")


@cache
def get_rule(name: str) -> LabelRule:
    """Return a rule, loaded once per process; ValueError suggests the nearest name."""
    choose(name, dict.fromkeys(RULES), "rule")
    if name == "subword":
        from bench.labels.subwords import SubwordRule  # imports torch through open_clip

        return SubwordRule()
    from bench.labels.synset_rules import CorenetRule, PaperRule

    return PaperRule() if name == "paper" else CorenetRule()


@dataclass(slots=True)
class Tally:
    """Counts of labelled captions; tallies can be added."""

    captions: int = 0
    empty: int = 0  # captions without a label
    labels: int = 0
    # Rows without a caption or with a repaired one, by flaw.
    flaws: Counter[str] = field(default_factory=Counter)
    # Occurrences of each column.
    counts: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    # Captions with each column.
    caption_counts: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    # Texts that the files have, by field.
    field_counts: CaptionFieldCounts = field(default_factory=CaptionFieldCounts)

    def add(self, other: "Tally") -> None:
        """Add the counts of other captions."""
        self.captions += other.captions
        self.empty += other.empty
        self.labels += other.labels
        self.flaws.update(other.flaws)
        self.field_counts.add(other.field_counts)
        self.counts = _add_counts(self.counts, other.counts)
        self.caption_counts = _add_counts(self.caption_counts, other.caption_counts)


def _add_counts(counts: Counts, others: Counts) -> Counts:
    """Add counts, of which either may be empty."""
    if not len(counts) or not len(others):
        return counts if len(counts) else others
    return counts + others


class Labeller:
    """A rule with a vocabulary's column of each label; without a vocabulary, every label has a column."""

    def __init__(self, rule: LabelRule, vocabulary: Vocabulary | None = None) -> None:
        if vocabulary is not None and vocabulary.rule != rule.name:
            remedy = (
                f"count one with: {PROGRAM} label IN --count-only --rule {rule.name} --out FILE"
            )
            raise ValueError(
                f"the vocabulary is of the rule {vocabulary.rule!r}, expected {rule.name!r}; {remedy}"
            )
        keys = rule.keys if vocabulary is None else vocabulary.keys
        column_of = {key: column for column, key in enumerate(keys)}
        unknown = column_of.keys() - set(rule.keys)
        if unknown:
            raise ValueError(
                f"the vocabulary has labels that the rule {rule.name!r} never gives: {min(unknown)}, …"
            )
        self.rule = rule
        self.size = len(keys)
        self.counts_captions = vocabulary is None
        self._columns = np.array([column_of.get(key, -1) for key in rule.keys])

    def __call__(self, batch: CaptionBatch) -> tuple[pa.ListArray, Tally]:
        """Return the columns of each caption of a batch, and their tally."""
        texts, num_replaced = decode_texts(batch.captions)
        flaws = Counter({NO_CAPTION: texts.null_count, NOT_UTF8: num_replaced + batch.num_replaced})
        columns, offsets = self.label(texts)
        tally = Tally(
            captions=len(texts),
            empty=int((np.diff(offsets) == 0).sum()),
            labels=len(columns),
            flaws=+flaws,  # without zeros
            counts=np.bincount(columns, minlength=self.size),
        )
        if self.counts_captions:
            tally.caption_counts = count_captions(columns, offsets, self.size)
        lists = pa.ListArray.from_arrays(
            pa.array(offsets, pa.int32()), pa.array(columns, pa.uint32()), LABEL_LISTS
        )
        return lists, tally

    def label(self, captions: pa.StringArray) -> tuple[LabelIds, Offsets]:
        """Return columns [labels] and offsets [captions + 1] as `LabelRule.label` does, without labels of no column."""
        ids, offsets = self.rule.label(captions)
        columns = self._columns[ids]
        has_column = columns >= 0
        return columns[has_column].astype(np.uint32), np.concatenate([[0], np.cumsum(has_column)])[
            offsets
        ]

    def label_texts(self, captions: Sequence[str]) -> list[list[int]]:
        """Return the columns of each caption."""
        columns, offsets = self.label(pa.array(captions, pa.string()))
        ends = offsets.tolist()
        return [columns[start:end].tolist() for start, end in pairwise(ends)]


def count_captions(columns: LabelIds, offsets: Offsets, num_columns: int) -> Counts:
    """Return the number of captions with each column, which a caption may repeat."""
    captions = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    pairs = np.unique(captions * num_columns + columns)
    return np.bincount(pairs % num_columns, minlength=num_columns)


def decode_texts(captions: pa.BinaryArray) -> tuple[pa.StringArray, int]:
    """Return captions as text without those that are too long, and the number of those that were not UTF-8."""
    too_long = pc.greater(pc.binary_length(captions), MAX_CAPTION_BYTES)
    if pc.any(too_long).as_py():
        captions = pc.if_else(too_long, pa.scalar(None, captions.type), captions)
    try:
        return captions.cast(pa.string()), 0
    except pa.ArrowInvalid:
        texts = [
            None if caption is None else caption.decode("utf-8", "replace")
            for caption in captions.to_pylist()
        ]
        repaired = pa.array(texts, pa.string())
        return repaired, pc.sum(pc.not_equal(repaired.cast(pa.binary()), captions)).as_py()


@cache
def get_labeller(rule: str, vocabulary: str | None) -> Labeller:
    """Return the labeller of a rule and of a vocabulary's name or path, loaded once per process."""
    label_rule = get_rule(rule)
    labels = read_vocabulary(vocabulary) if vocabulary else None
    with prefix_errors(vocabulary):
        return Labeller(label_rule, labels)


def vocabulary_of_tally(rule: LabelRule, tally: Tally) -> Vocabulary:
    """Return the labels that occur, by descending count; the tally has one count per label of the rule."""
    kind = "subword" if rule.name == SUBWORD else "synset"
    labels = []
    for label in np.flatnonzero(tally.counts).tolist():
        count = int(tally.counts[label])
        captions = int(tally.caption_counts[label])
        labels.append(
            VocabularyLabel(
                **{kind: rule.keys[label]},
                name=rule.title(label),
                count=count,
                captions=captions if captions < count else None,
                gloss=rule.gloss(label),
            )
        )
    return Vocabulary(rule=rule.name, captions=tally.captions, labels=sort_labels_by_count(labels))
