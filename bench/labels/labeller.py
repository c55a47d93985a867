"""Captions to labels by one of several rules, and labels to columns of a vocabulary."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bench.console.console import PROGRAM
from bench.data.captions.batches import MAX_CAPTION_BYTES, NULL, TOO_LONG, CaptionBatch
from bench.data.captions.fields import CaptionFieldCounts
from bench.environment.files import prefix_errors
from bench.experiment.config import choose
from bench.labels.vocabulary import SUBWORD, Vocabulary, VocabularyLabel, read_vocabulary, sort_labels_by_count

LabelIds = npt.NDArray[np.uint32]  # of consecutive captions, concatenated
Offsets = npt.NDArray[np.int64]  # [captions + 1]: caption i has ids[offsets[i] : offsets[i + 1]]
NOT_UTF8 = "the caption is not UTF-8"  # it is still labelled, after a repair
LABEL_LISTS = pa.list_(pa.field("element", pa.uint32(), nullable=False))
RULES = ("corenet", "corenet-nltk-3.8.1", "paper", "subword")


@runtime_checkable
class LabelRule(Protocol):
    """A mapping of captions to labels. A label's id is its index in `keys`, the same in every process."""

    name: str  # value of `--rule`; a vocabulary of one rule is refused by another
    keys: Sequence[str]  # of all possible labels: a synset (`n2084071`), or a subword's id in the tokenizer

    def title(self, label: int) -> str:
        """Return a label's readable name: `dog.n.01`, or the subword."""

    def gloss(self, label: int) -> str:
        """Return a label's definition, or an empty string."""

    def label(self, captions: pa.StringArray) -> tuple[LabelIds, Offsets]:
        """Label captions; a null is treated as an empty caption.

        Returns label ids [labels] and offsets [captions + 1]; a caption's ids are in order of mention, each once or
        repeated as in the rule's source.
        """


@cache
def get_rule(name: str) -> LabelRule:
    """Return a rule, loaded once per process; ValueError suggests the nearest name."""
    if choose(name, {rule: rule for rule in RULES}, "rule") == "subword":
        from bench.labels.subwords import SubwordRule  # imports torch through open_clip

        return SubwordRule()
    from bench.labels.synset_rules import CorenetRule, PaperRule
    from bench.labels.tokens import NLTK_3_8, NLTK_3_10

    if name == "paper":
        return PaperRule()
    # CatLIP's README installs NLTK 3.8.1, with which 0.34 % of real captions get other labels than with 3.10.
    return CorenetRule(name, NLTK_3_8 if name == "corenet-nltk-3.8.1" else NLTK_3_10)


@dataclass(slots=True)
class Tally:
    """Counts of labelled captions; tallies can be added."""

    captions: int = 0
    empty: int = 0  # captions without a label
    labels: int = 0
    flaws: Counter[str] = field(default_factory=Counter)  # rows without a caption or with a repaired one, by flaw
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # occurrences by column
    found: CaptionFieldCounts = field(default_factory=CaptionFieldCounts)  # of captions

    def add(self, other: "Tally") -> None:
        self.captions += other.captions
        self.empty += other.empty
        self.labels += other.labels
        self.flaws.update(other.flaws)
        self.found.add(other.found)
        longer, shorter = sorted((self.counts, other.counts), key=len, reverse=True)
        self.counts = longer.copy()
        self.counts[: len(shorter)] += shorter


class Labeller:
    """A rule with a vocabulary's column of each label; without a vocabulary, every label has a column."""

    def __init__(self, rule: LabelRule, vocabulary: Vocabulary | None = None) -> None:
        if vocabulary is not None and vocabulary.rule != rule.name:
            remedy = f"count one with: {PROGRAM} label IN --count-only --rule {rule.name} --out FILE"
            raise ValueError(f"the vocabulary is of the rule {vocabulary.rule!r}, expected {rule.name!r}; {remedy}")
        keys = rule.keys if vocabulary is None else vocabulary.keys
        column_of = {key: column for column, key in enumerate(keys)}
        if unknown := column_of.keys() - set(rule.keys):
            raise ValueError(f"the vocabulary has labels that the rule {rule.name!r} never gives: {min(unknown)}, …")
        self.rule, self.size = rule, len(keys)
        self._columns = np.array([column_of.get(key, -1) for key in rule.keys])

    def __call__(self, batch: CaptionBatch) -> tuple[pa.ListArray, Tally]:
        """Return the columns of each caption of a batch, and their tally."""
        texts, flaws = decode_texts(batch.captions)
        flaws.update(batch.flaws)
        flaws[NULL] += batch.captions.null_count - sum(batch.flaws.values())
        columns, offsets = self.label(texts)
        empty = int((np.diff(offsets) == 0).sum())
        tally = Tally(len(texts), empty, len(columns), +flaws, np.bincount(columns, minlength=self.size))
        lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(columns, pa.uint32()), LABEL_LISTS)
        return lists, tally

    def label(self, captions: pa.StringArray) -> tuple[LabelIds, Offsets]:
        """Return columns [labels] and offsets [captions + 1] as `LabelRule.label` does, without labels of no column."""
        ids, offsets = self.rule.label(captions)
        columns = self._columns[ids]
        has_column = columns >= 0
        return columns[has_column].astype(np.uint32), np.concatenate([[0], np.cumsum(has_column)])[offsets]

    def label_texts(self, captions: Sequence[str]) -> list[list[int]]:
        columns, offsets = self.label(pa.array(captions, pa.string()))
        return [row.tolist() for row in np.split(columns, offsets[1:-1])] if len(captions) else []


def decode_texts(captions: pa.BinaryArray) -> tuple[pa.StringArray, Counter[str]]:
    """Return captions as text without those that are too long, and the number of rows by flaw."""
    flaws = Counter[str]()
    too_long = pc.greater(pc.binary_length(captions), MAX_CAPTION_BYTES)
    if flaw := pc.sum(too_long).as_py():
        flaws[TOO_LONG] = flaw
        captions = pc.if_else(too_long, pa.scalar(None, captions.type), captions)
    try:
        return captions.cast(pa.string()), flaws
    except pa.ArrowInvalid:
        texts = [None if caption is None else caption.decode("utf-8", "replace") for caption in captions.to_pylist()]
        repaired = pa.array(texts, pa.string())
        flaws[NOT_UTF8] = pc.sum(pc.not_equal(repaired.cast(pa.binary()), captions)).as_py()
        return repaired, flaws


@cache
def get_labeller(rule: str, vocabulary: str | None) -> Labeller:
    """Return the labeller of a rule and of a vocabulary's name or path, loaded once per process."""
    known_rule, labels = get_rule(rule), read_vocabulary(vocabulary) if vocabulary else None
    with prefix_errors(vocabulary):
        return Labeller(known_rule, labels)


def vocabulary_of_counts(rule: LabelRule, counts: npt.NDArray[np.int64], captions: int) -> Vocabulary:
    """Return the labels that occur, by descending count; `counts` has one entry per label of the rule."""
    kind = "subword" if rule.name == SUBWORD else "synset"
    labels = [
        VocabularyLabel(**{kind: rule.keys[id_]}, name=rule.title(id_), count=int(counts[id_]), gloss=rule.gloss(id_))
        for id_ in np.flatnonzero(counts).tolist()
    ]
    return Vocabulary(rule=rule.name, captions=captions, labels=sort_labels_by_count(labels))
