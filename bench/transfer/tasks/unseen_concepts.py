"""Tasks on the held-out concepts: pre-training with `subset=seen-concepts` reads neither their images nor their names.

`unseen subgroup` sorts them into subgroups that are learned from other concepts, drawn by a vendor whose images
pre-training does not read. `unseen emoji retrieval` finds drawings of the same concept by other vendors.

All images are mirrored, cropped and put on a colour at random, because whole drawings on white are so alike that raw
pixels would suffice.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from bench.data.held_out import ALIKE, SHOWN, excluded_concepts
from bench.data.pack import PackImages, load_pack_images
from bench.data.transforms import WHITE
from bench.interfaces.catalog import UNSEEN_TASKS
from bench.transfer.tasks.emoji import make_task_from_rows, map_rows_to_first_duplicate
from bench.transfer.tasks.image_sources import ArrayImageSource
from bench.transfer.tasks.tasks import LabelledImages, SingleLabelTask

SUBGROUPS, RETRIEVAL = UNSEEN_TASKS
MIN_TRAINED = 8  # training images of a subgroup
MIN_TESTED = 5  # test images of a subgroup
MAX_ZOOM = 2**0.5  # of a crop, which has at least half of the area, as in pre-training
# Begins the keys of the validation queries, which are not in the gallery.
VALIDATION_VENDOR = "fluent-emoji-flat-"


def load_unseen_task(name: str, cache: Path) -> SingleLabelTask:
    """Load one of the two tasks on concepts that pre-training may leave out."""
    pretrain = load_pack_images("pretrain", cache)
    twemoji = load_pack_images("twemoji", cache)
    held_out_concepts = excluded_concepts(SHOWN, pretrain.keys, pretrain.classes)
    if name == RETRIEVAL:
        return _make_retrieval_task(pretrain, twemoji, held_out_concepts)
    alike_concepts = excluded_concepts(ALIKE, pretrain.keys, pretrain.classes)
    return _make_subgroup_task(twemoji, held_out_concepts, alike_concepts)


def _make_subgroup_task(
    images: PackImages, held_out_concepts: set[str], alike_concepts: set[str]
) -> SingleLabelTask:
    """Return the task of subgroups: held-out concepts are tested, other concepts trained unless they are alike.

    Those are drawn like a held-out one. Subgroups with too few images are left out.
    """
    labels = images.classes
    held_out_groups = {label["group"] for label in labels if label["concept"] in held_out_concepts}
    train = []
    test = []
    for row, label in enumerate(labels):
        if label["concept"] in held_out_concepts:
            test.append(row)
        elif label["group"] in held_out_groups and label["concept"] not in alike_concepts:
            train.append(row)
    num_train = Counter(labels[row]["subgroup"] for row in train)
    num_test = Counter(labels[row]["subgroup"] for row in test)
    kept = {name for name in num_train if num_train[name] >= MIN_TRAINED}
    kept -= {name for name in kept if num_test[name] < MIN_TESTED}
    train = [row for row in train if labels[row]["subgroup"] in kept]
    test = [row for row in test if labels[row]["subgroup"] in kept]
    shown = augment_by_key_hash(images.pixels, images.keys)
    groups = map_rows_to_first_duplicate(images, train)
    return make_task_from_rows(SUBGROUPS, images, shown, train, test, "subgroup", groups)


def _make_retrieval_task(
    pretrain: PackImages, twemoji: PackImages, held_out_concepts: set[str]
) -> SingleLabelTask:
    """Return the retrieval task: one vendor of pre-training draws the validation queries, the others the gallery."""
    concepts = sorted(held_out_concepts)

    def make_part(images: PackImages, *, of_validation: bool = False) -> LabelledImages:
        """Return the held-out images that draw validation queries, or those that do not."""
        rows = []
        for row, (key, label) in enumerate(zip(images.keys, images.classes, strict=True)):
            is_of_validation = key.startswith(VALIDATION_VENDOR)
            if label.get("concept") in held_out_concepts and is_of_validation == of_validation:
                rows.append(row)
        keys = [images.keys[row] for row in rows]
        shown = augment_by_key_hash(images.pixels[rows], keys)
        labels = [concepts.index(images.classes[row]["concept"]) for row in rows]
        return LabelledImages(ArrayImageSource(shown), np.array(labels))

    return SingleLabelTask(
        name=RETRIEVAL,
        classes=tuple(concepts),
        train=make_part(pretrain),  # the gallery
        validation=make_part(pretrain, of_validation=True),
        test=make_part(twemoji),
    )


def augment_by_key_hash(
    rgba: UInt8[Tensor, "images 4 height width"], keys: Sequence[str]
) -> UInt8[Tensor, "images 3 height width"]:
    """Return images mirrored or not, cropped and put on a colour at random, by a hash of their keys."""
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
