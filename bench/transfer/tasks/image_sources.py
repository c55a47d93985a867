"""Images by their row, from any source, and how they are preprocessed for scoring."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec
import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from bench.console.console import escape_unprintable
from bench.console.progress import make_bar, show_progress
from bench.data.decoding import UnusableImageError, decode_image
from bench.data.transforms import resize_and_crop_centre
from bench.environment.files import atomic_write, prefix_errors, read_limited

BATCH_SIZE = 256
IMAGE_SUFFIXES = (".webp", ".png", ".jpg", ".jpeg")
# Torchvision's recipe for evaluation, which CatLIP's fine-tuning follows.
RESIZE_OVER_CROP = 232 / 224
MAX_NAMES = 3  # in a message
# Share of a data set's files. Scores with more files missing would not be comparable with scores on the whole data set.
MAX_UNREADABLE_SHARE = 0.01


class UnreadableImageError(ValueError):
    """An image that cannot be decoded; the message names the file and the reason."""


@runtime_checkable
class ImageSource(Protocol):
    """RGB images by their row."""

    @property
    def resize_over_crop(self) -> float:
        """Length of the scaled shorter side over the side of the crop, where a fine-tuned tower is scored."""
        ...

    def __len__(self) -> int: ...

    def rgb(self, row: int) -> UInt8[Tensor, "3 height width"]:
        """Return an image; raises ValueError with the name of its file where it cannot be decoded."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FileImageSource:
    """Encoded images, decoded on access: files, or ranges of bytes in larger files such as tars."""

    files: Sequence[Path]  # the file of each image
    # First byte and number of bytes of each image; None: each is a whole file.
    byte_ranges: Int[np.ndarray, "images 2"] | None = None
    resize_over_crop = RESIZE_OVER_CROP

    def __len__(self) -> int:
        return len(self.files)

    def rgb(self, row: int) -> UInt8[Tensor, "3 height width"]:
        path = self.files[row]
        if self.byte_ranges is None:
            title = str(path)
            encoded = read_image_file(path)
        else:
            start, size = self.byte_ranges[row].tolist()
            title = f"{path}, byte {start}"
            with path.open("rb") as file:
                file.seek(start)
                encoded = file.read(size)
        try:
            return decode_image(encoded)
        except UnusableImageError as error:
            raise UnreadableImageError(f"{title}: {error}") from None

    def select(self, rows: Sequence[int]) -> "FileImageSource":
        files = [self.files[row] for row in rows]
        if self.byte_ranges is None:
            return FileImageSource(files)
        return FileImageSource(files, self.byte_ranges[np.asarray(rows, dtype=int)])


@dataclass(frozen=True, slots=True, eq=False)
class ArrayImageSource:
    """Small whole images in memory."""

    pixels: UInt8[Tensor, "images 3 height width"]
    resize_over_crop = 1.0

    def __len__(self) -> int:
        return len(self.pixels)

    def rgb(self, row: int) -> UInt8[Tensor, "3 height width"]:
        return self.pixels[row]


def premultiplied_on_white(
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

    def rgb(self, row: int) -> UInt8[Tensor, "3 height width"]:
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
        for first in show_progress(firsts, len(firsts), "embedding", "batches"):
            rows = range(first, min(first + BATCH_SIZE, len(images)))
            yield torch.stack(list(pool.map(centre, rows)))


def name_first_three(names: Sequence[object]) -> str:
    """Return the first three names as text, and how many more there are."""
    text = ", ".join(str(name) for name in names[:MAX_NAMES])
    if len(names) > MAX_NAMES:
        text += f" and {len(names) - MAX_NAMES:,} more"
    return text


def read_image_file(path: Path) -> bytes:
    """Return a file's bytes; UnreadableImageError for one that `read_limited` refuses or cannot open."""
    try:
        return read_limited(path)
    except (OSError, ValueError) as error:  # each names the file
        raise UnreadableImageError(str(error)) from None


def find_readable_rows(
    decode: Callable[[int], object],
    num_rows: int,
    files: Sequence[Path],
    cache: Path,
    title: str,
    decoding: str = "",
) -> tuple[list[int], list[str]]:
    """Return the rows that `decode` can read, and a note on the rows for which it raises UnreadableImageError.

    The cached result is keyed by the paths, sizes and modification times of `files`, and by `decoding` they are
    decoded. Raises ValueError where more than one row in a hundred is unreadable; other errors of `decode` are passed
    on.
    """
    file = cache / f"unreadable-{digest_files(files, decoding)}.json"
    if file.is_file():
        with prefix_errors(
            f"{file}: no list of unreadable images, remove it", (msgspec.DecodeError,)
        ):
            reasons = msgspec.json.decode(file.read_bytes(), type=dict[int, str])
    else:
        reasons = _find_reasons_unreadable(decode, num_rows, title)
        with atomic_write(file) as temporary:
            temporary.write_bytes(msgspec.json.encode(reasons))
    examples = name_first_three(list(reasons.values()))
    note = f"{title}: {len(reasons):,} of {num_rows:,} images cannot be read ({examples})"
    if len(reasons) > MAX_UNREADABLE_SHARE * num_rows:
        raise ValueError(f"{note}: more than one in a hundred, so nothing is scored")
    rows = [row for row in range(num_rows) if row not in reasons]
    notes = [f"{note}; they are left out"] if reasons else []
    return rows, notes


def _find_reasons_unreadable(
    decode: Callable[[int], object], count: int, title: str
) -> dict[int, str]:
    """Return why a row cannot be decoded, by row; rows that can are left out."""

    def find_reason(row: int) -> str:
        """Return why a row cannot be decoded; empty if it can."""
        try:
            decode(row)
        except UnreadableImageError as error:
            return escape_unprintable(str(error))
        return ""

    reasons = dict[int, str]()
    with (
        ThreadPoolExecutor(torch.get_num_threads()) as pool,
        make_bar(f"decoding {title}", count, "images") as bar,
    ):
        for first in range(0, count, BATCH_SIZE):
            rows = range(first, min(first + BATCH_SIZE, count))
            for row, reason in zip(rows, pool.map(find_reason, rows), strict=True):
                if reason:
                    reasons[row] = reason
            bar.update(len(rows))
    return reasons


def digest_files(paths: Sequence[Path], decoding: str = "") -> str:
    """Return a short digest of the paths, sizes and modification times of files, and of how they are read."""
    digest = hashlib.sha256(decoding.encode())
    for path in paths:
        status = path.stat()
        line = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
