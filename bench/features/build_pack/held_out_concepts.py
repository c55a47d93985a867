"""The pairs that `subset=seen-concepts` leaves out: `python -m bench.features.build_pack.held_out_concepts`.

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

from bench.data.held_out import ALIKE, HELD_OUT_FILE, NAMED, SHOWN, Reason
from bench.data.manifest import pack_cache
from bench.data.pack import PackImages, load_pack_images
from bench.environment.files import atomic_write
from bench.labels.wordnet import lexicon
from bench.transfer.feature_extractor import embed_hog_and_colour, embed_raw_pixels
from bench.transfer.tasks.image_sources import on_white

GROUPS = ("activities", "animals-nature", "food-drink", "objects", "travel-places")
SHARE = 0.5  # of the concepts of each group
MAX_CORRELATION = 0.9  # of the pixels of a pre-trained image and of an emoji of a held-out concept
MAX_HOG_COSINE = 0.88  # of their HOG features with colour
WORD = re.compile(r"[a-z0-9]+")
BLOCK = 2048  # images that are compared at once


def lemmatized_text(text: str) -> str:
    """Return the lemmas of a text's words with spaces around each, so that a name is a part of a text that names it."""
    return f" {' '.join(lexicon().lemma(word) for word in WORD.findall(text.lower()))} "


def name_of(concept: str) -> str:
    """Return the lemmas of a concept's name; the dog face is a dog."""
    return lemmatized_text(concept.removesuffix(" face"))


def group_overlapping_names(concepts: Iterable[str]) -> list[list[str]]:
    """Return the families of concepts whose names contain one another."""
    names = {concept: name_of(concept) for concept in sorted(concepts)}
    family = {concept: [concept] for concept in names}
    for one, short in names.items():
        for other, long in names.items():
            if short in long and family[one] is not family[other]:
                family[one] += family[other]
                family |= dict.fromkeys(family[other], family[one])
    return [sorted(members) for members in {id(members): members for members in family.values()}.values()]


def choose_concepts(group_of: Mapping[str, str]) -> set[str]:
    """Return the held-out concepts, given the group of every concept."""
    families = defaultdict[str, list[list[str]]](list)
    for members in group_overlapping_names(concept for concept, group in group_of.items() if group in GROUPS):
        families[group_of[members[0]]].append(members)
    chosen = set[str]()
    for of_group in families.values():
        room = round(SHARE * sum(map(len, of_group)))
        for members in sorted(of_group, key=lambda one: hashlib.sha256(one[0].encode()).digest()):
            if len(members) <= room:
                chosen.update(members)
                room -= len(members)
    return chosen


def find_rows_of_held_out_concepts(pretrain: PackImages, held_out: Iterable[str]) -> dict[int, Reason]:
    """Return the rows whose image is an emoji of a held-out concept, or whose caption names one."""
    names = {concept: name_of(concept) for concept in sorted(held_out)}
    found = dict[int, Reason]()
    for row, (caption, classes) in enumerate(
        zip(map(lemmatized_text, pretrain.captions), pretrain.classes, strict=True)
    ):
        if classes.get("concept") in names:
            found[row] = SHOWN
        elif any(name in caption for name in names.values()):
            found[row] = NAMED
    return found


class UnitFeatures:
    """Features of images in rows of length 1, whose products are correlations of pixels and cosines of HOG features."""

    def __init__(self, images: PackImages, rows: Sequence[int]) -> None:
        source = on_white(images.pixels[list(rows)])
        pixels = torch.from_numpy(embed_raw_pixels(source)).float()
        self.pixels = F.normalize(pixels - pixels.mean(1, keepdim=True))
        self.hog = F.normalize(torch.from_numpy(embed_hog_and_colour(source)).float())

    def excess(self, others: Sequence["UnitFeatures"]) -> Float[Tensor, " images"]:
        """Return by how much each image exceeds a limit with one of the others; near duplicates are above 0."""
        correlation = torch.cat([_largest_products(self.pixels, one.pixels)[None] for one in others]).amax(0)
        cosine = torch.cat([_largest_products(self.hog, one.hog)[None] for one in others]).amax(0)
        return torch.maximum(correlation - MAX_CORRELATION, cosine - MAX_HOG_COSINE)


def _largest_products(
    one: Float[Tensor, "one features"], other: Float[Tensor, "other features"]
) -> Float[Tensor, " one"]:
    return torch.cat([(block @ other.T).amax(1) for block in torch.split(one, BLOCK)])


def shown_features(pretrain: PackImages, twemoji: PackImages, held_out: Iterable[str]) -> list[UnitFeatures]:
    """Return the features of all emoji of the held-out concepts."""
    concepts = {*held_out}
    return [
        UnitFeatures(images, [row for row, one in enumerate(images.classes) if one.get("concept") in concepts])
        for images in (pretrain, twemoji)
    ]


def find_left_out(pretrain: PackImages, twemoji: PackImages) -> dict[str, Reason]:
    """Return the keys of the pairs that are left out, with the reason, in the pack's order."""
    held_out = choose_concepts({one["concept"]: one["group"] for one in twemoji.classes})
    found = find_rows_of_held_out_concepts(pretrain, held_out)
    rest = [row for row in range(len(pretrain)) if row not in found]
    excess = UnitFeatures(pretrain, rest).excess(shown_features(pretrain, twemoji, held_out))
    found |= {row: ALIKE for row, by in zip(rest, excess.tolist(), strict=True) if by > 0}
    return {pretrain.keys[row]: found[row] for row in sorted(found)}


def main() -> None:
    """Write the file."""
    found = find_left_out(*(load_pack_images(part, pack_cache()) for part in ("pretrain", "twemoji")))
    with atomic_write(HELD_OUT_FILE) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("key", "reason"), *found.items()])


if __name__ == "__main__":
    main()
