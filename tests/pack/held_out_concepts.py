"""The pairs that `subset=without-held-out-concepts` leaves out: `python -m tests.pack.held_out_concepts`.

Half of the concepts that the pack's emoji of things show (animals, food, places, objects, activities) are held out,
group by group. Concepts whose names contain one another (bear, polar bear) are a family, which is held out whole;
families are taken in the order of a hash of their first name. Pre-training then leaves out every pair whose image is
an emoji of a held-out concept, whose caption names one, or whose image is a near duplicate of such an emoji, by the
correlation of pixels or by HOG features with colour.

The list is a file, so that no rounding decides what is pre-trained.
"""

import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from bench.data.held_out import (
    ALIKE,
    HELD_OUT_FILE,
    NAMED,
    SHOWN,
    Reason,
    exclusion_reason_by_key,
)
from bench.data.manifest import user_cache_folder
from bench.data.pack import PackImages, load_pack_images
from bench.labels.wordnet import lexicon
from bench.transfer.feature_extractor import (
    HOG_AND_COLOUR,
    RAW_PIXELS,
    UNTRAINED_FEATURES,
)
from bench.transfer.tasks.image_sources import composite_on_white

GROUPS = ("activities", "animals-nature", "food-drink", "objects", "travel-places")
SHARE = 0.5  # of the concepts of each group
MAX_CORRELATION = 0.9  # of the pixels of a pre-trained image and of an emoji of a held-out concept
MAX_HOG_COSINE = 0.88  # of their HOG features with colour
BLOCK = 2048  # images that are compared at once


def lemmatized_text(text: str) -> str:
    """Return the lemmas of a text's words with spaces around each, so that a name is a part of a text that names it."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return f" {' '.join(lexicon().lemma(word) for word in words)} "


def lemmatized_name(concept: str) -> str:
    """Return the lemmas of a concept's name; the dog face is a dog."""
    return lemmatized_text(concept.removesuffix(" face"))


def group_overlapping_names(concepts: Iterable[str]) -> list[list[str]]:
    """Return the families of concepts whose names contain one another."""
    names = {concept: lemmatized_name(concept) for concept in sorted(concepts)}
    family_of = {concept: {concept} for concept in names}
    for concept, name in names.items():
        for other, other_name in names.items():
            if name in other_name and family_of[concept] is not family_of[other]:
                family = family_of[concept] | family_of[other]
                family_of.update(dict.fromkeys(family, family))
    families = {id(family): family for family in family_of.values()}
    return [sorted(family) for family in families.values()]


def choose_concepts(group_of: Mapping[str, str]) -> set[str]:
    """Return the held-out concepts, given the group of every concept."""
    families_of_group = defaultdict[str, list[list[str]]](list)
    for family in group_overlapping_names(
        concept for concept, group in group_of.items() if group in GROUPS
    ):
        families_of_group[group_of[family[0]]].append(family)
    chosen = set[str]()
    for families in families_of_group.values():
        room = round(SHARE * sum(map(len, families)))
        for family in sorted(
            families, key=lambda family: hashlib.sha256(family[0].encode()).digest()
        ):
            if len(family) <= room:
                chosen.update(family)
                room -= len(family)
    return chosen


def find_rows_of_held_out_concepts(
    pretrain: PackImages, held_out: Iterable[str]
) -> dict[int, Reason]:
    """Return the rows whose image is an emoji of a held-out concept, or whose caption names one."""
    names = {concept: lemmatized_name(concept) for concept in held_out}
    reasons = dict[int, Reason]()
    for row, (caption, classes) in enumerate(zip(pretrain.captions, pretrain.classes, strict=True)):
        text = lemmatized_text(caption)
        if classes.get("concept") in names:
            reasons[row] = SHOWN
        elif any(name in text for name in names.values()):
            reasons[row] = NAMED
    return reasons


class UnitFeatures:
    """Features of images in rows of length 1, whose products are correlations of pixels and cosines of HOG features."""

    def __init__(self, images: PackImages, rows: Sequence[int]) -> None:
        source = composite_on_white(images.premultiplied_rgba[list(rows)])
        pixels = torch.from_numpy(UNTRAINED_FEATURES[RAW_PIXELS](source)).float()
        self.pixels = F.normalize(pixels - pixels.mean(1, keepdim=True))
        self.hog = F.normalize(torch.from_numpy(UNTRAINED_FEATURES[HOG_AND_COLOUR](source)).float())

    def excess(self, others: "UnitFeatures") -> Float[Tensor, " images"]:
        """Return by how much each image exceeds a limit with one of the others; near duplicates are above 0."""
        correlation = largest_products(self.pixels, others.pixels)
        cosine = largest_products(self.hog, others.hog)
        return torch.maximum(correlation - MAX_CORRELATION, cosine - MAX_HOG_COSINE)


def largest_products(
    features: Float[Tensor, "images features"], others: Float[Tensor, "others features"]
) -> Float[Tensor, " images"]:
    return torch.cat([(block @ others.T).amax(1) for block in torch.split(features, BLOCK)])


def excess_over_limits(
    pretrain: PackImages, rows: Sequence[int], twemoji: PackImages, held_out: set[str]
) -> Float[Tensor, " rows"]:
    """Return by how much images exceed a limit with an emoji of a held-out concept, in the pre-training set or not."""
    features = UnitFeatures(pretrain, rows)
    excesses = []
    for images in (pretrain, twemoji):
        shown = [
            row for row, classes in enumerate(images.classes) if classes.get("concept") in held_out
        ]
        excesses.append(features.excess(UnitFeatures(images, shown)))
    return torch.maximum(*excesses)


def find_left_out(pretrain: PackImages, twemoji: PackImages) -> dict[str, Reason]:
    """Return the keys of the pairs that are left out, with the reason, in the pack's order."""
    held_out = choose_concepts(
        {classes["concept"]: classes["group"] for classes in twemoji.classes}
    )
    reasons = find_rows_of_held_out_concepts(pretrain, held_out)
    other_rows = [row for row in range(len(pretrain)) if row not in reasons]
    excess = excess_over_limits(pretrain, other_rows, twemoji, held_out)
    for row, difference in zip(other_rows, excess.tolist(), strict=True):
        if difference > 0:
            reasons[row] = ALIKE
    return {pretrain.keys[row]: reasons[row] for row in sorted(reasons)}


def excluded_concepts(
    reason: Reason, pack_keys: Iterable[str], pack_classes: Iterable[Mapping[str, str]]
) -> set[str]:
    """Return the concepts of the pack's pairs that are left out for a reason; "shown": the held-out concepts.

    `pack_keys` and `pack_classes` are the keys and the classes of the pack's pairs for pre-training.
    """
    reasons = exclusion_reason_by_key()
    concepts = set()
    for key, class_names in zip(pack_keys, pack_classes, strict=True):
        if reasons.get(key) == reason and "concept" in class_names:
            concepts.add(class_names["concept"])
    return concepts


if __name__ == "__main__":
    reasons = find_left_out(
        load_pack_images("pretrain", user_cache_folder()),
        load_pack_images("twemoji", user_cache_folder()),
    )
    with HELD_OUT_FILE.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("key", "reason"), *reasons.items()])
