"""Tasks on the held-out concepts, of which pre-training with `subset=seen-concepts` has no image and no name.

`unseen subgroup` sorts them into subgroups that are learned from other concepts, in the style of a vendor of which
pre-training has no image. `unseen emoji retrieval` finds the same concept as other vendors draw it.

All images are mirrored, cropped and put on a colour at random: whole drawings on white are so alike that pixels find
each other.
"""

import functools
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from bench.data.held_out import ALIKE, SHOWN, left_out_concepts
from bench.data.pack import PackImages, load_pack_images
from bench.data.transforms import WHITE
from bench.interfaces.catalog import UNSEEN_TASKS
from bench.transfer.tasks.image_sources import on_white
from bench.transfer.tasks.tasks import LabelledImages, SingleLabelTask, group_duplicates, split_task

SUBGROUPS, RETRIEVAL = UNSEEN_TASKS
MIN_TRAINED, MIN_TESTED = 8, 5  # images of a subgroup
MAX_ZOOM = 2**0.5  # of a crop, which has at least half of the area, as in pre-training
VALIDATION_VENDOR = "fluent-emoji-flat-"  # begins the keys of the validation queries, which are not in the gallery


@functools.cache
def unseen_task(name: str, cache: Path) -> SingleLabelTask:
    """Return a task, split once per process."""
    pretrain, twemoji = (load_pack_images(part, cache) for part in ("pretrain", "twemoji"))
    held_out = left_out_concepts(SHOWN, pretrain.keys, pretrain.classes)
    if name == RETRIEVAL:
        return _retrieval(pretrain, twemoji, held_out)
    return _subgroups(twemoji, held_out, left_out_concepts(ALIKE, pretrain.keys, pretrain.classes))


def _subgroups(images: PackImages, held_out: set[str], alike: set[str]) -> SingleLabelTask:
    """Train on concepts that are neither held out nor drawn like one that is, test on those that are held out.

    Subgroups with too few images are left out.
    """
    groups = {of["group"] for of in images.classes if of["concept"] in held_out}
    of_things = [row for row, of in enumerate(images.classes) if of["group"] in groups]
    test = [row for row in of_things if images.classes[row]["concept"] in held_out]
    train = [row for row in of_things if images.classes[row]["concept"] not in held_out | alike]
    trained, tested = (Counter(images.classes[row]["subgroup"] for row in rows) for rows in (train, test))
    kept = {name for name, count in trained.items() if count >= MIN_TRAINED and tested[name] >= MIN_TESTED}
    train, test = ([row for row in rows if images.classes[row]["subgroup"] in kept] for rows in (train, test))
    return split_task(SUBGROUPS, augment_at_random(images), train, test, "subgroup", group_duplicates(images, train))


def _retrieval(pretrain: PackImages, twemoji: PackImages, held_out: set[str]) -> SingleLabelTask:
    concepts = sorted(held_out)
    number = {concept: index for index, concept in enumerate(concepts)}

    def part(images: PackImages, *, of_validation: bool = False) -> LabelledImages:
        rows = [
            row
            for row, (key, of) in enumerate(zip(images.keys, images.classes, strict=True))
            if of.get("concept") in number and key.startswith(VALIDATION_VENDOR) == of_validation
        ]
        shown = augment_at_random(select_rows(images, rows))
        return LabelledImages(on_white(shown.pixels), np.array([number[of["concept"]] for of in shown.classes]))

    parts = part(pretrain), part(pretrain, of_validation=True), part(twemoji)
    return SingleLabelTask(RETRIEVAL, tuple(concepts), *parts)


def select_rows(images: PackImages, rows: Sequence[int]) -> PackImages:
    """Return some of the images."""
    return PackImages(
        images.pixels[[*rows]],
        tuple(images.captions[row] for row in rows),
        tuple(images.classes[row] for row in rows),
        tuple(images.keys[row] for row in rows),
    )


def augment_at_random(images: PackImages) -> PackImages:
    """Return images mirrored or not, cropped and put on a colour at random, by a hash of their keys."""
    maps, colours = torch.zeros(len(images), 2, 3), torch.empty(len(images), 3, 1, 1)
    for index, key in enumerate(images.keys):
        generator = np.random.default_rng([*hashlib.sha256(key.encode()).digest()])
        side = 1 / generator.uniform(1, MAX_ZOOM)  # of the crop, over that of the image
        x, y = generator.uniform(side - 1, 1 - side, 2)  # its centre; the image is from -1 to 1
        maps[index] = torch.tensor([[generator.choice((-side, side)), 0, x], [0, side, y]])
        colours[index, :, 0, 0] = torch.from_numpy(generator.uniform(0, 1, 3))
    rgba = images.pixels.float()
    rgba = F.grid_sample(rgba, F.affine_grid(maps, [*rgba.shape], align_corners=False), align_corners=False)
    rgb = (rgba[:, :3] + (WHITE - rgba[:, 3:]) * colours).round().clamp(0, WHITE).byte()
    return replace(images, pixels=torch.cat([rgb, torch.full_like(rgb[:, :1], int(WHITE))], dim=1))
