"""Targets: the data that methods use in addition to the images, for a whole data set or a batch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import chain
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bench.data.image_sizes import BatchShapeSchedule
from bench.data.text_layouts import (
    choose_caption_counts_by_bucket_width,
    estimate_required_packed_rows,
    list_padding_widths,
    pack_into_rows,
)
from bench.experiment.fields import TextPadding

MAX_BUCKETS = 4
TargetType = TypeVar("TargetType", bound="Target")
BatchRows = Int[Tensor, " batch"]  # of the data set
PerCaption = Int[Tensor, " captions"]
PerLabel = Int[Tensor, " positives"]


@dataclass(frozen=True, slots=True)
class CaptionsWithRows:
    """Texts of captions with their rows in the data set, by which stored features are addressed."""

    texts: Sequence[str]
    rows: Sequence[int]

    @classmethod
    def from_texts(cls, texts: Sequence[str]) -> "CaptionsWithRows":
        """Return the captions of a whole data set."""
        return cls(texts, range(len(texts)))


@runtime_checkable
class Target(Protocol):
    """Data that a method uses, one item per caption; on the CPU until a batch is moved."""

    @property
    def captions(self) -> "CaptionTokens | None":
        """Captions that a text tower embeds; None if no text is computed."""

    def select(self: TargetType, rows: BatchRows) -> TargetType:
        """Return the items of a batch."""

    def with_captions(self: TargetType, captions: "CaptionTokens") -> TargetType:
        """Return the same target with other captions, if text is computed."""

    def to(self: TargetType, device: torch.device) -> TargetType:
        """Move to a device asynchronously."""


class NoTextMixin:
    """Base of targets without computed text."""

    __slots__ = ()
    captions = None

    def with_captions(self: TargetType, _: "CaptionTokens") -> TargetType:
        return self


@dataclass(frozen=True, slots=True)
class CaptionTokens:
    """Token ids, and each caption's length including start and end token.

    Rows are grouped by width and padded with 0. Caption i is number `inverse_permutation[i]` in the order of `lengths`
    and `ends`. A whole data set is one group, as wide as the context.
    """

    groups: tuple[Int[Tensor, "_ _"], ...]
    lengths: PerCaption  # on the CPU
    ends: PerCaption  # place of each caption's end token in the concatenated groups
    inverse_permutation: PerCaption
    padding: TextPadding
    # Places of tokens in their captions, where rows hold several captions.
    positions: Int[Tensor, "rows width"] | None = None
    # Rows of a packed batch, by its number of captions.
    reserved_rows: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def from_ids_without_start_and_end(
        cls,
        captions: Sequence[Sequence[int]],
        start: int,
        end: int,
        context_length: int,
        padding: TextPadding = "length_groups",
    ) -> "CaptionTokens":
        """Add start and end token to each caption; longer captions are truncated before the end token."""
        max_words = context_length - 2
        sequences = [(start, *caption[:max_words], end) for caption in captions]
        all_ids = list(chain.from_iterable(sequences))
        lengths = torch.tensor(list(map(len, sequences)), dtype=torch.int64)
        ids = torch.zeros(len(captions), context_length, dtype=torch.int64)
        has_token = torch.arange(context_length) < lengths[:, None]
        ids[has_token] = torch.tensor(all_ids, dtype=torch.int64)
        rows = torch.arange(len(captions))
        ends = rows * context_length + lengths - 1
        return cls((ids,), lengths, ends, rows, padding)

    @property
    def captions(self) -> "CaptionTokens":
        return self

    @property
    def text_tower_inputs(self) -> tuple[tuple[Tensor, ...], Tensor, Tensor, Tensor | None]:
        """Return the arguments of the text tower."""
        return self.groups, self.ends, self.inverse_permutation, self.positions

    @property
    def num_rows_by_width(self) -> "Counter[int]":
        """Number of rows by their width in tokens; a row is one caption, unless captions are packed."""
        return Counter({ids.shape[1]: len(ids) for ids in self.groups})

    @property
    def tokens_per_caption(self) -> float:
        """Mean number of tokens computed per caption, padding included."""
        num_tokens = sum(ids.numel() for ids in self.groups)
        return num_tokens / len(self.lengths)

    def packed_rows_to_reserve(self, batch_shapes: BatchShapeSchedule) -> dict[int, int]:
        """Return the `reserved_rows` of packed batches of these shapes, with captions as long as these; else none."""
        if self.padding != "packed_rows":
            return {}
        lengths = self.lengths.tolist()
        width = self.groups[0].shape[1]
        sizes = {shape.num_images for shape in batch_shapes.sizes}
        return {size: estimate_required_packed_rows(lengths, width, size) for size in sizes}

    def select(self, rows: BatchRows) -> "CaptionTokens":
        """Return a batch of a data set, trimmed or packed, without a device synchronisation.

        Padding "length_groups" sorts it into the groups that compute the fewest tokens, "longest" makes one group as
        wide as its longest caption needs, "max_length" one group as wide as the context. "packed_rows" puts several
        captions into each of the reserved rows of the context's width, more rows if it needs more.
        """
        if self.padding == "packed_rows":
            return self._select_packed(rows)
        (ids,) = self.groups
        lengths = self.lengths[rows]
        order = lengths.argsort(stable=True)
        sorted_rows = rows[order]
        sorted_lengths = lengths[order]
        group_sizes = self._count_captions_by_group_width(lengths, ids.shape[1])
        groups = []
        widths = []  # of the captions
        first = 0
        for width, size in group_sizes.items():
            group_rows = sorted_rows[first : first + size]
            groups.append(ids[group_rows, :width])
            widths.append(torch.full((size,), width))
            first += size
        row_widths = torch.cat(widths)
        starts = row_widths.cumsum(0) - row_widths
        ends = starts + sorted_lengths - 1
        return CaptionTokens(tuple(groups), sorted_lengths, ends, order.argsort(), self.padding)

    def _count_captions_by_group_width(
        self, lengths: BatchRows, context_length: int
    ) -> dict[int, int]:
        """Return the number of captions by group width, for a batch with captions of these lengths."""
        if self.padding == "max_length":
            return {context_length: len(lengths)}
        widths = list_padding_widths(context_length)
        buckets = torch.bucketize(lengths, torch.tensor(widths))
        counts = buckets.bincount(minlength=len(widths)).tolist()
        max_buckets = MAX_BUCKETS if self.padding == "length_groups" else 1
        return choose_caption_counts_by_bucket_width(widths, counts, max_buckets)

    def _select_packed(self, rows: BatchRows) -> "CaptionTokens":
        """Return a batch whose rows hold several captions."""
        (ids,) = self.groups
        lengths = self.lengths[rows]
        width = ids.shape[1]
        layout = pack_into_rows(lengths.tolist(), width)
        starts = torch.tensor(layout.first_token_positions)
        reserved_rows = self.reserved_rows.get(len(rows), 0)
        num_rows = max(layout.num_rows, reserved_rows)
        captions = torch.arange(len(rows))
        # For each token of the batch its caption, its position in it, and its place in the rows.
        caption = torch.repeat_interleave(captions, lengths)
        num_tokens_before = lengths.cumsum(0) - lengths
        position = torch.arange(len(caption)) - num_tokens_before[caption]
        place = starts[caption] + position
        packed = torch.zeros(num_rows * width, dtype=torch.int64)
        packed[place] = ids[rows[caption], position]
        positions = torch.zeros_like(packed)
        positions[place] = position
        ends = starts + lengths - 1
        return CaptionTokens(
            groups=(packed.view(num_rows, width),),
            lengths=lengths,
            ends=ends,
            inverse_permutation=captions,
            padding=self.padding,
            positions=positions.view(num_rows, width),
        )

    def with_captions(self, captions: "CaptionTokens") -> "CaptionTokens":
        return captions

    def to(self, device: torch.device) -> "CaptionTokens":
        groups = tuple(to_device_async(ids, device) for ids in self.groups)
        ends = to_device_async(self.ends, device)
        inverse = to_device_async(self.inverse_permutation, device)
        positions = None if self.positions is None else to_device_async(self.positions, device)
        return replace(
            self, groups=groups, ends=ends, inverse_permutation=inverse, positions=positions
        )


def to_device_async(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device asynchronously, to a GPU from pinned memory."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def pin_tensors(value: Any) -> Any:
    """Return a tensor in pinned memory, and tuples and dataclasses with their tensors pinned; all else as it is."""
    if isinstance(value, Tensor):
        return value.pin_memory()
    if isinstance(value, tuple):
        items = [pin_tensors(item) for item in value]
        kind = type(value)
        return tuple(items) if kind is tuple else kind(*items)  # a named tuple takes its fields
    if not is_dataclass(value):
        return value
    pinned = {item.name: pin_tensors(getattr(value, item.name)) for item in fields(value)}
    return replace(value, **pinned)  # type: ignore[type-var]


@dataclass(frozen=True, slots=True)
class LabelPairs(NoTextMixin):
    """Labels of images as pairs: image `rows[i]` has label `columns[i]`, each pair once, rows ascending."""

    rows: PerLabel
    columns: PerLabel
    starts: Int[Tensor, " captions_and_1"]  # offset of each image's pairs

    @classmethod
    def from_label_lists(cls, labels: Sequence[Sequence[int]]) -> "LabelPairs":
        """Return the pairs of lists of labels; a repeated label counts once."""
        distinct_labels = [list(dict.fromkeys(row)) for row in labels]
        counts = torch.tensor(list(map(len, distinct_labels)), dtype=torch.int64)
        columns = list(chain.from_iterable(distinct_labels))
        return cls._from_counts_and_columns(counts, torch.tensor(columns, dtype=torch.int64))

    @classmethod
    def _from_counts_and_columns(cls, counts: PerCaption, columns: PerLabel) -> "LabelPairs":
        rows = torch.repeat_interleave(torch.arange(len(counts)), counts)
        first = torch.zeros(1, dtype=torch.int64)
        starts = torch.cat([first, counts.cumsum(0)])
        return cls(to_device_async(rows, columns.device), columns, starts)

    def select(self, rows: BatchRows) -> "LabelPairs":
        starts = self.starts[rows]
        counts = self.starts[rows + 1] - starts
        new_starts = counts.cumsum(0) - counts
        shifts = torch.repeat_interleave(starts - new_starts, counts)
        places = shifts + torch.arange(len(shifts))
        columns = self.columns[to_device_async(places, self.columns.device)]
        return self._from_counts_and_columns(counts, columns)

    def to(self, device: torch.device) -> "LabelPairs":
        rows = to_device_async(self.rows, device)
        columns = to_device_async(self.columns, device)
        return LabelPairs(rows, columns, self.starts)


@dataclass(frozen=True, slots=True)
class TokensAndLabels:
    """Targets of a method that both contrasts captions and classifies."""

    tokens: CaptionTokens
    labels: LabelPairs

    @property
    def captions(self) -> CaptionTokens:
        return self.tokens

    def select(self, rows: BatchRows) -> "TokensAndLabels":
        tokens = self.tokens.select(rows)
        labels = self.labels.select(rows)
        return TokensAndLabels(tokens, labels)

    def with_captions(self, captions: CaptionTokens) -> "TokensAndLabels":
        return TokensAndLabels(captions, self.labels)

    def to(self, device: torch.device) -> "TokensAndLabels":
        tokens = self.tokens.to(device)
        labels = self.labels.to(device)
        return TokensAndLabels(tokens, labels)


@dataclass(frozen=True, slots=True)
class PrecomputedFeatures(NoTextMixin):
    """Stored features, one row per image."""

    values: Float[Tensor, "images dim"]

    def select(self, rows: BatchRows) -> "PrecomputedFeatures":
        return PrecomputedFeatures(self.values[to_device_async(rows, self.values.device)])

    def to(self, device: torch.device) -> "PrecomputedFeatures":
        return PrecomputedFeatures(to_device_async(self.values, device))
