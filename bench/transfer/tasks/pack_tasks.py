"""Tasks on the emoji of the pack.

`Twemoji group` and `Twemoji subgroup` sort all emoji into groups of Unicode. The other tasks are on the held-out
concepts: pre-training with `subset=without-held-out-concepts` reads neither their images nor their names.
`unseen subgroup` sorts them into subgroups that are learned from other concepts, drawn by a vendor whose images
pre-training does not read. `unseen emoji retrieval` finds drawings of the same concept by other vendors.

A file has the parts; `tests.pack.task_parts` has the rule, and writes the file.
"""

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from bench.data.pack import PackImages, load_pack_images
from bench.data.transforms import WHITE
from bench.interfaces.catalog import EMOJI_TASKS, UNSEEN_TASKS
from bench.transfer.tasks.image_sources import ArrayImageSource, composite_on_white
from bench.transfer.tasks.tasks import LabelledImages, SingleLabelTask

PARTS_FILE = Path(__file__).with_name("pack_tasks.csv")
RETRIEVAL = UNSEEN_TASKS[1]
# What the classes of each task are, as the pack names them.
CLASS_FIELDS = dict(
    zip((*EMOJI_TASKS, *UNSEEN_TASKS), ("group", "subgroup", "subgroup", "concept"), strict=True)
)
MAX_ZOOM = 2**0.5  # of a crop, which has at least half of the area, as in pre-training


def load_pack_task(name: str, cache: Path) -> SingleLabelTask:
    """Load the task with this name; images are those of Twemoji, but for a gallery and its validation queries."""
    with PARTS_FILE.open(newline="", encoding="utf-8") as file:
        part_by_key = {row["key"]: row[name] for row in csv.DictReader(file)}
    class_field = CLASS_FIELDS[name]
    tested = load_pack_images("twemoji", cache)
    trained = load_pack_images("pretrain", cache) if name == RETRIEVAL else tested
    classes = set[str]()
    for key, label in zip(tested.keys, tested.classes, strict=True):
        if part_by_key.get(key):
            classes.add(label[class_field])
    class_names = sorted(classes)

    def make_part(part: str, images: PackImages) -> LabelledImages:
        rows = [row for row, key in enumerate(images.keys) if part_by_key.get(key) == part]
        if name in UNSEEN_TASKS:
            keys = [images.keys[row] for row in rows]
            shown = ArrayImageSource(augment_by_key_hash(images.premultiplied_rgba[rows], keys))
        else:
            shown = composite_on_white(images.premultiplied_rgba[rows])
        labels = [class_names.index(images.classes[row][class_field]) for row in rows]
        return LabelledImages(shown, np.array(labels))

    return SingleLabelTask(
        name=name,
        classes=tuple(class_names),
        train=make_part("train", trained),  # the gallery of a retrieval
        validation=make_part("validation", trained),
        test=make_part("test", tested),
    )


def augment_by_key_hash(
    rgba: UInt8[Tensor, "images 4 height width"], keys: Sequence[str]
) -> UInt8[Tensor, "images 3 height width"]:
    """Return images mirrored or not, cropped and put on a colour at random, by a hash of their keys.

    Whole drawings on white are so alike that raw pixels would suffice.
    """
    maps = torch.zeros(len(rgba), 2, 3)
    colours = torch.empty(len(rgba), 3, 1, 1)
    for index, key in enumerate(keys):
        seed = list(hashlib.sha256(key.encode()).digest())
        generator = np.random.default_rng(seed)
        side = 1 / generator.uniform(1, MAX_ZOOM)  # side of the crop over the side of the image
        # Centre of the crop; the image is from -1 to 1.
        x, y = generator.uniform(side - 1, 1 - side, 2)
        width = generator.choice((-side, side))  # negative: the image is mirrored
        maps[index] = torch.tensor([[width, 0, x], [0, side, y]])
        colours[index, :, 0, 0] = torch.from_numpy(generator.uniform(0, 1, 3))
    pixels = rgba.float()
    grid = F.affine_grid(maps, list(pixels.shape), align_corners=False)
    pixels = F.grid_sample(pixels, grid, align_corners=False)
    background = (WHITE - pixels[:, 3:]) * colours
    return (pixels[:, :3] + background).round().clamp(0, WHITE).byte()
