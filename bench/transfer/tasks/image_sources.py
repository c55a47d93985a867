"""Images by their row, from any source, and how they are preprocessed for scoring."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from bench.console.progress import iterate_with_progress_bar
from bench.data.decoding import Pixels, UnusableImageError, decode_image
from bench.data.transforms import resize_and_crop_centre
from bench.environment.files import prefix_errors, read_bytes_unless_larger

BATCH_SIZE = 256
IMAGE_SUFFIXES = (".webp", ".png", ".jpg", ".jpeg")
# Torchvision's recipe for evaluation, which CatLIP's fine-tuning follows.
RESIZE_OVER_CROP = 232 / 224


@runtime_checkable
class ImageSource(Protocol):
    """RGB images by their row."""

    @property
    def resize_over_crop(self) -> float:
        """Length of the scaled shorter side over the side of the crop, where a fine-tuned tower is scored."""
        ...

    def __len__(self) -> int: ...

    def rgb(self, row: int) -> Pixels:
        """Return an image; raises ValueError with the name of its file where it cannot be decoded."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImageSource:
    """Encoded images, decoded on access: files, or ranges of bytes in larger files such as tars."""

    files: Sequence[Path]  # the file of each image
    # First byte and number of bytes of each image; None: each is a whole file.
    byte_ranges: Int[np.ndarray, "images 2"] | None = None
    resize_over_crop = RESIZE_OVER_CROP

    def __len__(self) -> int:
        return len(self.files)

    def read(self, row: int) -> bytes:
        """Return an encoded image."""
        if self.byte_ranges is None:
            return read_bytes_unless_larger(self.files[row])
        start, size = self.byte_ranges[row].tolist()
        with self.files[row].open("rb") as file:
            file.seek(start)
            return file.read(size)

    def rgb(self, row: int) -> Pixels:
        title = str(self.files[row])
        if self.byte_ranges is not None:
            title += f", byte {self.byte_ranges[row, 0]}"
        with prefix_errors(title, (UnusableImageError,)):
            return decode_image(self.read(row))

    def select(self, rows: Sequence[int]) -> "EncodedImageSource":
        files = [self.files[row] for row in rows]
        if self.byte_ranges is None:
            return EncodedImageSource(files)
        return EncodedImageSource(files, self.byte_ranges[np.asarray(rows, dtype=int)])


@dataclass(frozen=True, slots=True, eq=False)
class ArrayImageSource:
    """Small whole images in memory."""

    pixels: UInt8[Tensor, "images 3 height width"]
    resize_over_crop = 1.0

    def __len__(self) -> int:
        return len(self.pixels)

    def rgb(self, row: int) -> Pixels:
        return self.pixels[row]


def composite_on_white(
    premultiplied: UInt8[Tensor, "images 4 height width"],
) -> ArrayImageSource:
    """Return RGBA images whose colours are multiplied by alpha, as the pack's are, composited on white."""
    return ArrayImageSource(premultiplied[:, :3] + (255 - premultiplied[:, 3:]))


@dataclass(frozen=True, slots=True, eq=False)
class ConcatenatedImages:
    """The concatenated images of two parts."""

    first: ImageSource
    second: ImageSource

    @property
    def resize_over_crop(self) -> float:
        return self.first.resize_over_crop

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def rgb(self, row: int) -> Pixels:
        if row < len(self.first):
            return self.first.rgb(row)
        return self.second.rgb(row - len(self.first))


def iterate_eval_batches(
    images: ImageSource, side: int, resize_over_crop: float = 1.0
) -> Iterator[UInt8[Tensor, "batch 3 side side"]]:
    """Yield all images in batches, preprocessed by `resize_and_crop_centre` to a square of `side` pixels."""

    def centre(row: int) -> Tensor:
        return resize_and_crop_centre(images.rgb(row), side, resize_over_crop)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        firsts = range(0, len(images), BATCH_SIZE)
        for first in iterate_with_progress_bar(firsts, len(firsts), "embedding", "batches"):
            rows = range(first, min(first + BATCH_SIZE, len(images)))
            yield torch.stack(list(pool.map(centre, rows)))
