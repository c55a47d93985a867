"""Segmentation tasks in files: ADE20k, Pascal VOC and plain folders of images and masks."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from bench.data.decoding import MAX_PIXELS, TOO_LARGE
from bench.features.dense_tasks.layouts import (
    ADE20K_LAYOUT,
    FOLDERS_LAYOUT,
    VOC_MASKS_LAYOUT,
    describe_layout_error,
)
from bench.features.dense_tasks.multi_label_tasks import split_train_validation
from bench.features.dense_tasks.segmentation import IGNORED, PUBLISHED, Pair, SegmentationTask
from bench.features.dense_tasks.voc import read_image_list, read_text_lines
from bench.transfer.tasks.image_sources import (
    IMAGE_SUFFIXES,
    FileImageSource,
    UnreadableImageError,
    join_first_names,
    read_image_file,
    readable_rows,
)

FORMATS = ("PNG", "BMP", "TIFF")
ONE_CHANNEL_MODES = ("L", "P", "1")  # Pillow's modes with one number per pixel

ADE20K_CLASSES = 150
VOC_CLASSES = (
    *(
        "background",
        "aeroplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
        "bus",
        "car",
        "cat",
        "chair",
        "cow",
    ),
    *(
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
        "pottedplant",
        "sheep",
        "sofa",
        "train",
        "tvmonitor",
    ),
)


@dataclass(frozen=True, slots=True, eq=False)
class MaskFiles:
    """Images with one mask each, decoded on access."""

    images: FileImageSource
    masks: Sequence[Path]
    class_of: Mapping[int, int]  # by number in the masks; IGNORED for numbers that are not counted

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, row: int) -> Pair:
        """Decode an image and its mask; ValueError for a mask of another size, or with a number that is no class.

        UnreadableImageError where one of them cannot be decoded.
        """
        rgb = self.images.rgb(row)
        path = self.masks[row]
        numbers = _read_mask(path)
        if numbers.shape != rgb.shape[1:]:
            mask_size = "{1} x {0}".format(*numbers.shape)
            image_size = "{1} x {0}".format(*rgb.shape[1:])
            raise ValueError(
                f"{path} has {mask_size} px, its image {self.images.files[row]} has {image_size}"
            )
        classes = np.array([self.class_of.get(number, -1) for number in range(256)])[numbers]
        if (classes < 0).any():
            unknown = sorted({*np.unique(numbers).tolist()} - {*self.class_of})
            raise ValueError(
                f"{path} has numbers that are no class of the set: {join_first_names(unknown)}"
            )
        return rgb, torch.from_numpy(classes.astype(np.uint8))

    def select(self, rows: Sequence[int]) -> "MaskFiles":
        return MaskFiles(self.images.select(rows), [self.masks[row] for row in rows], self.class_of)


def ade20k(root: Path, cache: Path) -> SegmentationTask:
    """Read ADE20k as in its challenge of 2016: 150 classes; 0 marks pixels without a class, which are ignored."""
    class_of = {0: IGNORED} | {number: number - 1 for number in range(1, ADE20K_CLASSES + 1)}
    train, test = (
        _pair_folders(
            root, ADE20K_LAYOUT, root / "images" / part, root / "annotations" / part, class_of
        )
        for part in ("training", "validation")
    )
    classes = tuple(f"class {number}" for number in range(1, ADE20K_CLASSES + 1))
    return _make_task("ade20k", classes, train, test, cache)


def voc_masks(root: Path, cache: Path) -> SegmentationTask:
    """Read Pascal VOC: 20 classes and the background; 255 (borders and difficult objects) is ignored."""
    class_of = {number: number for number in range(len(VOC_CLASSES))} | {IGNORED: IGNORED}

    def part(name: str) -> MaskFiles:
        listed = root / "ImageSets" / "Segmentation" / f"{name}.txt"
        if not listed.is_file():
            raise ValueError(
                describe_layout_error(root, f"{listed} is not there", VOC_MASKS_LAYOUT)
            )
        names = [line.split()[0] for line in read_image_list(listed)]
        images = [root / "JPEGImages" / f"{name}.jpg" for name in names]
        masks = [root / "SegmentationClass" / f"{name}.png" for name in names]
        return _pair_files(root, VOC_MASKS_LAYOUT, images, masks, class_of)

    return _make_task("voc-segmentation", VOC_CLASSES, part("train"), part("val"), cache)


def mask_folders(root: Path, cache: Path) -> SegmentationTask:
    """Read folders of images and masks of the user's own; 255 is ignored."""
    names_file = root / "classes.txt"
    if not names_file.is_file():
        raise ValueError(describe_layout_error(root, f"{names_file} is not there", FOLDERS_LAYOUT))
    classes = tuple(read_text_lines(names_file))
    if not 2 <= len(classes) <= IGNORED:  # noqa: PLR2004
        raise ValueError(f"{names_file} names {len(classes)} classes; 2 to {IGNORED} are accepted")
    class_of = {number: number for number in range(len(classes))} | {IGNORED: IGNORED}
    train, test = (
        _pair_folders(root, FOLDERS_LAYOUT, root / "images" / part, root / "masks" / part, class_of)
        for part in ("train", "val")
    )
    return _make_task("masks", classes, train, test, cache)


