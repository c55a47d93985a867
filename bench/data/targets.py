"""Targets: the data that methods use in addition to the images, for a whole data set or a batch."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bench.config import TextPadding

MAX_LENGTHS, MAX_BUCKETS = 8, 4
TargetType = TypeVar("TargetType", bound="Target")


@dataclass(frozen=True, slots=True)
class Captions:
    """Captions with their rows in the data set, by which stored labels are addressed."""

    texts: Sequence[str]
    rows: Sequence[int]  # in the data set: all samples of its shards, in order
    total: int  # number of rows of the data set

    @classmethod
    def from_texts(cls, texts: Sequence[str]) -> "Captions":
        """Return the captions of a whole data set."""
        return cls(texts, range(len(texts)), len(texts))


@runtime_checkable
class Target(Protocol):
    """Data that a method uses, one item per caption; on the CPU until a batch is moved."""

    @property
    def captions(self) -> "Tokens | None":
        """Captions that a text tower embeds; None if no text is computed."""

    def select(self: TargetType, rows: Int[Tensor, " batch"]) -> TargetType:
        """Return the items of a batch."""

    def with_captions(self: TargetType, captions: "Tokens") -> TargetType:
        """Return the same target with other captions, if text is computed."""

    def to(self: TargetType, device: torch.device) -> TargetType:
        """Move to a device asynchronously."""


class NoTextMixin:
    """Base of targets without computed text."""

    __slots__ = ()
    captions = None

    def with_captions(self: TargetType, _: "Tokens") -> TargetType:
        return self


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids, and each caption's length including start and end token.

    Captions are grouped by width and padded with 0; caption i is row `inverse_permutation[i]` of the concatenated
    groups, whose order `lengths` has too. A whole data set is one group, as wide as the context.
    """

    groups: tuple[Int[Tensor, "_ _"], ...]
    lengths: Int[Tensor, " captions"]
    inverse_permutation: Int[Tensor, " captions"]
    padding: TextPadding

    @classmethod
    def from_ids(
        cls,
        captions: Sequence[Sequence[int]],
        start: int,
        end: int,
        context_length: int,
        padding: TextPadding = "bucketed",
    ) -> "Tokens":
        """Add start and end token to each caption; longer captions are truncated before the end token."""
        ids = torch.zeros(len(captions), context_length, dtype=torch.int64)
        lengths = torch.empty(len(captions), dtype=torch.int64)
        for row, caption in enumerate(captions):
            whole = [start, *caption[: context_length - 2], end]
            ids[row, : len(whole)] = torch.tensor(whole)
            lengths[row] = len(whole)
        return cls((ids,), lengths, torch.arange(len(captions)), padding)

    @property
    def captions(self) -> "Tokens":
        return self

    @property
    def count_widths(self) -> "Counter[int]":
        """Number of captions by the number of tokens computed for each."""
        return Counter({ids.shape[1]: len(ids) for ids in self.groups})

    @property
    def tokens_per_caption(self) -> float:
        """Mean number of tokens computed per caption, padding included."""
        return sum(width * count for width, count in self.count_widths.items()) / len(self.lengths)

    def select(self, rows: Int[Tensor, " batch"]) -> "Tokens":
        """Return a batch of a data set, sorted by length and trimmed, without a device synchronisation.

        Padding "bucketed" splits it into the groups that compute the fewest tokens, "longest" makes one group as wide
        as its longest caption needs, "max_length" one group as wide as the context.
        """
        (ids,), lengths = self.groups, self.lengths[rows]
        widths = allowed_lengths(ids.shape[1])
        if self.padding == "max_length":
            sizes = {widths[-1]: len(rows)}
        else:
            counts = torch.bucketize(lengths, torch.tensor(widths)).bincount(minlength=len(widths)).tolist()
            sizes = fewest_token_buckets(widths, counts, MAX_BUCKETS if self.padding == "bucketed" else 1)
        order = lengths.argsort(stable=True)
        bounds = pairwise(accumulate(sizes.values(), initial=0))
        groups = (ids[rows[order[first:last]], :width] for width, (first, last) in zip(sizes, bounds, strict=True))
        return Tokens(tuple(groups), lengths[order], order.argsort(), self.padding)

    def with_captions(self, captions: "Tokens") -> "Tokens":
        return captions

    def to(self, device: torch.device) -> "Tokens":
        groups = tuple(to_device(ids, device) for ids in self.groups)
        lengths, inverse = (to_device(tensor, device) for tensor in (self.lengths, self.inverse_permutation))
        return Tokens(groups, lengths, inverse, self.padding)


