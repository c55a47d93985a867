"""Pictures by their row, wherever they lie, and how they are shown to what is scored."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from bench.data.decoding import UnusableImageError, decoded
from bench.transfer.waiting import waited_for

BATCH = 256
LONGEST = 16  # longer side over the shorter of a picture that is scaled: of longer ones only the middle, for their size
RESIZE_OVER_CROP = 232 / 224  # torchvision's recipe for evaluation, which CatLIP's fine-tuning follows


class UnreadablePicture(ValueError):  # noqa: N818 - the word for it everywhere
    """A picture that cannot be decoded; its text names the file and what is wrong with it."""


@runtime_checkable
class Pictures(Protocol):
    """Pictures by their row."""

    @property
    def resize_over_crop(self) -> float:
        """The length that the shorter side is scaled to, over the side of the centre shown; 1.0 shows all."""
        ...

    def __len__(self) -> int: ...

    def rgb(self, row: int) -> UInt8[Tensor, "3 height width"]:
        """Return a picture; raises UnreadablePicture."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PackPictures:
    """Pictures of the pack, of which all is shown, on white."""

    rgba: UInt8[Tensor, "pictures 4 height width"]  # premultiplied
    resize_over_crop = 1.0

    def __len__(self) -> int:
        return len(self.rgba)

    def rgb(self, row: int) -> UInt8[Tensor, "3 height width"]:
        """Put a picture on white."""
        return self.rgba[row, :3] + (255 - self.rgba[row, 3:])


@dataclass(frozen=True, slots=True, eq=False)
class FilePictures:
    """Files, decoded when they are asked for."""

    paths: Sequence[Path]
    resize_over_crop = RESIZE_OVER_CROP

    def __len__(self) -> int:
        return len(self.paths)

    def rgb(self, row: int) -> UInt8[Tensor, "3 height width"]:
        """Decode a file."""
        path = self.paths[row]
        try:
            return decoded(path.read_bytes())
        except (UnusableImageError, OSError) as error:
            raise UnreadablePicture(f"{path}: {error}") from None


@dataclass(frozen=True, slots=True, eq=False)
class ArrayPictures:
    """Small pictures in memory, as CIFAR's are, of which all is shown."""

    pixels: UInt8[Tensor, "pictures 3 height width"]
    resize_over_crop = 1.0

    def __len__(self) -> int:
        return len(self.pixels)

    def rgb(self, row: int) -> UInt8[Tensor, "3 height width"]:
        """Return a picture."""
        return self.pixels[row]


@dataclass(frozen=True, slots=True, eq=False)
class SomePictures:
    """Rows of others."""

    of: Pictures
    rows: Sequence[int]

    @property
    def resize_over_crop(self) -> float:
        """Those of the others."""
        return self.of.resize_over_crop

    def __len__(self) -> int:
        return len(self.rows)

    def rgb(self, row: int) -> UInt8[Tensor, "3 height width"]:
        """Return a picture of the others."""
        return self.of.rgb(self.rows[row])


def shown(pictures: Pictures, side: int) -> Iterator[UInt8[Tensor, "batch 3 side side"]]:
    """Yield all pictures in batches as they are scored: scaled (bilinear, antialiased), the centre cut out."""
    scaled = round(side * pictures.resize_over_crop)

    def centre(row: int) -> Tensor:
        rgb = pictures.rgb(row)
        middle = F.center_crop(rgb, [min(length, LONGEST * min(rgb.shape[1:])) for length in rgb.shape[1:]])
        whole: Tensor = F.center_crop(F.resize(middle, [scaled], antialias=True), [side, side])
        return whole

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        firsts = range(0, len(pictures), BATCH)
        for first in waited_for(firsts, len(firsts), "embedding"):
            yield torch.stack(list(pool.map(centre, range(first, min(first + BATCH, len(pictures))))))