def _make_task(
    name: str, classes: tuple[str, ...], train: MaskFiles, test: MaskFiles, cache: Path
) -> SegmentationTask:
    """Hold out the validation part from the training part; leave out unreadable pairs."""
    notes = list[str]()
    rows, held_rows = split_train_validation(name, [path.name for path in train.masks])
    parts = {"train": train.select(rows), "validation": train.select(held_rows), "test": test}
    for part_name, part in parts.items():
        files = [*part.images.files, *part.masks]
        class_numbers = str(sorted(train.class_of.items()))
        rows, note = readable_rows(
            part.__getitem__, len(part), files, cache, f"{name} {part_name}", class_numbers
        )
        parts[part_name] = part.select(rows)
        notes += note
    return SegmentationTask(
        name,
        classes,
        parts["train"],
        parts["validation"],
        parts["test"],
        PUBLISHED,
        notes=tuple(notes),
    )


def _pair_folders(
    root: Path, layout: str, images: Path, masks: Path, class_of: Mapping[int, int]
) -> MaskFiles:
    """Pair the images of one folder with the masks of the same names in another."""
    for folder in (images, masks):
        if not folder.is_dir():
            raise ValueError(describe_layout_error(root, f"{folder} is not there", layout))
    image_files = sorted(path for path in images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    unpaired = {path.stem for path in masks.glob("*.png")} - {path.stem for path in image_files}
    if unpaired:
        names = join_first_names(sorted(unpaired))
        raise ValueError(f"{len(unpaired)} masks of {masks} have no image in {images}: {names}")
    return _pair_files(
        root, layout, image_files, [masks / f"{path.stem}.png" for path in image_files], class_of
    )


def _pair_files(
    root: Path,
    layout: str,
    images: Sequence[Path],
    masks: Sequence[Path],
    class_of: Mapping[int, int],
) -> MaskFiles:
    """Check that every image has its mask, without decoding."""
    if not images:
        raise ValueError(describe_layout_error(root, "a part of it has no image", layout))
    missing = [path for path in (*images, *masks) if not path.is_file()]
    if missing:
        names = join_first_names(missing)
        raise ValueError(
            f"{len(missing)} files of {len(images)} images and their masks are missing: {names}"
        )
    return MaskFiles(FileImageSource(images), masks, class_of)


def _read_mask(path: Path) -> UInt8[np.ndarray, "height width"]:
    encoded = read_image_file(path)
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:  # reads only the header
            mode, pixels = image.mode, image.width * image.height
            numbers = (
                np.asarray(image) if mode in ONE_CHANNEL_MODES and pixels <= MAX_PIXELS else None
            )
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders document no exceptions
        raise UnreadableImageError(f"{path}: {error}") from None
    if mode not in ONE_CHANNEL_MODES:
        raise ValueError(f"{path} is {mode}: a mask has one number per pixel, not a colour")
    if numbers is None:
        raise UnreadableImageError(f"{path}: {TOO_LARGE}")
    return numbers.astype(np.uint8)
