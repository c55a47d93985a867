"""Scenes composed of cut-outs on photos: images of any size with exact masks, boxes and classes.

Cut-outs are Sweet Home 3D's renders, classified by words of their captions, and Twemoji, classified by subgroup. Splits
share no cut-out and no photo, and cut-outs with one caption are in one split, so that test scenes show unseen objects.
"""

import functools
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor
from torchvision.ops import masks_to_boxes

from bench.data.manifest import PACK
from bench.data.pack import load_pack_images
from bench.environment.seeds import SCENES, derive_seed
from bench.transfer.tasks.tasks import group_duplicates

MAX_OBJECTS = 3
LONGEST_SIDE = (0.3, 0.6)  # of an object, as a share of the scene's side
LEAST_VISIBLE = 0.5  # share of an object that upper objects leave uncovered
POSITIONS_TRIED = 10  # for an object that would cover too much, before it is left out
LEAST_CROP = 0.5  # smallest background crop, as a share of the photo's side
MIN_OBJECT_ALPHA = 128  # smallest alpha of a pixel that belongs to the object
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
CLASSES = ("chair", "table", "cabinet", "plant", "mammal", "fruit", "vehicle", "building")
SHARES = (0.45, 0.15, 0.4)  # share of each class's cut-outs, by split
# Each split has plain and busy photos (tests/pack/transfer_images.py has their names).
PHOTOS: dict[Split, tuple[int, ...]] = {"train": (0, 3, 5, 7, 9), "validation": (1, 6), "test": (2, 4, 8, 10)}

FURNITURE = {
    "chair": {"chair", "armchair", "stool"},
    "table": {"table", "desk"},
    "cabinet": {"cabinet", "cupboard", "wardrobe", "dresser", "bookcase"},
    "plant": {"plant", "tree", "flowers"},
}  # words of the caption; the first class with one of them is taken
OTHER_THINGS = {"lamp", "fan", "bat", "bottle", "concrete"}  # a caption with one of these words has no class
SUBGROUPS = {
    "plant-flower": "plant",
    "plant-other": "plant",
    "animal-mammal": "mammal",
    "food-fruit": "fruit",
    "transport-ground": "vehicle",
    "place-building": "building",
}
# Captions (their first part) of images in these subgroups that do not show the class.
NO_MEMBERS = {
    *("station", "bus stop", "horizontal traffic light", "vertical traffic light", "construction", "police car light"),
    *("stop sign", "wheel", "oil drum", "motorway", "railway track", "fuel pump"),
    *("brick", "rock", "wood", "pig nose", "paw prints", "empty nest", "nest with eggs", "rosette"),
}


@dataclass(frozen=True, slots=True, eq=False)
class SceneParts:
    """The cut-outs and photos of a split."""

    by_class: tuple[tuple[UInt8[np.ndarray, "_ _ 4"], ...], ...]  # premultiplied RGBA, cropped to the opaque pixels
    photos: tuple[Image.Image, ...]  # square


@functools.cache
def load_cutouts_and_photos(split: Split, cache: Path) -> SceneParts:
    """Return the cut-outs and photos of a split."""
    members: dict[str, dict[str, UInt8[np.ndarray, "_ _ 4"]]] = defaultdict(dict)
    group, seen = dict[str, str](), set[bytes]()
    for part in ("sweethome3d", "twemoji"):
        images = load_pack_images(part, cache)
        first = group_duplicates(images, range(len(images)))
        rows = zip(images.pixels.permute(0, 2, 3, 1).numpy(), images.captions, images.classes, strict=True)
        for row, (key, (pixels, caption, label)) in enumerate(zip(images.keys, rows, strict=True)):
            name, content = classify_cutout(caption, label), pixels.tobytes()
            if name is not None and content not in seen:  # one model may have several captions
                members[name][key], group[key] = pixels[_extent(pixels[..., 3] > 0)].copy(), images.keys[first[row]]
            seen.add(content)
    classes = [members[name] for name in CLASSES]
    split_of = _assign_groups_to_splits(classes, group)
    by_class = tuple(tuple(one[key] for key in _sort_by_hash(one) if split_of[group[key]] == split) for one in classes)
    return SceneParts(by_class, tuple(_open_photo(number) for number in PHOTOS[split]))


def classify_cutout(caption: str, label: Mapping[str, str]) -> str | None:
    """Return the class of an image of the pack by its caption and its label there, or None."""
    if "subgroup" in label:
        return None if caption.split(",", maxsplit=1)[0] in NO_MEMBERS else SUBGROUPS.get(label["subgroup"])
    if label["category"] == "Vehicles":
        return "vehicle"
    words = {*caption.replace(",", " ").split()}
    if words & OTHER_THINGS:
        return None
    return next((name for name, own in FURNITURE.items() if words & own), None)


def _assign_groups_to_splits(classes: Iterable[Iterable[str]], group: Mapping[str, str]) -> dict[str, Split]:
    """Assign groups of cut-outs, class by class and largest first, each to the split that lacks the most."""
    split_of = dict[str, Split]()
    for keys in classes:
        members = Counter(group[key] for key in keys)
        lacking = {split: share * members.total() for split, share in zip(SPLITS, SHARES, strict=True)}
        for one in sorted(_sort_by_hash(members), key=lambda one: -members[one]):
            split = split_of.setdefault(one, max(SPLITS, key=lambda split: lacking[split]))
            lacking[split] -= members[one]
    return split_of


