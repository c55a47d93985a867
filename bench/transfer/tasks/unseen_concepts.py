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
MIN_TRAINED = 8  # training images of a subgroup
MIN_TESTED = 5  # test images of a subgroup
MAX_ZOOM = 2**0.5  # of a crop, which has at least half of the area, as in pre-training
VALIDATION_VENDOR = (
    "fluent-emoji-flat-"  # begins the keys of the validation queries, which are not in the gallery
)


@functools.cache
def unseen_task(name: str, cache: Path) -> SingleLabelTask:
    """Return a task, split once per process."""
    pretrain = load_pack_images("pretrain", cache)
    twemoji = load_pack_images("twemoji", cache)
    held_out = left_out_concepts(SHOWN, pretrain.keys, pretrain.classes)
    if name == RETRIEVAL:
        return _retrieval(pretrain, twemoji, held_out)
    return _subgroups(twemoji, held_out, left_out_concepts(ALIKE, pretrain.keys, pretrain.classes))


def _subgroups(images: PackImages, held_out: set[str], alike: set[str]) -> SingleLabelTask:
    """Train on concepts that are neither held out nor drawn like one that is, test on those that are held out.

    Subgroups with too few images are left out.
    """
    held_out_groups = {label["group"] for label in images.classes if label["concept"] in held_out}
    candidates = [
        row for row, label in enumerate(images.classes) if label["group"] in held_out_groups
    ]
    train = [row for row in candidates if images.classes[row]["concept"] not in held_out | alike]
    test = [row for row in candidates if images.classes[row]["concept"] in held_out]
    num_train = Counter(images.classes[row]["subgroup"] for row in train)
    num_test = Counter(images.classes[row]["subgroup"] for row in test)
    kept = {
        name
        for name in num_train
        if num_train[name] >= MIN_TRAINED and num_test[name] >= MIN_TESTED
    }
    train = [row for row in train if images.classes[row]["subgroup"] in kept]
    test = [row for row in test if images.classes[row]["subgroup"] in kept]
    return split_task(
        SUBGROUPS,
        augment_at_random(images),
        train,
        test,
        "subgroup",
        group_duplicates(images, train),
    )


def _retrieval(pretrain: PackImages, twemoji: PackImages, held_out: set[str]) -> SingleLabelTask:
    """Return the retrieval task: one vendor of pre-training draws the validation queries, the others the gallery."""
    concepts = sorted(held_out)
    number = {concept: index for index, concept in enumerate(concepts)}

    def make_part(images: PackImages, *, of_validation: bool = False) -> LabelledImages:
        rows = []
        for row, (key, label) in enumerate(zip(images.keys, images.classes, strict=True)):
            if (
                label.get("concept") in number
                and key.startswith(VALIDATION_VENDOR) == of_validation
            ):
                rows.append(row)
        shown = augment_at_random(select_rows(images, rows))
        labels = np.array([number[label["concept"]] for label in shown.classes])
        return LabelledImages(on_white(shown.pixels), labels)

    gallery = make_part(pretrain)
    validation = make_part(pretrain, of_validation=True)
    return SingleLabelTask(RETRIEVAL, tuple(concepts), gallery, validation, make_part(twemoji))


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
    maps = torch.zeros(len(images), 2, 3)
    colours = torch.empty(len(images), 3, 1, 1)
    for index, key in enumerate(images.keys):
        generator = np.random.default_rng([*hashlib.sha256(key.encode()).digest()])
        side = 1 / generator.uniform(1, MAX_ZOOM)  # side of the crop over the side of the image
        # Centre of the crop; the image is from -1 to 1.
        x, y = generator.uniform(side - 1, 1 - side, 2)
        maps[index] = torch.tensor([[generator.choice((-side, side)), 0, x], [0, side, y]])
        colours[index, :, 0, 0] = torch.from_numpy(generator.uniform(0, 1, 3))
    rgba = images.pixels.float()
    rgba = F.grid_sample(
        rgba, F.affine_grid(maps, [*rgba.shape], align_corners=False), align_corners=False
    )
    rgb = (rgba[:, :3] + (WHITE - rgba[:, 3:]) * colours).round().clamp(0, WHITE).byte()
    return replace(images, pixels=torch.cat([rgb, torch.full_like(rgb[:, :1], int(WHITE))], dim=1))
