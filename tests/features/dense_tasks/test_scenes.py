"""Scenes are drawn alike every time, their masks and boxes are exact, and the splits share nothing."""

from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.pack import load_pack_images
from bench.features.dense_tasks.scenes import (
    CLASSES,
    LEAST_VISIBLE,
    MAX_OBJECTS,
    PHOTOS,
    SPLITS,
    Scene,
    SceneParts,
    classify_cutout,
    draw_scene,
    load_cutouts_and_photos,
)

SIDE = 96


@pytest.fixture(scope="module")
def cutouts(results: Path) -> SceneParts:
    return load_cutouts_and_photos("train", results / "cache")


def everything(scene: Scene) -> list[bytes]:
    return [part.numpy().tobytes() for part in (scene.rgb, scene.masks, scene.labels, scene.boxes, scene.classes)]


def test_scene_k_is_reproducible_and_distinct(cutouts: SceneParts, results: Path) -> None:
    first, again = (
        [everything(draw_scene("train", SIDE, given, k)) for k in range(3)]
        for given in (cutouts, load_cutouts_and_photos.__wrapped__("train", results / "cache"))
    )
    assert first == again
    assert len({draw_scene("train", SIDE, cutouts, k).rgb.numpy().tobytes() for k in range(50)}) == 50
    assert first[0] != everything(draw_scene("test", SIDE, load_cutouts_and_photos("test", results / "cache"), 0))


@settings(max_examples=30, deadline=None)
@given(row=st.integers(0, 10_000), side=st.sampled_from((64, 96, 128)))
def test_scene_boxes_masks_and_labels_are_consistent(cutouts: SceneParts, row: int, side: int) -> None:
    scene = draw_scene("train", side, cutouts, row)
    assert scene.rgb.shape == (3, side, side)
    assert 1 <= len(scene.labels) <= MAX_OBJECTS
    assert scene.masks.sum(0).max() == 1
    for mask, label, box in zip(scene.masks, scene.labels, scene.boxes, strict=True):
        left, top, right, bottom = box.int().tolist()
        inside = mask[top:bottom, left:right]
        assert inside.sum() == mask.sum()
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
        assert (scene.classes[mask] == label).all()
    assert (scene.classes[~scene.masks.any(0)] == 0).all()
    assert {CLASSES[k] for k in scene.present.nonzero()[:, 0]} == {CLASSES[k - 1] for k in scene.labels}


def test_overlapping_pixels_belong_to_the_upper_object(cutouts: SceneParts) -> None:
    """One opaque square over another: whatever is drawn, the later label shows, and the lower keeps what it must."""
    squares = tuple((np.full((8, 8, 4), 255 - k, np.uint8),) for k in range(len(CLASSES)))
    opaque = tuple((np.concatenate([square[..., :3], np.full((8, 8, 1), 255, np.uint8)], -1),) for (square,) in squares)
    crowded, overlaps = SceneParts(opaque, cutouts.photos), 0
    for k in range(200):
        scene = draw_scene("train", SIDE, crowded, k)
        for mask, label in zip(scene.masks, scene.labels, strict=True):
            assert (scene.rgb[:, mask] == 256 - label).all()
        last = scene.masks[-1]
        left, top, right, bottom = scene.boxes[-1].int().tolist()
        assert last[top:bottom, left:right].all()  # nothing lies on the last
        for mask in scene.masks[:-1]:
            height, width = (int(mask.any(axis).sum()) for axis in (1, 0))
            overlaps += int(mask.sum()) < height * width
            assert int(mask.sum()) >= LEAST_VISIBLE * height * width
    assert overlaps > 20


def test_splits_share_no_cutout_or_photo(results: Path) -> None:
    parts = [load_cutouts_and_photos(split, results / "cache") for split in SPLITS]
    images = [{member.tobytes() for members in one.by_class for member in members} for one in parts]
    assert all(one.isdisjoint(other) for one, other in combinations(images, 2))
    assert sorted(number for numbers in PHOTOS.values() for number in numbers) == list(range(11))
    photos = [{photo.tobytes() for photo in one.photos} for one in parts]
    assert all(one.isdisjoint(other) for one, other in combinations(photos, 2))


def test_splits_share_no_caption(results: Path) -> None:
    """Several models of one name may look nearly alike; an image has all the captions that it stands under."""
    captions: dict[bytes, set[str]] = defaultdict(set)
    for part in ("sweethome3d", "twemoji"):
        images = load_pack_images(part, results / "cache")
        for pixels, caption in zip(images.pixels, images.captions, strict=True):
            captions[shown(pixels)].add(f"{part}: {caption}")
    parts = [load_cutouts_and_photos(split, results / "cache") for split in SPLITS]
    found = [
        set().union(*(captions[member.tobytes()] for members in one.by_class for member in members)) for one in parts
    ]
    assert all(len(one) > 20 for one in found)
    assert all(one.isdisjoint(other) for one, other in combinations(found, 2))


def shown(pixels: torch.Tensor) -> bytes:
    """What a cut-out is of an image: the rows and columns that are not wholly transparent."""
    rows, columns = (pixels[3].any(axis).nonzero()[:, 0] for axis in (1, 0))
    if not len(rows):
        return b""
    return pixels[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].permute(1, 2, 0).numpy().tobytes()


def test_every_class_has_cutouts(results: Path) -> None:
    counts = [
        [len(members) for members in load_cutouts_and_photos(split, results / "cache").by_class] for split in SPLITS
    ]
    assert counts == [
        [30, 23, 17, 32, 29, 9, 30, 11],
        [10, 8, 5, 10, 9, 3, 10, 3],
        [26, 21, 15, 28, 26, 8, 26, 10],
    ]


def test_scenes_at_other_sizes_show_the_same_content(cutouts: SceneParts) -> None:
    for k in range(20):
        small, large = (draw_scene("train", side, cutouts, k) for side in (64, 128))
        scaled = torch.nn.functional.interpolate(large.rgb[None].float(), 64, mode="area")[0]
        assert (scaled - small.rgb.float()).abs().mean() < 25


@pytest.mark.parametrize(
    ("caption", "label", "name"),
    [
        ("bar stool, chair, seat", {"category": "Kitchen"}, "chair"),
        ("desk lamp", {"category": "Lights"}, None),
        ("tablet, electronics", {"category": "Office"}, None),
        ("truck, peterbilt", {"category": "Vehicles"}, "vehicle"),
        ("fuel pump, gasoline, gas, station", {"group": "travel-places", "subgroup": "transport-ground"}, None),
        ("ambulance, vehicle", {"group": "travel-places", "subgroup": "transport-ground"}, "vehicle"),
        ("parrot, bird", {"group": "animals-nature", "subgroup": "animal-bird"}, None),
    ],
)
def test_caption_determines_the_class(caption: str, label: dict[str, str], name: str | None) -> None:
    assert classify_cutout(caption, label) == name
