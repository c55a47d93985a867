"""Captions to columns of a vocabulary, for one process, for a pool and for a cluster."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bench.data.captions.batches import MAX_CAPTION_BYTES, NULL, TOO_LONG, CaptionBatch
from bench.labels.rules import LabelRule, get_rule
from bench.labels.vocabulary import Vocabulary, read_vocabulary

NOT_UTF8 = "not UTF-8"
MENDED = (NOT_UTF8,)  # flaws with which a caption is still labelled, after a repair
LISTS = pa.list_(pa.field("element", pa.uint32(), nullable=False))


@dataclass(slots=True)
class Tally:
    """Counts of labelled captions; tallies can be added."""

    captions: int = 0
    empty: int = 0  # captions without a label
    labels: int = 0
    flaws: Counter[str] = field(default_factory=Counter)  # rows without a caption or with a repaired one, by flaw
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # occurrences by column

    def add(self, other: "Tally") -> None:
        self.captions += other.captions
        self.empty += other.empty
        self.labels += other.labels
        self.flaws.update(other.flaws)
        longer, shorter = sorted((self.counts, other.counts), key=len, reverse=True)
        self.counts = longer.copy()
        self.counts[: len(shorter)] += shorter


class Labeller:
    """A rule with a vocabulary's column of each label; without a vocabulary, every label has a column."""

    def __init__(self, rule: LabelRule, vocabulary: Vocabulary | None = None) -> None:
        self.rule = rule
        self._columns: npt.NDArray[np.int64] | None = None
        self.size = len(rule.keys)
        if vocabulary is not None:
            if vocabulary.rule != rule.name:
                raise ValueError(f"the vocabulary is of the rule {vocabulary.rule!r}, expected {rule.name!r}")
            column = vocabulary.columns()
            if unknown := column.keys() - set(rule.keys):
                raise ValueError(
                    f"the vocabulary has labels that the rule {rule.name!r} never gives: {min(unknown)}, …"
                )
            self._columns = np.array([column.get(key, -1) for key in rule.keys])
            self.size = len(column)

    def __call__(self, batch: CaptionBatch) -> tuple[pa.ListArray, Tally]:
        """Return the columns of each caption of a batch, and their tally."""
        texts, flaws = decode_texts(batch.captions)
        flaws.update(batch.flaws)
        flaws[NULL] += batch.captions.null_count - sum(batch.flaws.values())
        columns, offsets = self.label(texts)
        empty = int((np.diff(offsets) == 0).sum())
        tally = Tally(len(texts), empty, len(columns), +flaws, np.bincount(columns, minlength=self.size))
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(columns, pa.uint32()), LISTS), tally

    def label(self, captions: pa.StringArray) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Return columns [labels] and offsets [captions + 1] as `LabelRule.label` does, without labels of no column."""
        ids, offsets = self.rule.label(captions)
        if self._columns is None:
            return ids, offsets
        columns = self._columns[ids]
        kept = columns >= 0
        return columns[kept].astype(np.uint32), np.concatenate([[0], np.cumsum(kept)])[offsets]

    def lists(self, captions: Sequence[str]) -> list[list[int]]:
        columns, offsets = self.label(pa.array(captions, pa.string()))
        return [row.tolist() for row in np.split(columns, offsets[1:-1])] if len(captions) else []


def decode_texts(captions: pa.BinaryArray) -> tuple[pa.StringArray, Counter[str]]:
    """Return captions as text without those that are too long, and the number of rows by flaw."""
    flaws = Counter[str]()
    too_long = pc.fill_null(pc.greater(pc.binary_length(captions), MAX_CAPTION_BYTES), fill_value=False)
    if flaw := pc.sum(too_long).as_py():
        flaws[TOO_LONG] = flaw
        captions = pc.if_else(too_long, pa.scalar(None, captions.type), captions)
    try:
        return captions.cast(pa.string()), flaws
    except pa.ArrowInvalid:
        texts = [None if caption is None else caption.decode("utf-8", "replace") for caption in captions.to_pylist()]
        mended = pa.array(texts, pa.string())
        flaws[NOT_UTF8] = pc.sum(
            pc.fill_null(pc.not_equal(mended.cast(pa.binary()), captions), fill_value=False)
        ).as_py()
        return mended, flaws


@cache
def labeller(rule: str, vocabulary: str | None) -> Labeller:
    """Return the labeller of a rule and of a vocabulary's name or path, loaded once per process."""
    return Labeller(get_rule(rule), read_vocabulary(vocabulary) if vocabulary else None)
