"""Images inside larger files, such as tars, decoded on access."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from jaxtyping import Int, UInt8
from torch import Tensor

from bench.data.captions.files import UNREADABLE
from bench.data.decoding import UnusableImageError, decode_image
from bench.transfer.tasks.image_sources import RESIZE_OVER_CROP, UnreadableImageError

UNREADABLE_FILES = (*UNREADABLE, pa.ArrowException)


class EncodedImages(Protocol):
    """Encoded images by their row."""

    @property
    def files(self) -> Sequence[Path]:
        """The files that hold them."""
        ...

    def read(self, row: int) -> bytes:
        """Return the encoded image."""
        ...

    def title(self, row: int) -> str:
        """Name the image in messages."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PackedImageSource:
    """Some of the images inside larger files, decoded on access."""

    encoded: EncodedImages
    rows: Int[np.ndarray, " images"]
    resize_over_crop = RESIZE_OVER_CROP

    @property
    def files(self) -> Sequence[Path]:
        """The files that hold the images."""
        return self.encoded.files

    def __len__(self) -> int:
        return len(self.rows)

    def rgb(self, row: int) -> UInt8[Tensor, "3 height width"]:
        inside = int(self.rows[row])
        try:
            return decode_image(self.encoded.read(inside))
        except UnusableImageError as error:
            raise UnreadableImageError(f"{self.encoded.title(inside)}: {error}") from None

    def select(self, rows: Sequence[int]) -> "PackedImageSource":
        return replace(self, rows=self.rows[np.asarray(rows, dtype=int)])
