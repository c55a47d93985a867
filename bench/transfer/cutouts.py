"""Cut-outs and photos that scenes are composed of, from the pack, split once and for all.

Cut-outs are Sweet Home 3D's renders and Twemoji, by words of their captions and by subgroup. A split has cut-outs and
photos of its own, so no test scene repeats anything that was trained on.
"""

import functools
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from bench.data.manifest import PACK
from bench.data.pack import load_pictures

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
CLASSES = ("chair", "table", "cabinet", "plant", "mammal", "fruit", "vehicle", "building")
SHARES = (0.45, 0.15, 0.4)  # of each class's cut-outs, by split
# Each split has something plain and something busy (bench/data/rebuild/backgrounds.py has their names).
PHOTOS: dict[Split, tuple[int, ...]] = {"train": (0, 3, 5, 7, 9), "validation": (1, 6), "test": (2, 4, 8, 10)}

FURNITURE = {
    "chair": {"chair", "armchair", "stool"},
    "table": {"table", "desk"},
    "cabinet": {"cabinet", "cupboard", "wardrobe", "dresser", "bookcase"},
    "plant": {"plant", "tree", "flowers"},
}  # by a word of the caption; the first class that has one
OTHER_THINGS = {"lamp", "fan", "bat", "bottle", "concrete"}  # words that make it something else
SUBGROUPS = {
    "plant-flower": "plant",
    "plant-other": "plant",
    "animal-mammal": "mammal",
    "food-fruit": "fruit",
    "transport-ground": "vehicle",
    "place-building": "building",
}
# What stands in a subgroup and is no member of the class, by the first part of its caption.
NO_MEMBERS = {
    *("station", "bus stop", "horizontal traffic light", "vertical traffic light", "construction", "police car light"),
    *("stop sign", "wheel", "oil drum", "motorway", "railway track", "fuel pump"),
    *("brick", "rock", "wood", "pig nose", "paw prints", "empty nest", "nest with eggs", "rosette"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Cutouts:
    """What the scenes of a split are made of."""

    by_class: tuple[tuple[UInt8[np.ndarray, "_ _ 4"], ...], ...]  # premultiplied RGBA, cut to what is drawn
    photos: tuple[Image.Image, ...]  # square


@functools.cache
def cutouts(split: Split, cache: Path) -> Cutouts:
    """Return the cut-outs and photos of a split."""
    members: dict[str, dict[str, UInt8[np.ndarray, "_ _ 4"]]] = defaultdict(dict)
    seen = set[bytes]()
    for part in ("sweethome3d", "twemoji"):
        pictures = load_pictures(part, cache)
        rows = zip(pictures.pixels.permute(0, 2, 3, 1).numpy(), pictures.captions, pictures.classes, strict=True)
        for key, (pixels, caption, label) in zip(pictures.keys, rows, strict=True):
            name, content = class_of(caption, label), pixels.tobytes()
            if name is not None and content not in seen:  # one model has several captions at times
                members[name][key] = _drawn(pixels)
            seen.add(content)
    by_class = tuple(tuple(_of_split(members[name], split)) for name in CLASSES)
    return Cutouts(by_class, tuple(_photo(number) for number in PHOTOS[split]))


def class_of(caption: str, label: Mapping[str, str]) -> str | None:
    """Return the class of a picture of the pack, from its caption and its label there; None where it has none."""
    if "subgroup" in label:
        return None if caption.split(",", maxsplit=1)[0] in NO_MEMBERS else SUBGROUPS.get(label["subgroup"])
    if label["category"] == "Vehicles":
        return "vehicle"
    words = {*caption.replace(",", " ").split()}
    if words & OTHER_THINGS:
        return None
    return next((name for name, own in FURNITURE.items() if words & own), None)


def _of_split(members: Mapping[str, np.ndarray], split: Split) -> Iterator[np.ndarray]:
    """Deal the members of a class by a hash of their names."""
    order = sorted(members, key=lambda key: hashlib.sha256(key.encode()).digest())
    number = SPLITS.index(split)
    first, last = (round(len(order) * sum(SHARES[:count])) for count in (number, number + 1))
    return (members[key] for key in order[first:last])


def _drawn(pixels: UInt8[np.ndarray, "64 64 4"]) -> UInt8[np.ndarray, "_ _ 4"]:
    rows, columns = (np.flatnonzero(pixels[..., 3].any(axis=axis)) for axis in (1, 0))
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()


def _photo(number: int) -> Image.Image:
    with Image.open(PACK / "transfer" / f"bg{number:02d}.webp") as photo:
        return photo.convert("RGB")
