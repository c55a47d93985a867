"""Curves over labels: every subject is given the same draws, and never more labels than stated."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from bench.records.scores import AccuracyScore
from bench.transfer.classification import probe
from bench.transfer.classification.label_subsets import (
    MAX_SHOTS_TO_TUNE,
    SHARES,
)
from bench.transfer.classification.probe import (
    DRAWS,
    SHOTS,
    EmbeddedTask,
    score_few_shot,
    score_label_shares,
)
from bench.transfer.feature_extractor import Embed, FeatureExtractor
from bench.transfer.tasks.image_sources import ArrayImageSource, ImageSource
from bench.transfer.tasks.tasks import LabelledImages, SingleLabelTask

CPU = torch.device("cpu")
CLASSES, COUNTS = 4, {"train": 24, "validation": 6, "test": 50}  # of each class


def part(count: int, first: int) -> LabelledImages:
    """Images whose first pixel is their number, unlike any other part's."""
    numbers = torch.arange(first, first + count * CLASSES)
    pixels = torch.zeros(len(numbers), 3, 1, 2, dtype=torch.uint8)
    pixels[:, 0, 0, 0], pixels[:, 1, 0, 0] = numbers % 256, numbers // 256
    return LabelledImages(ArrayImageSource(pixels), np.arange(len(numbers)) % CLASSES)


def task() -> SingleLabelTask:
    firsts = {"train": 0, "validation": 200, "test": 400}
    return SingleLabelTask(
        "toy", ("a", "b", "c", "d"), *(part(COUNTS[name], first) for name, first in firsts.items())
    )


def numbers(images: ImageSource) -> np.ndarray:
    assert isinstance(images, ArrayImageSource)
    return images.pixels[:, 0, 0, 0].numpy().astype(int) + 256 * images.pixels[
        :, 1, 0, 0
    ].numpy().astype(int)


def noisy(noise: float, seed: int) -> Embed:
    """Features that tell the class, the less so the noisier."""

    def embed(images: ImageSource) -> np.ndarray:
        draws = [
            np.random.default_rng([seed, number]).normal(size=CLASSES) for number in numbers(images)
        ]
        return np.eye(CLASSES)[numbers(images) % CLASSES] + noise * np.stack(draws)

    return embed


def subject(embed: Embed) -> FeatureExtractor:
    return FeatureExtractor(name="features", embed=embed, tower=None, device=CPU, experiment=None)


def accuracy(score: AccuracyScore) -> float:
    return score.correct.count("1") / len(score.correct)


def test_few_shot_curve_has_every_draw_and_rises() -> None:
    shots, shares = (
        score_few_shot(subject(noisy(1.0, 0)), task()),
        score_label_shares(subject(noisy(1.0, 0)), task()),
    )
    assert sorted((one.draw, one.per_class) for one in shots) == sorted(
        (d, s) for d in range(DRAWS) for s in SHOTS
    )
    expected = [(draw, share) for share in SHARES[:-1] for draw in range(DRAWS)] + [(0, 1.0)]
    assert [(one.draw, one.label_share) for one in shares] == expected
    assert [one.num_train for one in shots[::DRAWS]] == [CLASSES * number for number in SHOTS]
    assert {one.num_train for one in shares if one.label_share == 0.5} == {CLASSES * (12 + 3)}
    means = [
        np.mean([accuracy(one) for one in shots if one.per_class == number]) for number in SHOTS
    ]
    assert means[-1] > means[0] + 0.1


@pytest.fixture(autouse=True)
def one_thread(torch_state: None) -> None:  # noqa: ARG001 - which this one comes after
    """Small problems: threads would only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[frozenset[float], frozenset[float]]]:
    """Which images each fit was given, to fit and to choose the penalty on: by a feature that is their number."""
    given: list[tuple[frozenset[float], frozenset[float]]] = []
    for name in ("score_without_refit", "score_after_refit"):

        def noting(
            original: Callable[..., AccuracyScore], protocol: Any, task: EmbeddedTask, **point: Any
        ) -> AccuracyScore:
            given.append(
                tuple(
                    frozenset(of.features[:, -1].tolist()) for of in (task.train, task.validation)
                )
            )
            return original(protocol, task, **point)

        monkeypatch.setattr(probe, name, partial(noting, getattr(probe, name)))
    return given


def numbered(noise: float, seed: int) -> Embed:
    return lambda images: np.column_stack([noisy(noise, seed)(images), numbers(images)])


@pytest.mark.parametrize("curve", [score_few_shot, score_label_shares])
def test_every_subject_is_given_the_same_images(
    curve: Callable[[FeatureExtractor, SingleLabelTask], list[AccuracyScore]],
    seen: list[tuple[frozenset[float], frozenset[float]]],
) -> None:
    curve(subject(numbered(1.0, 0)), task())
    first = seen.copy()
    seen.clear()
    curve(subject(numbered(3.0, 7)), task())
    assert seen == first
    assert len({*first}) > len(first) / 2  # draws differ


def test_label_subsets_are_nested_and_tuning_uses_no_extra_labels(
    seen: list[tuple[frozenset[float], frozenset[float]]],
) -> None:
    score_few_shot(subject(numbered(1.0, 0)), task())
    for draw in range(DRAWS):
        points = seen[draw::DRAWS]
        for (train, validation), number in zip(points, SHOTS, strict=True):
            for rows, count in ((train, number), (validation, min(number, MAX_SHOTS_TO_TUNE))):
                assert (
                    np.bincount(np.array([*rows], dtype=int) % CLASSES).tolist()
                    == [count] * CLASSES
                )
            assert not train & validation
        for (smaller, _), (larger, _) in pairwise(points):
            assert smaller < larger
