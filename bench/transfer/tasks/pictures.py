"""Images by their row, from any source, and the preprocessing that they are scored with."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from bench.data.decoding import UnusableImageError, decode_image
from bench.transfer.waiting import progress_bar

BATCH = 256
MAX_ASPECT_RATIO = 16  # largest aspect ratio of an image that is scaled; of a longer one the middle is cut out first
RESIZE_OVER_CROP = 232 / 224  # torchvision's recipe for evaluation, which CatLIP's fine-tuning follows
NAMED = 3  # names in a message


class UnreadableImageError(ValueError):
    """An image that cannot be decoded; the message names the file and the reason."""


@runtime_checkable
class ImageSource(Protocol):
    """Images by their row."""

    @property
    def resize_over_crop(self) -> float:
        """Length that the shorter side is scaled to, over the side of the centre crop; 1.0 keeps the whole image."""
        ...

    def __len__(self) -> int: ...

    def rgb(self, row: int) -> UInt8[Tensor, "3 height width"]:
        """Return an image; raises UnreadableImageError."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PackImageSource:
    """Whole images of the pack, composited on white."""

    rgba: UInt8[Tensor, "images 4 height width"]  # premultiplied
    resize_over_crop = 1.0

    def __len__(self) -> int:
        return len(self.rgba)

    def rgb(self, row: int) -> UInt8[Tensor, "3 height width"]:
        return self.rgba[row, :3] + (255 - self.rgba[row, 3:])


@dataclass(frozen=True, slots=True, eq=False)
class FileImageSource:
    """Files, decoded on access."""

    paths: Sequence[Path]
    resize_over_crop = RESIZE_OVER_CROP

    def __len__(self) -> int:
        return len(self.paths)

    def rgb(self, row: int) -> UInt8[Tensor, "3 height width"]:
        path = self.paths[row]
        try:
            return decode_image(path.read_bytes())
        except (UnusableImageError, OSError) as error:
            raise UnreadableImageError(f"{path}: {error}") from None


@dataclass(frozen=True, slots=True, eq=False)
class ArrayImageSource:
    """Small whole images in memory, such as CIFAR's."""

    pixels: UInt8[Tensor, "images 3 height width"]
    resize_over_crop = 1.0

    def __len__(self) -> int:
        return len(self.pixels)

    def rgb(self, row: int) -> UInt8[Tensor, "3 height width"]:
        return self.pixels[row]


@dataclass(frozen=True, slots=True, eq=False)
class ImageSubset:
    """Some rows of other images."""

    of: ImageSource
    rows: Sequence[int]

    @property
    def resize_over_crop(self) -> float:
        return self.of.resize_over_crop

    def __len__(self) -> int:
        return len(self.rows)

    def rgb(self, row: int) -> UInt8[Tensor, "3 height width"]:
        return self.of.rgb(self.rows[row])


def eval_batches(images: ImageSource, side: int) -> Iterator[UInt8[Tensor, "batch 3 side side"]]:
    """Yield all images in batches, preprocessed for scoring: scaled (bilinear, antialiased) and centre-cropped."""
    scaled = round(side * images.resize_over_crop)

    def centre(row: int) -> Tensor:
        rgb = images.rgb(row)
        middle = F.center_crop(rgb, [min(length, MAX_ASPECT_RATIO * min(rgb.shape[1:])) for length in rgb.shape[1:]])
        whole: Tensor = F.center_crop(F.resize(middle, [scaled], antialias=True), [side, side])
        return whole

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        firsts = range(0, len(images), BATCH)
        for first in progress_bar(firsts, len(firsts), "embedding"):
            yield torch.stack(list(pool.map(centre, range(first, min(first + BATCH, len(images))))))


def format_some(names: Sequence[object]) -> str:
    """Name the first three of many, and how many more there are."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(map(str, names[:NAMED])) + more
