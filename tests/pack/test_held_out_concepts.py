"""The rule of the held-out concepts gives the shipped list, and no pre-trained pair shows, names or resembles one."""

import random
import re
from collections import Counter
from pathlib import Path

import pytest
import torch

from bench.data.held_out import ALIKE, SHOWN, exclusion_reason_by_key
from bench.data.pack import PackImages, load_pack_images
from tests.pack.held_out_concepts import (
    GROUPS,
    SHARE,
    choose_concepts,
    excess_over_limits,
    excluded_concepts,
    find_rows_of_held_out_concepts,
    group_overlapping_names,
)

SAMPLED = 480  # one in so many of the pre-trained images
SAMPLED_ALIKE = 4
ROUNDING = 1e-4  # of products of float32


@pytest.fixture(scope="module")
def twemoji(results: Path) -> PackImages:
    return load_pack_images("twemoji", results / "cache")


@pytest.fixture(scope="module")
def group_of(twemoji: PackImages) -> dict[str, str]:
    return {one["concept"]: one["group"] for one in twemoji.classes}


@pytest.fixture(scope="module")
def held_out(images: PackImages) -> set[str]:
    return excluded_concepts(SHOWN, images.keys, images.classes)


def test_half_of_the_concepts_of_each_group_are_held_out(
    group_of: dict[str, str], held_out: set[str]
) -> None:
    assert held_out == choose_concepts(group_of)
    sizes, taken = Counter(group_of.values()), Counter(group_of[concept] for concept in held_out)
    assert {*taken} == {*GROUPS}
    assert all(taken[group] / sizes[group] == pytest.approx(SHARE, abs=0.04) for group in GROUPS)


def test_held_out_concepts_do_not_depend_on_the_order(
    group_of: dict[str, str], held_out: set[str]
) -> None:
    shuffled = random.Random(0).sample([*group_of.items()], len(group_of))
    assert choose_concepts(dict(shuffled)) == held_out


def test_concepts_whose_names_contain_one_another_are_held_out_together(
    group_of: dict[str, str], held_out: set[str]
) -> None:
    of_bears = ["bear", "beard", "dog face", "guide dog", "polar bear"]
    assert group_overlapping_names(of_bears) == [
        ["bear", "polar bear"],
        ["beard"],
        ["dog face", "guide dog"],
    ]
    for family in group_overlapping_names(
        concept for concept, group in group_of.items() if group in GROUPS
    ):
        assert held_out.isdisjoint(family) or held_out.issuperset(family)


def test_pairs_that_show_or_name_a_held_out_concept_are_those_of_the_rule(
    images: PackImages, held_out: set[str]
) -> None:
    found = {
        images.keys[row]: reason
        for row, reason in find_rows_of_held_out_concepts(images, held_out).items()
    }
    assert found == {
        key: reason for key, reason in exclusion_reason_by_key().items() if reason != ALIKE
    }


def test_no_pre_trained_pair_shows_or_names_a_held_out_concept(
    images: PackImages, held_out: set[str]
) -> None:
    names = re.compile(
        rf"\b({'|'.join(re.escape(concept.lower()) for concept in sorted(held_out))})\b"
    )
    seen = [row for row, key in enumerate(images.keys) if key not in exclusion_reason_by_key()]
    assert not [images.captions[row] for row in seen if names.search(images.captions[row].lower())]
    assert held_out.isdisjoint(images.classes[row].get("concept") for row in seen)


@pytest.mark.slow
def test_near_duplicates_of_held_out_emoji_are_left_out(
    images: PackImages, twemoji: PackImages, held_out: set[str]
) -> None:
    """Of a sample of those that are left out, and of those that are pre-trained."""
    alike = [
        row for row, key in enumerate(images.keys) if exclusion_reason_by_key().get(key) == ALIKE
    ][::SAMPLED_ALIKE]
    seen = [row for row, key in enumerate(images.keys) if key not in exclusion_reason_by_key()][
        ::SAMPLED
    ]
    excess = excess_over_limits(images, [*alike, *seen], twemoji, held_out)
    of_alike, of_seen = torch.tensor_split(excess, [len(alike)])
    assert of_alike.min() > -ROUNDING
    assert of_seen.max() < ROUNDING
