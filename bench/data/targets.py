"""What methods read beside the images, for a whole data set, and cut to a batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

Kind = TypeVar("Kind", bound="Target")


@runtime_checkable
class Target(Protocol):
    """What a method reads, one item a caption; lives on the CPU until its batch is taken."""

    @property
    def tokens_per_caption(self) -> int | None:
        """Tokens computed for each caption, padding included; None where no text is computed."""
        ...

    def take(self: Kind, rows: Int[Tensor, " batch"]) -> Kind:
        """Return the items of a batch."""
        ...

    def to(self: Kind, device: torch.device) -> Kind:
        """Move to a device without waiting for it."""
        ...


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids, padded with 0, and each caption's length with its start and end token."""

    ids: Int[Tensor, "captions tokens"]
    lengths: Int[Tensor, " captions"]

    @classmethod
    def of(cls, captions: Sequence[Sequence[int]], start: int, end: int, context_length: int) -> "Tokens":
        """Put start and end around each caption; longer ones lose their tail, never the end token."""
        ids = torch.zeros(len(captions), context_length, dtype=torch.int64)
        lengths = torch.empty(len(captions), dtype=torch.int64)
        for row, caption in enumerate(captions):
            whole = [start, *caption[: context_length - 2], end]
            ids[row, : len(whole)] = torch.tensor(whole)
            lengths[row] = len(whole)
        return cls(ids, lengths)

    @property
    def tokens_per_caption(self) -> int:
        """Tokens computed for each caption, padding included."""
        return self.ids.shape[1]

    def take(self, rows: Int[Tensor, " batch"]) -> "Tokens":
        """Return a batch, cut to the shortest of eight fixed lengths that holds its longest caption.

        Few lengths mean few shapes to compile; the batch's own longest is known without asking the device.
        """
        lengths = self.lengths[rows]
        context, longest = self.ids.shape[1], int(lengths.max())
        cut = next(length for length in fixed_lengths(context) if length >= longest)
        return Tokens(self.ids[rows, :cut], lengths)

    def to(self, device: torch.device) -> "Tokens":
        """Move to a device without waiting for it."""
        return Tokens(to_device(self.ids, device), to_device(self.lengths, device))


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a small tensor to a device; to a GPU through pinned memory, so that nothing waits for the copy."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def fixed_lengths(context_length: int) -> list[int]:
    """Return the at most eight lengths that a batch of captions may be cut to: multiples of 8, and the context."""
    step = 8 * math.ceil(context_length / 64)
    return [*range(step, context_length, step), context_length]


@dataclass(frozen=True, slots=True)
class Labels:
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

    @property
    def tokens_per_caption(self) -> None:
        """No text is computed."""
        return

    def take(self, rows: Int[Tensor, " batch"]) -> "Labels":
        """Return a batch."""
        counts = self.starts[rows + 1] - self.starts[rows]
        first = torch.repeat_interleave(self.starts[rows] - (counts.cumsum(0) - counts), counts)
        return self._counted(counts, self.columns[first + torch.arange(len(first))])

    def to(self, device: torch.device) -> "Labels":
        """Move the pairs to a device without waiting for it."""
        return Labels(to_device(self.rows, device), to_device(self.columns, device), self.starts)
