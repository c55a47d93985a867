"""The shipped parts of the pack's tasks are those of the rule, and what is tested is shown by no training."""

import csv
from pathlib import Path

import pytest

from bench.data.held_out import ALIKE, SHOWN
from bench.data.pack import PackImages, load_pack_images
from bench.interfaces.catalog import EMOJI_TASKS, UNSEEN_TASKS
from bench.transfer.tasks.pack_tasks import PARTS_FILE, augment_by_key_hash
from tests.pack.held_out_concepts import excluded_concepts
from tests.pack.task_parts import VALIDATION_VENDOR, split_all

SUBGROUPS, RETRIEVAL = UNSEEN_TASKS
Parts = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def twemoji(results: Path) -> PackImages:
    return load_pack_images("twemoji", results / "cache")


@pytest.fixture(scope="module")
def parts(images: PackImages, twemoji: PackImages) -> Parts:
    return split_all(images, twemoji)


def test_rule_gives_the_shipped_parts(parts: Parts) -> None:
    with PARTS_FILE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for task, part_by_key in parts.items():
        assert {row["key"]: row[task] for row in rows if row[task]} == part_by_key


def test_images_of_one_caption_are_in_one_part(
    images: PackImages, twemoji: PackImages, parts: Parts
) -> None:
    captions = dict(zip(images.keys, images.captions, strict=True))
    captions |= dict(zip(twemoji.keys, twemoji.captions, strict=True))
    for task in EMOJI_TASKS:
        part_by_caption = dict[str, str]()
        for key, part in parts[task].items():
            assert part_by_caption.setdefault(captions[key], part) == part


def test_unseen_tasks_test_held_out_concepts_that_their_training_does_not_show(
    images: PackImages, twemoji: PackImages, parts: Parts
) -> None:
    held_out, alike = (
        excluded_concepts(reason, images.keys, images.classes) for reason in (SHOWN, ALIKE)
    )
    concepts: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for key, label in zip(twemoji.keys, twemoji.classes, strict=True):
        if key in parts[SUBGROUPS]:
            concepts[parts[SUBGROUPS][key]].add(label["concept"])
    assert concepts["test"] <= held_out
    assert (concepts["train"] | concepts["validation"]).isdisjoint(held_out | alike)
    assert concepts["train"].isdisjoint(concepts["validation"])
    for key, part in parts[RETRIEVAL].items():
        assert (part == "test") == key.startswith("twemoji-")
        assert (part == "validation") == key.startswith(VALIDATION_VENDOR)


def test_an_image_is_drawn_by_its_key_alone(twemoji: PackImages) -> None:
    pixels = twemoji.premultiplied_rgba[40:60]
    keys = twemoji.keys[40:60]
    drawn = augment_by_key_hash(pixels, keys)
    assert drawn[7].equal(augment_by_key_hash(pixels[7:8], keys[7:8])[0])
    assert len({image.numpy().tobytes() for image in drawn}) == 20
    other = augment_by_key_hash(pixels, [f"{key}x" for key in keys])
    assert not any(one.equal(two) for one, two in zip(drawn, other, strict=True))