def _sort_by_hash(keys: Iterable[str]) -> list[str]:
    return sorted(keys, key=lambda key: hashlib.sha256(key.encode()).digest())


def _open_photo(number: int) -> Image.Image:
    with Image.open(PACK / "transfer" / f"bg{number:02d}.webp") as photo:
        return photo.convert("RGB")


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """An image and its objects, the lowest first. Where objects overlap, a pixel belongs to the upper one."""

    rgb: UInt8[Tensor, "3 side side"]
    masks: Bool[Tensor, "objects side side"]  # the visible part of each object
    labels: Int[Tensor, " objects"]  # 1 + index in CLASSES
    boxes: Float[Tensor, "objects 4"]  # left, top, right, bottom in pixels around the mask; right and bottom exclusive

    @property
    def classes(self) -> UInt8[Tensor, "side side"]:
        """The class of each pixel, 0 for the photo."""
        return (self.masks.long() * self.labels[:, None, None]).sum(0).to(torch.uint8)

    @property
    def present(self) -> Bool[Tensor, " classes"]:
        """Which of CLASSES are in the scene."""
        return torch.isin(torch.arange(1, len(CLASSES) + 1), self.labels)


def draw_scene(split: Split, side: int, parts: SceneParts, row: int) -> Scene:
    """Draw a scene: one to three whole objects, their classes drawn uniformly, on a crop of a photo.

    The scene is a pure function of the split, its side in pixels and its row.
    """
    generator = np.random.default_rng(derive_seed(0, SCENES, SPLITS.index(split), row))
    image = _draw_background(parts, side, generator)
    on_top = np.zeros((side, side), np.int64)  # object number by pixel; 0: the photo
    labels, areas = list[int](), list[int]()
    for _ in range(generator.integers(1, MAX_OBJECTS, endpoint=True)):
        label = int(generator.integers(len(CLASSES)))
        pixels = _draw_object(parts.by_class[label], side, generator)
        alpha = pixels[..., 3]
        for _ in range(POSITIONS_TRIED):
            position = _draw_position(pixels, side, generator)
            above = on_top.copy()
            above[position][alpha >= MIN_OBJECT_ALPHA] = len(labels) + 1
            visible = np.bincount(above.ravel(), minlength=len(labels) + 2)[1:]
            if all(left >= LEAST_VISIBLE * area for left, area in zip(visible, [*areas, 1], strict=True)):
                on_top = above
                labels.append(label + 1)
                areas.append(int(visible[-1]))
                image[position] = _composite(pixels, image[position])
                break
    masks = torch.from_numpy(on_top == np.arange(1, len(labels) + 1)[:, None, None])
    boxes = masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1])
    return Scene(torch.from_numpy(image.transpose(2, 0, 1).copy()), masks, torch.tensor(labels), boxes)


def _draw_background(parts: SceneParts, side: int, generator: np.random.Generator) -> UInt8[np.ndarray, "side side 3"]:
    photo = parts.photos[generator.integers(len(parts.photos))]
    width = round(photo.width * generator.uniform(LEAST_CROP, 1))
    left, top = generator.integers(photo.width - width, size=2, endpoint=True).tolist()
    box = (left, top, left + width, top + width)
    small = photo.resize((side, side), Image.Resampling.BILINEAR, box)
    return np.asarray(_mirror_at_random(small, generator)).copy()


def _draw_object(
    members: tuple[UInt8[np.ndarray, "_ _ 4"], ...], side: int, generator: np.random.Generator
) -> UInt8[np.ndarray, "height width 4"]:
    member = members[generator.integers(len(members))]
    height, width = member.shape[:2]
    scale = side * generator.uniform(*LONGEST_SIDE) / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.frombytes("RGBa", (width, height), member.tobytes()).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(_mirror_at_random(image, generator))


def _mirror_at_random(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if generator.integers(2) else image


def _draw_position(
    pixels: UInt8[np.ndarray, "height width 4"], side: int, generator: np.random.Generator
) -> tuple[slice, slice]:
    """Draw rows and columns for an object, such that it is wholly inside."""
    starts = [int(generator.integers(side - length, endpoint=True)) for length in pixels.shape[:2]]
    top, left = (slice(start, start + length) for start, length in zip(starts, pixels.shape, strict=False))
    return top, left


def _composite(
    pixels: UInt8[np.ndarray, "height width 4"], below: UInt8[np.ndarray, "height width 3"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Composite premultiplied pixels over others in integers, which every machine rounds alike."""
    colour, through = pixels[..., :3].astype(np.int64), 255 - pixels[..., 3:].astype(np.int64)
    over: np.ndarray = np.minimum(colour + (below * through + 127) // 255, 255).astype(np.uint8)
    return over


def _extent(mask: Bool[np.ndarray, "height width"]) -> tuple[slice, slice]:
    """Return the rows and columns of the smallest rectangle that holds a mask."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)).tolist() for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
