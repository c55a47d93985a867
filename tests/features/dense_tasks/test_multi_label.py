"""Mean average precisions are scikit-learn's, and a fine-tuned tower learns several classes of an image."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from bench.features.dense_tasks.multi_label import (
    RELEASED,
    MultiLabelTask,
    compute_mean_average_precision,
    compute_multilabel_loss,
    score_multi_label_fine_tuning,
)
from bench.features.dense_tasks.task_files import split_train_validation
from bench.transfer.classification import fine_tune as fine_tune_module
from bench.transfer.tasks.image_sources import composite_on_white
from bench.transfer.tasks.tasks import LabelledImages
from tests.transfer.toys import toy_subject, toy_tower


def part_of(labels: np.ndarray) -> LabelledImages:
    """Images whose red, green and blue shine where they show the first, second and third class."""
    pixels = torch.full((len(labels), 4, 64, 64), 255, dtype=torch.uint8)
    shown = torch.from_numpy(labels.astype(np.uint8))
    pixels[:, : labels.shape[1]] = 30 + 200 * shown[..., None, None]
    return LabelledImages(composite_on_white(pixels), labels)


def drawn(seed: int, images: int = 40, classes: int = 3) -> tuple[np.ndarray, LabelledImages]:
    """Scores with many ties, and labels."""
    draw = np.random.default_rng(seed)
    labels = draw.random((images, classes)) < 0.3
    labels[0] = True
    return draw.integers(-9, 9, (images, classes)) / 2, part_of(labels)


@pytest.mark.parametrize("seed", range(3))
def test_mean_average_precision_equals_scikit_learns(seed: int) -> None:
    scores, part = drawn(seed)
    expected = average_precision_score(part.labels, scores, average="macro")
    assert compute_mean_average_precision(scores, part) == pytest.approx(expected, abs=1e-6)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_average_precision_depends_only_on_score_order(
    seed: int, scale: float, shift: float
) -> None:
    """Large logits too, which a sigmoid would make equal."""
    scores, part = drawn(seed)
    expected = compute_mean_average_precision(scores, part)
    assert compute_mean_average_precision(scores * scale + shift, part) == expected


def test_loss_is_binary_cross_entropy_summed_over_classes() -> None:
    _, part = drawn(0)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(40, generator=generator)[:16]
    logits = torch.randn(16, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    dense = torch.from_numpy(part.labels[rows]).double()
    expected = F.binary_cross_entropy_with_logits(logits, dense, reduction="sum") / 16
    loss = compute_multilabel_loss(logits, torch.from_numpy(part.labels)[rows])
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    (expected_slope,) = torch.autograd.grad(expected, logits)
    (slope,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(slope, expected_slope, rtol=1e-6, atol=1e-7)


def coloured(seed: int, count: int) -> LabelledImages:
    return part_of(np.random.default_rng(seed).random((count, 3)) < 0.4)


@pytest.mark.slow
def test_fine_tuning_learns_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fine_tune_module, "FEWEST_STEPS", 40)
    monkeypatch.setattr(fine_tune_module, "LEARNING_RATES", (1e-3,))
    task = MultiLabelTask("toy", ("r", "g", "b"), coloured(0, 60), coloured(1, 30), coloured(2, 80))
    (metric,) = score_multi_label_fine_tuning(toy_subject(toy_tower()), task)
    assert (metric.num_train, metric.num_test) == (90, 80)
    assert metric.baseline is not None
    assert metric.value > 0.97
    assert metric.baseline < 0.7


@pytest.mark.parametrize(("published_width", "side"), [(64, 64), (768, 32)])
def test_towers_as_wide_as_published_ones_are_trained_at_the_released_size(
    published_width: int, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_tune_module, "FEWEST_STEPS", 2)
    monkeypatch.setattr(fine_tune_module, "LEARNING_RATES", (1e-3,))
    monkeypatch.setattr("bench.features.dense_tasks.multi_label.PUBLISHED_WIDTH", published_width)
    task = MultiLabelTask("toy", ("r", "g", "b"), coloured(0, 12), coloured(1, 12), coloured(2, 12))
    subject = toy_subject(toy_tower())
    for metric in score_multi_label_fine_tuning(
        subject, task, published=replace(RELEASED, epochs=1, image_size=64)
    ):
        assert metric.training is not None
        assert (metric.training.image_size, metric.training.batch_size) == (side, 12)


@settings(derandomize=True, deadline=None)
@given(st.sets(st.text(min_size=1), min_size=3, max_size=40))
def test_holdout_is_independent_of_image_order(names: set[str]) -> None:
    forward, backward = sorted(names), sorted(names, reverse=True)
    (kept_rows, held), (other_kept, other_held) = (
        split_train_validation("a task", forward),
        split_train_validation("a task", backward),
    )
    assert {forward[row] for row in held} == {backward[row] for row in other_held}
    assert sorted(kept_rows + held) == list(range(len(names))) == sorted(other_kept + other_held)
