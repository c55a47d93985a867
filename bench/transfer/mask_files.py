"""Pictures and masks in files: ADE20k's, Pascal VOC's and plain folders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from bench.transfer.pictures import FilePictures
from bench.transfer.segmentation import IGNORED, PUBLISHED, Pair, SegmentationTask

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
INDEXED = ("L", "P", "1")  # Pillow's modes that have one number a pixel
TOLD = 3  # files that an error names

ADE20K_CLASSES = 150
ADE20K_LAYOUT = "{root}/images/training/NAME.jpg, {root}/annotations/training/NAME.png, and both under validation/"
VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
VOC_LAYOUT = (
    "{root}/ImageSets/Segmentation/train.txt and val.txt (a name a line), {root}/JPEGImages/NAME.jpg, "
    "{root}/SegmentationClass/NAME.png"
)
MASKS_LAYOUT = (
    "{root}/images/train/NAME.jpg, {root}/masks/train/NAME.png, both under val/ too, and {root}/classes.txt, whose "
    "line k is the name of class k, from 0; in a mask 255 is ignored"
)


@dataclass(frozen=True, slots=True, eq=False)
class MaskFiles:
    """Pictures with a mask each, decoded when they are asked for."""

    pictures: FilePictures
    masks: Sequence[Path]
    class_of: Mapping[int, int]  # of the numbers in the masks; IGNORED for those that are not counted

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, row: int) -> Pair:
        """Decode a pair; ValueError names a mask that does not belong to its picture, or to the classes."""
        rgb, path = self.pictures.rgb(row), self.masks[row]
        numbers = _numbers(path)
        if numbers.shape != rgb.shape[1:]:
            raise ValueError(_disagreeing(path, numbers.shape[::-1], self.pictures.paths[row], rgb.shape[:0:-1]))
        table = np.array([self.class_of.get(number, -1) for number in range(256)])
        classes = table[numbers]
        if (classes < 0).any():
            unknown = sorted({*np.unique(numbers).tolist()} - {*self.class_of})
            raise ValueError(f"{path} has numbers that are no class of the set: {', '.join(map(str, unknown[:10]))}")
        return rgb, torch.from_numpy(classes.astype(np.uint8))


def ade20k(root: Path) -> SegmentationTask:
    """Open ADE20k as its challenge of 2016 has it: 150 classes, 0 is what has none and is ignored."""
    class_of = {0: IGNORED} | {number: number - 1 for number in range(1, ADE20K_CLASSES + 1)}
    parts = [
        _paired(root, ADE20K_LAYOUT, root / "images" / part, root / "annotations" / part, class_of)
        for part in ("training", "validation")
    ]
    classes = tuple(f"class {number}" for number in range(1, ADE20K_CLASSES + 1))
    return SegmentationTask("ade20k", classes, parts[0], None, parts[1], PUBLISHED)


def voc(root: Path) -> SegmentationTask:
    """Open Pascal VOC: 20 classes and the background, 255 is ignored (borders, and what is hard to tell)."""
    class_of = {number: number for number in range(len(VOC_CLASSES))} | {IGNORED: IGNORED}

    def part(name: str) -> MaskFiles:
        listed = root / "ImageSets" / "Segmentation" / f"{name}.txt"
        if not listed.is_file():
            raise ValueError(_misses(root, VOC_LAYOUT, listed))
        names = listed.read_text(encoding="utf-8").split()
        pictures = [root / "JPEGImages" / f"{name}.jpg" for name in names]
        return _opened(root, VOC_LAYOUT, pictures, [root / "SegmentationClass" / f"{name}.png" for name in names], class_of)

    return SegmentationTask("voc-segmentation", VOC_CLASSES, part("train"), None, part("val"), PUBLISHED)


def mask_folders(root: Path) -> SegmentationTask:
    """Open folders of pictures and masks of one's own; IGNORED is ignored."""
    named = root / "classes.txt"
    if not named.is_file():
        raise ValueError(_misses(root, MASKS_LAYOUT, named))
    classes = tuple(line.strip() for line in named.read_text(encoding="utf-8").splitlines() if line.strip())
    if not 2 <= len(classes) <= IGNORED:  # noqa: PLR2004
        raise ValueError(f"{named} names {len(classes)} classes; a mask tells 2 to {IGNORED} apart")
    class_of = {number: number for number in range(len(classes))} | {IGNORED: IGNORED}
    train, test = (
        _paired(root, MASKS_LAYOUT, root / "images" / part, root / "masks" / part, class_of) for part in ("train", "val")
    )
    return SegmentationTask("masks", classes, train, None, test, PUBLISHED)


def _paired(root: Path, layout: str, pictures: Path, masks: Path, class_of: Mapping[int, int]) -> MaskFiles:
    """Pair a folder's pictures with the masks of the same names in another."""
    for folder in (pictures, masks):
        if not folder.is_dir():
            raise ValueError(_misses(root, layout, folder))
    found = sorted(path for path in pictures.iterdir() if path.suffix.lower() in PICTURES)
    if alone := {path.stem for path in masks.glob("*.png")} - {path.stem for path in found}:
        raise ValueError(f"{len(alone)} masks of {masks} have no picture in {pictures}: {_some(sorted(alone))}")
    return _opened(root, layout, found, [masks / f"{path.stem}.png" for path in found], class_of)


def _opened(
    root: Path, layout: str, pictures: Sequence[Path], masks: Sequence[Path], class_of: Mapping[int, int]
) -> MaskFiles:
    """Check from the files' headers alone that every picture has its mask."""
    if not pictures:
        raise ValueError(f"{root} has no pictures in one of its parts; expected: {layout.format(root=root)}")
    wrong = [reason for pair in zip(pictures, masks, strict=True) if (reason := _mismatch(*pair))]
    if wrong:
        raise ValueError(f"{len(wrong)} of {len(pictures)} pictures cannot be used: {_some(wrong)}")
    return MaskFiles(FilePictures(pictures), masks, class_of)


def _mismatch(picture: Path, mask: Path) -> str | None:
    sizes = []
    for path in (picture, mask):
        try:
            with Image.open(path) as image:  # reads the header alone
                sizes.append(image.size)
        except FileNotFoundError:
            return f"{path} is missing"
        except OSError:
            return f"{path} is no picture"
    return None if sizes[0] == sizes[1] else _disagreeing(mask, sizes[1], picture, sizes[0])


def _numbers(path: Path) -> UInt8[np.ndarray, "height width"]:
    try:
        with Image.open(path) as image:
            if image.mode not in INDEXED:
                raise ValueError(f"{path} is {image.mode}: a mask has one number a pixel, not a colour")
            return np.asarray(image).astype(np.uint8)
    except OSError as error:
        raise ValueError(f"{path}: {error}") from None


def _disagreeing(mask: Path, size: Sequence[int], picture: Path, of_picture: Sequence[int]) -> str:
    return f"{mask} has {size[0]} x {size[1]} px, its picture {picture} has {of_picture[0]} x {of_picture[1]}"


def _misses(root: Path, layout: str, what: Path) -> str:
    return f"{what} is missing; expected: {layout.format(root=root)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return "; ".join(names[:TOLD]) + more
