"""Mean IoU is what counting pixel by pixel gives; masks follow their images; heads learn what can be told."""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bench.features.dense_tasks.dense_training import DenseTrainingRecipe
from bench.features.dense_tasks.segmentation import (
    IGNORED,
    ImageAndMask,
    SegmentationRecipe,
    SegmentationTask,
    compute_mean_iou,
    random_scale_crop_flip,
    score_segmentation,
)
from tests.transfer.toys import toy_subject, toy_tower


def answers(text: Sequence[Tensor], pairs: Sequence[ImageAndMask]) -> Iterator[Tensor]:
    """Answer with what was told for each mask, found by being the same tensor."""
    for _, mask in pairs:
        yield next(answer for answer, of in text if of is mask)


def counted(text: Sequence[np.ndarray], masks: Sequence[np.ndarray], classes: int) -> float:
    found = []
    for number in range(classes):
        both = sum(((t == number) & (m == number)).sum() for t, m in zip(text, masks, strict=True))
        either = sum(
            (((t == number) & (m != IGNORED)) | (m == number)).sum()
            for t, m in zip(text, masks, strict=True)
        )
        found += [both / either] if either else []
    return float(np.mean(found))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5), images=st.integers(1, 20))
def test_mean_iou_equals_pixel_counting(seed: int, classes: int, images: int) -> None:
    draw = np.random.default_rng(seed)
    sizes = [tuple(draw.integers(1, 9, 2)) for _ in range(images)]
    masks = [draw.choice([*range(classes), IGNORED], size).astype(np.uint8) for size in sizes]
    text = [draw.integers(0, classes, size) for size in sizes]
    part = [
        (torch.zeros(3, *mask.shape, dtype=torch.uint8), torch.from_numpy(mask)) for mask in masks
    ]
    known = [(torch.from_numpy(one), mask) for one, (_, mask) in zip(text, part, strict=True)]
    if all((mask == IGNORED).all() for mask in masks):
        with pytest.raises(ValueError, match="no pixel has a class"):
            compute_mean_iou(functools.partial(answers, known), part, classes)
        return
    found, commonest = compute_mean_iou(functools.partial(answers, known), part, classes)
    assert found == pytest.approx(counted(text, masks, classes), abs=1e-6)
    counts = np.bincount(np.concatenate([mask.ravel() for mask in masks]), minlength=256)[:classes]
    constant = [np.full(mask.shape, counts.argmax()) for mask in masks]
    assert commonest == pytest.approx(counted(constant, masks, classes), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), height=st.integers(20, 90), width=st.integers(20, 90))
def test_mask_is_cropped_like_its_image(seed: int, height: int, width: int) -> None:
    """Each pixel of the image tells its class; smoothing at borders aside, it still does behind the crop."""
    left = torch.arange(width).expand(height, -1) < width / 2
    mask = torch.where(left, 1, 2).to(torch.uint8)
    rgb = (mask * 100).expand(3, -1, -1).contiguous()
    new_rgb, new_mask = random_scale_crop_flip(
        (rgb, mask), 48, (0.5, 1.5), torch.Generator().manual_seed(seed)
    )
    assert new_rgb.shape == (3, 48, 48)
    assert new_mask.shape == (48, 48)
    counts = new_mask != IGNORED
    assert (new_rgb[:, ~counts] == 0).all()
    border = (new_mask[:, 1:] != new_mask[:, :-1]).any(0).nonzero()[:, 0]
    away, smoothed = torch.ones(48, dtype=torch.bool), math.ceil(1.5 * 48 / min(height, width)) + 1
    for column in [-1, *border.tolist(), 47]:  # beyond the edges a border may lie that is not seen
        away[max(0, column - smoothed) : column + smoothed + 2] = False
    assert (new_rgb[0][:, away][counts[:, away]] == new_mask[:, away][counts[:, away]] * 100).all()
    again = random_scale_crop_flip((rgb, mask), 48, (0.5, 1.5), torch.Generator().manual_seed(seed))
    assert torch.equal(again[0], new_rgb)


@dataclass(frozen=True)
class Halves:
    """Images whose halves are dark or bright; the mask tells which, or is drawn without looking."""

    count: int
    seed: int
    separable: bool = True

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> ImageAndMask:
        draw = np.random.default_rng((self.seed, row))
        shown = draw.integers(0, 2, 2)
        text = shown if self.separable else draw.integers(0, 2, 2)
        levels, classes = (
            np.repeat(np.repeat(one[None], 32, 0), 16, 1) for one in (shown * 200 + 20, text)
        )
        return torch.from_numpy(np.repeat(levels[None], 3, 0).astype(np.uint8)), torch.from_numpy(
            classes.astype(np.uint8)
        )


def task(*, separable: bool = True) -> SegmentationTask:
    training = DenseTrainingRecipe(
        epochs=4, batch_size=8, micro_batch_size=8, learning_rates=(3e-3,), layer_decay=0.9
    )
    recipe = SegmentationRecipe(
        side=32, shorter_side_scales=(1.0, 1.0), channels=16, training=training
    )
    parts = [Halves(count, seed, separable) for seed, count in enumerate((48, 16, 40))]
    return SegmentationTask("halves", ("dark", "bright"), *parts, recipe)


def test_separable_pixels_are_learned_and_others_are_not() -> None:
    tower = toy_tower()
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    (score,) = score_segmentation(toy_subject(tower), task())
    assert score.value > 0.8
    assert score.baseline == pytest.approx(0.25, abs=0.05)
    assert (score.num_train, score.num_test) == (64, 40)
    assert all(torch.equal(value, before[name]) for name, value in tower.state_dict().items())
    (blind,) = score_segmentation(toy_subject(tower), task(separable=False))
    assert blind.value < 0.6