def allowed_lengths(context_length: int) -> list[int]:
    """Return at most eight widths that captions are padded to, so that few shapes are compiled.

    They are the context and multiples of 8, or of less if the context is short: most captions are short.
    """
    step = min(8, -(-context_length // MAX_LENGTHS))
    return [*range(step, min(context_length, step * MAX_LENGTHS), step), context_length]


def fewest_token_buckets(widths: Sequence[int], counts: Sequence[int], max_buckets: int) -> dict[int, int]:
    """Return the number of captions by group width, such that the fewest tokens are computed.

    `counts[k]` captions need `widths[k]` tokens, widths ascending; a group is as wide as its longest caption needs.
    Exact dynamic programme: the optimum up to a width is the last group plus the optimum of those before it.
    """
    needed = [(width, count) for width, count in zip(widths, counts, strict=True) if count]

    @cache
    def best(end: int, groups: int) -> tuple[int, tuple[int, ...]]:
        """Return the fewest tokens of the shortest `end` widths in at most `groups` groups, and the groups' ends."""
        if end == 0 or groups == 0:
            return (0, ()) if end == 0 else (sys.maxsize, ())
        options = []
        for start in range(end):
            tokens, ends = best(start, groups - 1)
            captions = sum(count for _, count in needed[start:end])
            options.append((tokens + needed[end - 1][0] * captions, (*ends, end)))
        return min(options)

    ends = (0, *best(len(needed), max_buckets)[1])
    return {needed[end - 1][0]: sum(count for _, count in needed[start:end]) for start, end in pairwise(ends)}


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a small tensor to a device asynchronously; to a GPU from pinned memory."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@dataclass(frozen=True, slots=True)
class Labels(NoTextMixin):
    """Label indices as pairs: image `rows[i]` has label `columns[i]`, each pair once, rows ascending."""

    rows: Int[Tensor, " positives"]
    columns: Int[Tensor, " positives"]
    starts: Int[Tensor, " captions_and_1"]  # offset of each image's pairs

    @classmethod
    def from_lists(cls, labels: Sequence[Sequence[int]]) -> "Labels":
        """Return the pairs of lists of labels; a repeated label counts once."""
        distinct = [tuple(dict.fromkeys(row)) for row in labels]
        counts = torch.tensor([len(row) for row in distinct], dtype=torch.int64)
        columns = torch.tensor([label for row in distinct for label in row], dtype=torch.int64)
        return cls._from_counts(counts, columns)

    @classmethod
    def _from_counts(cls, counts: Int[Tensor, " captions"], columns: Int[Tensor, " positives"]) -> "Labels":
        rows = to_device(torch.repeat_interleave(torch.arange(len(counts)), counts), columns.device)
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        return cls(rows, columns, starts)

    def select(self, rows: Int[Tensor, " batch"]) -> "Labels":
        counts = self.starts[rows + 1] - self.starts[rows]
        first = torch.repeat_interleave(self.starts[rows] - (counts.cumsum(0) - counts), counts)
        return self._from_counts(counts, self.columns[to_device(first + torch.arange(len(first)), self.columns.device)])

    def to(self, device: torch.device) -> "Labels":
        return Labels(to_device(self.rows, device), to_device(self.columns, device), self.starts)


@dataclass(frozen=True, slots=True)
class TokensAndLabels:
    """Targets of a method that both contrasts captions and classifies."""

    tokens: Tokens
    labels: Labels

    @property
    def captions(self) -> Tokens:
        return self.tokens

    def select(self, rows: Int[Tensor, " batch"]) -> "TokensAndLabels":
        return TokensAndLabels(self.tokens.select(rows), self.labels.select(rows))

    def with_captions(self, captions: Tokens) -> "TokensAndLabels":
        return TokensAndLabels(captions, self.labels)

    def to(self, device: torch.device) -> "TokensAndLabels":
        return TokensAndLabels(self.tokens.to(device), self.labels.to(device))


@dataclass(frozen=True, slots=True)
class NoTarget(NoTextMixin):
    """Target of a method that uses images alone."""

    def select(self, _: Int[Tensor, " batch"]) -> "NoTarget":
        return self

    def to(self, _: torch.device) -> "NoTarget":
        return self


@dataclass(frozen=True, slots=True)
class Features(NoTextMixin):
    """A teacher's features, one row per image."""

    values: Float[Tensor, "images dim"]

    def select(self, rows: Int[Tensor, " batch"]) -> "Features":
        return Features(self.values[rows])

    def to(self, device: torch.device) -> "Features":
        return Features(to_device(self.values, device))
