"""The tasks on held-out concepts ask for nothing that pre-training without these concepts shows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bench.data.held_out import ALIKE, SHOWN, excluded_concepts, exclusion_reason_by_key
from bench.data.pack import PackImages, load_pack_images
from bench.interfaces.catalog import TASKS, UNSEEN_TASKS
from bench.transfer.tasks.image_sources import ArrayImageSource
from bench.transfer.tasks.tasks import LabelledImages, SingleLabelTask
from bench.transfer.tasks.unseen_concepts import (
    MIN_TESTED,
    MIN_TRAINED,
    VALIDATION_VENDOR,
    augment_by_key_hash,
)

SUBGROUPS, RETRIEVAL = UNSEEN_TASKS


@pytest.fixture(scope="module")
def twemoji(results: Path) -> PackImages:
    return load_pack_images("twemoji", results / "cache")


@pytest.fixture(scope="module")
def tasks(results: Path) -> dict[str, SingleLabelTask]:
    return {name: TASKS[name].load(results / "cache") for name in UNSEEN_TASKS}


def emoji_of(
    task: SingleLabelTask, *sources: tuple[PackImages, Sequence[int]]
) -> dict[str, list[tuple[str, dict[str, str]]]]:
    """Return the keys and classes of the emoji that the images of each part were drawn from."""
    drawn = {
        image.numpy().tobytes(): (source.keys[row], source.classes[row])
        for source, rows in sources
        for row, image in zip(
            rows,
            augment_by_key_hash(source.pixels[[*rows]], [source.keys[row] for row in rows]),
            strict=True,
        )
    }
    found = {}
    for name, part in (("train", task.train), ("validation", task.validation), ("test", task.test)):
        assert isinstance(part.images, ArrayImageSource)
        found[name] = [drawn[image.numpy().tobytes()] for image in part.images.pixels]
    return found


def test_subgroups_are_learned_from_concepts_that_are_neither_held_out_nor_drawn_like_those(
    images: PackImages, twemoji: PackImages, tasks: dict[str, SingleLabelTask]
) -> None:
    held_out, alike = (
        excluded_concepts(reason, images.keys, images.classes) for reason in (SHOWN, ALIKE)
    )
    task, concepts = tasks[SUBGROUPS], dict[str, set[str]]()
    for name, emoji in emoji_of(task, (twemoji, range(len(twemoji)))).items():
        part: LabelledImages = getattr(task, name)
        assert [task.classes[label] for label in part.labels] == [of["subgroup"] for _, of in emoji]
        concepts[name] = {of["concept"] for _, of in emoji}
        assert len(concepts[name]) == len(emoji)
    assert concepts["test"] <= held_out
    assert (concepts["train"] | concepts["validation"]).isdisjoint(held_out | alike)
    assert concepts["train"].isdisjoint(concepts["validation"])
    trained = np.bincount(np.concatenate([task.train.labels, task.validation.labels]))
    assert trained.min() >= MIN_TRAINED
    assert np.bincount(task.test.labels).min() >= MIN_TESTED


def test_queries_and_gallery_show_the_held_out_concepts_as_different_vendors_draw_them(
    images: PackImages, twemoji: PackImages, tasks: dict[str, SingleLabelTask]
) -> None:
    """None of their images is pre-trained."""
    left_out = [
        row for row, key in enumerate(images.keys) if exclusion_reason_by_key().get(key) == SHOWN
    ]
    task, keys = tasks[RETRIEVAL], dict[str, list[str]]()
    for name, emoji in emoji_of(task, (images, left_out), (twemoji, range(len(twemoji)))).items():
        part: LabelledImages = getattr(task, name)
        assert [task.classes[label] for label in part.labels] == [of["concept"] for _, of in emoji]
        keys[name] = [key for key, _ in emoji]
    assert {*task.classes} == {images.classes[row]["concept"] for row in left_out}
    assert sorted(task.test.labels) == sorted({*task.train.labels}) == [*range(len(task.classes))]
    assert all(key.startswith("twemoji-") for key in keys["test"])
    assert all(key.startswith(VALIDATION_VENDOR) for key in keys["validation"])
    assert not any(key.startswith(VALIDATION_VENDOR) for key in keys["train"])


def test_an_image_is_drawn_by_its_key_alone(twemoji: PackImages) -> None:
    pixels = twemoji.pixels[40:60]
    keys = twemoji.keys[40:60]
    drawn = augment_by_key_hash(pixels, keys)
    assert drawn[7].equal(augment_by_key_hash(pixels[7:8], keys[7:8])[0])
    assert len({image.numpy().tobytes() for image in drawn}) == 20
    other = augment_by_key_hash(pixels, [f"{key}x" for key in keys])
    assert not any(one.equal(two) for one, two in zip(drawn, other, strict=True))
