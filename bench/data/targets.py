"""What methods read beside the images, for a whole data set, and cut to a batch."""

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

MOST_LENGTHS, MOST_GROUPS = 8, 4
Kind = TypeVar("Kind", bound="Target")


@dataclass(frozen=True, slots=True)
class Captions:
    """Captions, and where each stands in its data set, which is where its stored labels are."""

    texts: Sequence[str]
    rows: Sequence[int]  # of the data set: all samples of its shards, in order
    total: int  # rows of the data set

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Captions":
        """Take captions for a whole data set."""
        return cls(texts, range(len(texts)), len(texts))


@runtime_checkable
class Target(Protocol):
    """What a method reads, one item a caption; lives on the CPU until its batch is taken."""

    @property
    def captions(self) -> "Tokens | None":
        """The captions that a text tower embeds; None where no text is computed."""
        ...

    def take(self: Kind, rows: Int[Tensor, " batch"]) -> Kind:
        """Return the items of a batch."""
        ...

    def with_captions(self: Kind, captions: "Tokens") -> Kind:
        """Return the same with other captions, where text is computed."""
        ...

    def to(self: Kind, device: torch.device) -> Kind:
        """Move to a device without waiting for it."""
        ...


class WithoutText:
    """What targets share of which no text is computed."""

    __slots__ = ()

    @property
    def captions(self) -> None:
        """No text is computed."""
        return

    def with_captions(self: Kind, _: "Tokens") -> Kind:
        """Return the same: no text is computed."""
        return self


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids, and each caption's length with its start and end token.

    Captions stand in groups of one width each, padded with 0; caption i is row `places[i]` of the groups one after the
    other, which is also the order of `lengths`. A data set is one group, as wide as the context.
    """

    groups: tuple[Int[Tensor, "_ _"], ...]
    lengths: Int[Tensor, " captions"]
    places: Int[Tensor, " captions"]
    padding: TextPadding

    @classmethod
    def of(
        cls,
        captions: Sequence[Sequence[int]],
        start: int,
        end: int,
        context_length: int,
        padding: TextPadding = "none",
    ) -> "Tokens":
        """Put start and end around each caption; longer ones lose their tail, never the end token."""
        ids = torch.zeros(len(captions), context_length, dtype=torch.int64)
        lengths = torch.empty(len(captions), dtype=torch.int64)
        for row, caption in enumerate(captions):
            whole = [start, *caption[: context_length - 2], end]
            ids[row, : len(whole)] = torch.tensor(whole)
            lengths[row] = len(whole)
        return cls((ids,), lengths, torch.arange(len(captions)), padding)

    @property
    def captions(self) -> "Tokens":
        """Return itself: all of it is text."""
        return self

    @property
    def widths(self) -> "Counter[int]":
        """How many captions are computed at how many tokens."""
        return Counter({ids.shape[1]: len(ids) for ids in self.groups})

    @property
    def tokens_per_caption(self) -> float:
        """Tokens computed for each caption, padding included, the mean."""
        return sum(width * count for width, count in self.widths.items()) / len(self.lengths)

    def take(self, rows: Int[Tensor, " batch"]) -> "Tokens":
        """Return a batch of a data set: sorted by length and cut, without asking the device.

        With padding "none" into the groups that compute the fewest tokens, with "batch" in one group as wide as its
        longest caption needs, with "full" in one as wide as the context.
        """
        (ids,), lengths = self.groups, self.lengths[rows]
        widths = fixed_lengths(ids.shape[1])
        if self.padding == "full":
            sizes = {widths[-1]: len(rows)}
        else:
            counts = torch.bucketize(lengths, torch.tensor(widths)).bincount(minlength=len(widths)).tolist()
            sizes = group_sizes(widths, counts, MOST_GROUPS if self.padding == "none" else 1)
        order = lengths.argsort(stable=True)
        bounds = pairwise(accumulate(sizes.values(), initial=0))
        groups = (ids[rows[order[first:last]], :width] for width, (first, last) in zip(sizes, bounds, strict=True))
        return Tokens(tuple(groups), lengths[order], order.argsort(), self.padding)

    def with_captions(self, captions: "Tokens") -> "Tokens":
        """Return the other captions."""
        return captions

    def to(self, device: torch.device) -> "Tokens":
        """Move to a device without waiting for it."""
        groups = tuple(to_device(ids, device) for ids in self.groups)
        return Tokens(groups, to_device(self.lengths, device), to_device(self.places, device), self.padding)


def fixed_lengths(context_length: int) -> list[int]:
    """Return the at most eight lengths that captions may be cut to: few, so that few shapes are compiled.

    They are the context and multiples of 8, or of less where the context is short: most captions are.
    """
    step = min(8, -(-context_length // MOST_LENGTHS))
    return [*range(step, min(context_length, step * MOST_LENGTHS), step), context_length]


def group_sizes(widths: Sequence[int], counts: Sequence[int], most_groups: int) -> dict[int, int]:
    """Return the width of each group with its number of captions, so that the fewest tokens are computed.

    `counts[k]` captions need `widths[k]` tokens, widths rising; a group is as wide as its longest caption needs.
    Exact: what is best up to a width is the last group and what is best for those before it.
    """
    needed = [(width, count) for width, count in zip(widths, counts, strict=True) if count]

    @cache
    def best(end: int, groups: int) -> tuple[int, tuple[int, ...]]:
        """Return the fewest tokens for the shortest `end` needs in so many groups at most, and where these end."""
        if end == 0 or groups == 0:
            return (0, ()) if end == 0 else (sys.maxsize, ())
        options = []
        for start in range(end):
            tokens, ends = best(start, groups - 1)
            captions = sum(count for _, count in needed[start:end])
            options.append((tokens + needed[end - 1][0] * captions, (*ends, end)))
        return min(options)

    ends = (0, *best(len(needed), most_groups)[1])
    return {needed[end - 1][0]: sum(count for _, count in needed[start:end]) for start, end in pairwise(ends)}


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a small tensor to a device; to a GPU through pinned memory, so that nothing waits for the copy."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@dataclass(frozen=True, slots=True)
class Labels(WithoutText):
    """Label indices as pairs: image `rows[i]` has label `columns[i]`, each pair once, rows ascending."""

    rows: Int[Tensor, " positives"]
    columns: Int[Tensor, " positives"]
    starts: Int[Tensor, " captions_and_1"]  # where each image's pairs begin

    @classmethod
    def of(cls, labels: Sequence[Sequence[int]]) -> "Labels":
        """Make pairs of lists; a label that a list repeats counts once."""
        distinct = [tuple(dict.fromkeys(row)) for row in labels]
        counts = torch.tensor([len(row) for row in distinct], dtype=torch.int64)
        columns = torch.tensor([label for row in distinct for label in row], dtype=torch.int64)
        return cls._counted(counts, columns)

    @classmethod
    def _counted(cls, counts: Int[Tensor, " captions"], columns: Int[Tensor, " positives"]) -> "Labels":
        rows = torch.repeat_interleave(torch.arange(len(counts)), counts)
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        return cls(rows, columns, starts)

    def take(self, rows: Int[Tensor, " batch"]) -> "Labels":
        """Return a batch."""
        counts = self.starts[rows + 1] - self.starts[rows]
        first = torch.repeat_interleave(self.starts[rows] - (counts.cumsum(0) - counts), counts)
        return self._counted(counts, self.columns[to_device(first + torch.arange(len(first)), self.columns.device)])

    def to(self, device: torch.device) -> "Labels":
        """Move the pairs to a device without waiting for it."""
        return Labels(to_device(self.rows, device), to_device(self.columns, device), self.starts)


@dataclass(frozen=True, slots=True)
class TokensAndLabels:
    """Both, for a method that compares captions and classifies."""

    tokens: Tokens
    labels: Labels

    @property
    def captions(self) -> Tokens:
        """The captions that the text tower embeds."""
        return self.tokens

    def take(self, rows: Int[Tensor, " batch"]) -> "TokensAndLabels":
        """Return a batch."""
        return TokensAndLabels(self.tokens.take(rows), self.labels.take(rows))

    def with_captions(self, captions: Tokens) -> "TokensAndLabels":
        """Return the same labels with other captions."""
        return TokensAndLabels(captions, self.labels)

    def to(self, device: torch.device) -> "TokensAndLabels":
        """Move to a device without waiting for it."""
        return TokensAndLabels(self.tokens.to(device), self.labels.to(device))


@dataclass(frozen=True, slots=True)
class Nothing(WithoutText):
    """What a method reads that looks at images alone."""

    def take(self, _: Int[Tensor, " batch"]) -> "Nothing":
        """Return nothing."""
        return self

    def to(self, _: torch.device) -> "Nothing":
        """Return nothing."""
        return self


@dataclass(frozen=True, slots=True)
class Features(WithoutText):
    """A teacher's features, a row an image."""

    rows: Float[Tensor, "images dim"]

    def take(self, rows: Int[Tensor, " batch"]) -> "Features":
        """Return a batch."""
        return Features(self.rows[rows])

    def to(self, device: torch.device) -> "Features":
        """Move to a device without waiting for it."""
        return Features(to_device(self.rows, device))
