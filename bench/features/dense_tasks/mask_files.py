"""ADE20k's layout as a segmentation task."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from bench.data.decoding import MAX_PIXELS, TOO_LARGE
from bench.environment.files import prefix_errors, read_bytes_unless_larger
from bench.features.dense_tasks.layouts import ADE20K_LAYOUT, require_path_of_layout
from bench.features.dense_tasks.segmentation import ImageAndMask, SegmentationTask
from bench.features.dense_tasks.task_files import build_task_with_holdout
from bench.transfer.tasks.image_sources import IMAGE_SUFFIXES, EncodedImageSource

ONE_CHANNEL_MODES = ("L", "P", "1")  # Pillow's modes with one number per pixel
ADE20K_CLASSES = 150


@dataclass(frozen=True, slots=True, eq=False)
class ImageAndMaskFiles:
    """Images with one mask each, decoded on access."""

    images: EncodedImageSource
    masks: Sequence[Path]

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, row: int) -> ImageAndMask:
        """Decode an image and its mask; ValueError names a file that cannot be decoded, or a mask that does not fit."""
        rgb = self.images.rgb(row)
        path = self.masks[row]
        numbers = _read_mask_numbers(path)
        if numbers.shape != rgb.shape[1:]:
            raise ValueError(f"{path} and its image {self.images.files[row]} have other sizes")
        if numbers.max() > ADE20K_CLASSES:
            raise ValueError(f"{path} has the number {numbers.max()}, which is no class of the set")
        return rgb, torch.from_numpy(numbers - np.uint8(1))  # 0, no class, becomes IGNORED

    def select(self, rows: Sequence[int]) -> "ImageAndMaskFiles":
        masks = [self.masks[row] for row in rows]
        return ImageAndMaskFiles(self.images.select(rows), masks)


def read_ade20k_segmentation_task(root: Path, _cache: Path) -> SegmentationTask:
    """Read ADE20k as in its challenge of 2016: 150 classes; 0 marks pixels without a class, which are ignored."""
    classes = tuple(f"class {number}" for number in range(1, ADE20K_CLASSES + 1))
    train = _pair_images_with_masks(root, "training")
    test = _pair_images_with_masks(root, "validation")
    return build_task_with_holdout(SegmentationTask, "ade20k", classes, train, test, train.masks)


def _pair_images_with_masks(root: Path, part: str) -> ImageAndMaskFiles:
    """Pair the images of a part with the masks of the same names, without decoding."""
    image_folder = root / "images" / part
    mask_folder = root / "annotations" / part
    require_path_of_layout(root, image_folder, ADE20K_LAYOUT)
    require_path_of_layout(root, mask_folder, ADE20K_LAYOUT)
    files = sorted(path for path in image_folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    mask_files = [mask_folder / f"{path.stem}.png" for path in files]
    unpaired = set(mask_files) ^ set(mask_folder.glob("*.png"))
    if unpaired:
        raise ValueError(
            f"{root}: images/{part} and annotations/{part} hold other names, such as {min(unpaired)}"
        )
    return ImageAndMaskFiles(EncodedImageSource(files), mask_files)


def _read_mask_numbers(path: Path) -> UInt8[np.ndarray, "height width"]:
    """Return the number of each pixel; ValueError for what is no PNG file of one channel, or has too many pixels."""
    encoded = read_bytes_unless_larger(path)
    # Pillow documents no exceptions.
    with (
        prefix_errors(path, (Exception,)),
        Image.open(io.BytesIO(encoded), formats=["PNG"]) as image,  # reads only the header
    ):
        if image.mode not in ONE_CHANNEL_MODES:
            raise ValueError(f"{image.mode}: a mask has one number per pixel, not a colour")
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(TOO_LARGE)
        return np.asarray(image).astype(np.uint8)
