"""A data source: how images and captions for pre-training are found and read, in one object. No torch here.

The loader is the same for all sources: order, crops, decoding, targets, workers, ranks and resuming.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bench.interfaces.registry import Named, Registry
from bench.tables.formats import format_count_with_noun

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFieldsRequest:
    """Which fields of each sample a run reads, with the folder for caches."""

    cache: Path  # folder for what a source computes once, such as an index
    # Which fields of a sample are read: a `CaptionChoice` of bench.data.captions.choice.
    captions: Any
    # Name of the column of images in a table, or the suffix of images; None: found by name or content.
    image_column: str | None = None
    has_embeddings: bool = False  # grids of embeddings in place of images
    needs_captions: bool = True  # a sample without a caption cannot be used


class Samples:
    """The usable samples of data by row, from 0; the loader reads them in any order, also in several processes.

    It is handed to loader workers by pickle: open files and large tables there, when they are first used.
    """

    # Whether `premultiplied_rgba` has all images, and the device makes batches of them.
    is_decoded: ClassVar[bool] = False

    @cached_property
    def skipped(self) -> Mapping[str, int]:
        """Number of samples that cannot be used, by reason; a subclass may set it as an attribute."""
        return {}

    def __len__(self) -> int:
        """Return the number of usable samples."""
        raise NotImplementedError

    def key(self, row: int) -> str:
        """Return the name of a sample, which no other has."""
        raise NotImplementedError

    def image(self, row: int) -> bytes:
        """Return an encoded image (JPEG, PNG, WebP or GIF), or embeddings in .npy; ValueError or OSError ends the run.

        An image that cannot be decoded is counted and replaced by the loader.
        """
        raise NotImplementedError

    def caption(self, row: int) -> str:
        """Return the caption of a sample; empty if it has none and none is needed."""
        raise NotImplementedError

    def captions_by_field(self, row: int) -> tuple[tuple[str, ...], ...]:
        """Return the captions of a sample by field of the request's choice; one of them is drawn for each epoch."""
        return ((self.caption(row),),)

    @property
    def premultiplied_rgba(self) -> "UInt8[Tensor, 'samples 4 height width']":
        """Decoded images with alpha, by which their colours are multiplied, where the class sets `is_decoded`."""
        raise NotImplementedError

    @property
    def keys(self) -> Sequence[str]:
        """Keys of all rows."""
        return [self.key(row) for row in range(len(self))]

    @property
    def total_with_unusable(self) -> int:
        """Number of samples, unusable ones included."""
        return len(self) + sum(self.skipped.values())

    def notes(self) -> list[str]:
        """Return remarks for the user: the number of samples, and of skipped ones."""
        notes = [format_count_with_noun(len(self), "sample")]
        num_skipped = sum(self.skipped.values())
        if num_skipped:
            notes.append(
                f"{num_skipped:,} of {self.total_with_unusable:,} samples are skipped ({format_counts(self.skipped)})"
            )
        return notes


class DataSource(Named):
    """A way to keep images and captions: it says what a path holds, and opens it.

    An extension's file is imported by every loader worker, and
    nothing may touch CUDA during the import.
    """

    name: str  # in messages: what it reads
    # Whether `label` counts labels in the source's files, without its index of samples.
    can_count_labels_from_files: ClassVar[bool] = False
    # Of --caption-fields (`captions` of the request) and --image-column (`image_column`), those that its samples read.
    options: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def recognises(self, data: str) -> bool:
        """Return whether the source reads the value of `--data`, a path, glob or name, by what lies there."""

    @abstractmethod
    def files(self, data: str) -> list[Path]:
        """Return the files whose change makes other data, in order: ranks must have equal ones, and a resumed training.

        ValueError or OSError if they cannot be read.
        """

    def digest(self, _data: str) -> str | None:
        """Return a text that changes with the data, equal on all nodes; None: the content of `files` is hashed."""
        return None

    @abstractmethod
    def open(self, data: str, request: SampleFieldsRequest) -> Samples:
        """Return the samples, in an order that depends on the files alone; ValueError or OSError."""


SOURCES = Registry[DataSource]("data source", DataSource, "bench.data.sources:SOURCES")


def format_counts(counts: Mapping[str, int]) -> str:
    """Return counts by name as text: "no caption: 12, no image: 3"."""
    return ", ".join(f"{reason}: {count:,}" for reason, count in sorted(counts.items()))
