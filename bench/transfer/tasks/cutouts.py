"""Cut-outs and photos of the pack from which scenes are composed, with a fixed split.

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
from jaxtyping import UInt8
from PIL import Image

from bench.data.manifest import PACK
from bench.data.pack import load_pack_images
from bench.transfer.tasks.tasks import link_rows

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
CLASSES = ("chair", "table", "cabinet", "plant", "mammal", "fruit", "vehicle", "building")
SHARES = (0.45, 0.15, 0.4)  # share of each class's cut-outs, by split
# Each split has plain and busy photos (bench/data/build_pack/transfer_images.py has their names).
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
class Cutouts:
    """The cut-outs and photos of a split."""

    by_class: tuple[tuple[UInt8[np.ndarray, "_ _ 4"], ...], ...]  # premultiplied RGBA, cropped to the opaque pixels
    photos: tuple[Image.Image, ...]  # square


@functools.cache
def load_cutouts(split: Split, cache: Path) -> Cutouts:
    """Return the cut-outs and photos of a split."""
    members: dict[str, dict[str, UInt8[np.ndarray, "_ _ 4"]]] = defaultdict(dict)
    group, seen = dict[str, str](), set[bytes]()
    for part in ("sweethome3d", "twemoji"):
        images = load_pack_images(part, cache)
        first = link_rows(images, range(len(images)))
        rows = zip(images.pixels.permute(0, 2, 3, 1).numpy(), images.captions, images.classes, strict=True)
        for row, (key, (pixels, caption, label)) in enumerate(zip(images.keys, rows, strict=True)):
            name, content = class_of(caption, label), pixels.tobytes()
            if name is not None and content not in seen:  # one model may have several captions
                members[name][key], group[key] = _drawn(pixels), images.keys[first[row]]
            seen.add(content)
    classes = [members[name] for name in CLASSES]
    split_of = _assign_splits(classes, group)
    by_class = tuple(tuple(one[key] for key in _in_order(one) if split_of[group[key]] == split) for one in classes)
    return Cutouts(by_class, tuple(_photo(number) for number in PHOTOS[split]))


def class_of(caption: str, label: Mapping[str, str]) -> str | None:
    """Return the class of an image of the pack by its caption and its label there, or None."""
    if "subgroup" in label:
        return None if caption.split(",", maxsplit=1)[0] in NO_MEMBERS else SUBGROUPS.get(label["subgroup"])
    if label["category"] == "Vehicles":
        return "vehicle"
    words = {*caption.replace(",", " ").split()}
    if words & OTHER_THINGS:
        return None
    return next((name for name, own in FURNITURE.items() if words & own), None)


def _assign_splits(classes: Iterable[Iterable[str]], group: Mapping[str, str]) -> dict[str, Split]:
    """Assign groups of cut-outs, class by class and largest first, each to the split that lacks the most."""
    split_of = dict[str, Split]()
    for keys in classes:
        members = Counter(group[key] for key in keys)
        lacking = {split: share * members.total() for split, share in zip(SPLITS, SHARES, strict=True)}
        for one in sorted(_in_order(members), key=lambda one: -members[one]):
            split = split_of.setdefault(one, max(SPLITS, key=lambda split: lacking[split]))
            lacking[split] -= members[one]
    return split_of


def _in_order(keys: Iterable[str]) -> list[str]:
    return sorted(keys, key=lambda key: hashlib.sha256(key.encode()).digest())


def _drawn(pixels: UInt8[np.ndarray, "64 64 4"]) -> UInt8[np.ndarray, "_ _ 4"]:
    rows, columns = (np.flatnonzero(pixels[..., 3].any(axis=axis)) for axis in (1, 0))
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()


def _photo(number: int) -> Image.Image:
    with Image.open(PACK / "transfer" / f"bg{number:02d}.webp") as photo:
        return photo.convert("RGB")
