"""Fine-tuning trains what it says, as fast as it says, and nothing else; its rate is chosen without the test."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bench.data.transforms import WHITE, normalise
from bench.records.scores import TaskTrainingSettings
from bench.transfer.classification import fine_tune as fine_tune_module
from bench.transfer.classification.fine_tune import (
    LINEAR_PROBE,
    FineTuningRecipe,
    compute_cross_entropy,
    load_augmented_crops_and_rows,
    make_random_head,
    score_fine_tuning,
    train_classifier_copy,
)
from bench.transfer.transfer_training import find_best_learning_rate, prefetch
from models.heads import ImageClassifier
from models.image_tower import ImageTower, build_image_tower
from models.tower_blocks import group_parameters_by_depth
from tests.transfer.toys import toy_part, toy_subject, toy_task, toy_tower

CPU = torch.device("cpu")
WHOLE = FineTuningRecipe(epochs=1, batch_size=8, learning_rate=1e-3, crop_scale=(1.0, 1.0))


def trained_from(
    recipe: FineTuningRecipe, tower: ImageTower | None = None, classes: int = 2
) -> ImageClassifier:
    tower = toy_tower() if tower is None else tower
    return trained_copies(tower, make_random_head(tower.width, classes, 0), recipe)


def trained_copies(tower: ImageTower, head: nn.Linear, recipe: FineTuningRecipe) -> ImageClassifier:
    loss = partial(compute_cross_entropy, label_smoothing=recipe.label_smoothing)
    return train_classifier_copy(tower, head, toy_part(24), loss, recipe, CPU)


def differing(one: nn.Module, other: nn.Module) -> list[str]:
    """The names of what two models of one kind have otherwise, to the last bit."""
    theirs = other.state_dict()
    return [
        name for name, value in one.state_dict().items() if not torch.equal(value, theirs[name])
    ]


def test_fine_tune_returns_a_changed_copy() -> None:
    tower, head = toy_tower(), make_random_head(64, 2, 0)
    model = trained_copies(tower, head, WHOLE)
    assert differing(tower, toy_tower()) == []
    assert differing(head, make_random_head(64, 2, 0)) == []
    assert differing(model.tower, tower)
    assert differing(model.head, head)
    assert not model.training


def test_equal_seeds_give_equal_weights() -> None:
    recipe = replace(WHOLE, crop_scale=(0.08, 1.0))
    first = trained_from(recipe)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert differing(first, trained_from(recipe)) == []
    assert torch.equal(before, torch.get_rng_state())
    assert differing(first, trained_from(replace(recipe, seed=1)))


def test_first_update_scales_with_layer_decay() -> None:
    """AdamW's first step is the rate itself, in the direction of the sign: so it shows each depth's rate."""
    recipe = replace(
        WHOLE, batch_size=24, weight_decay=0.0, clip_norm=None, layer_decay=0.5, learning_rate=1e-3
    )
    tower = build_image_tower("catlip-bench-tiny", 48, 0)
    model = trained_from(recipe, tower)
    depths = zip(
        group_parameters_by_depth(tower), group_parameters_by_depth(model.tower), strict=True
    )
    longest = [
        max((new - old).abs().max().item() for old, new in zip(before, after, strict=True))
        for before, after in depths
    ]
    assert longest == pytest.approx([1e-3 * 0.5**below for below in (5, 4, 3, 2, 1)], rel=0.02)
    moved = (model.head.bias - make_random_head(tower.width, 2, 0).bias).abs().max().item()
    assert moved == pytest.approx(1e-3, rel=0.02)


def test_published_probe_equals_a_loop_over_frozen_features() -> None:
    """With the features of the augmented batches; the tower is equal to the last bit."""
    recipe = replace(LINEAR_PROBE, epochs=4, batch_size=8, learning_rate=1e-2)
    tower, part = toy_tower(), toy_part(24)
    model = trained_from(recipe, tower)
    assert differing(model.tower, toy_tower()) == []
    head = make_random_head(tower.width, 2, 0)
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=0.0)
    steps = recipe.count_steps(24)
    for step in range(steps):
        images, rows = load_augmented_crops_and_rows(part.images, tower.image_size, recipe, step)
        with torch.no_grad():
            features = tower.eval()(normalise(images / WHITE))
        labels = torch.from_numpy(part.labels[rows])
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(features), labels, label_smoothing=0.1).backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        rate = recipe.learning_rate * recipe.learning_rate_factor(step, steps)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    torch.testing.assert_close(model.head.weight, head.weight, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(model.head.bias, head.bias, rtol=1e-3, atol=1e-5)


def test_fine_tuning_drops_no_patches() -> None:
    whole, dropping = (
        build_image_tower("catlip-bench-tiny", 48, 0, patch_drop=share) for share in (0.0, 0.5)
    )
    ours, theirs = trained_from(WHOLE, whole), trained_from(WHOLE, dropping)
    assert all(
        torch.equal(*pair) for pair in zip(ours.parameters(), theirs.parameters(), strict=True)
    )


def test_ema_with_zero_decay_is_the_last_weights() -> None:
    plain = trained_from(replace(WHOLE, ema_decay=None))
    assert differing(plain, trained_from(replace(WHOLE, ema_decay=0.0))) == []
    assert differing(plain, trained_from(replace(WHOLE, ema_decay=0.5)))


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 3000))
def test_learning_rate_rises_then_falls_to_its_minimum(steps: int) -> None:
    recipe = FineTuningRecipe()
    rates = [
        recipe.learning_rate * recipe.learning_rate_factor(step, steps) for step in range(steps)
    ]
    top = rates.index(max(rates))
    assert rates[top] == pytest.approx(recipe.learning_rate)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    if steps > 300:
        assert rates[-1] == pytest.approx(3e-6, rel=1e-2)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 3))
def test_epoch_shows_each_image_once(images: int, size: int, seed: int) -> None:
    size = min(size, images)
    load = partial(
        load_augmented_crops_and_rows,
        toy_part(images).images,
        16,
        FineTuningRecipe(batch_size=size, crop_scale=(0.5, 1.0), seed=seed),
    )
    rows = [row for _, of in prefetch(load, 3 * images) for row in of.tolist()]
    for epoch in range(3 * size):
        assert sorted(rows[epoch * images : (epoch + 1) * images]) == list(range(images))


def test_diverging_rate_is_reported_and_not_chosen() -> None:
    def quality(rate: float) -> float:
        trained_from(replace(WHOLE, learning_rate=rate))
        return 1.0

    with pytest.raises(FloatingPointError, match=r"not finite by step \d+, at rate 1e\+38"):
        quality(1e38)
    assert find_best_learning_rate((1e-3, 1e38), quality) == (1e-3, 1.0)
    with pytest.raises(FloatingPointError, match="no learning rate of 1e\\+38 can be trained at"):
        find_best_learning_rate((1e38,), quality)


def test_micro_batches_give_the_gradients_of_the_whole_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = replace(WHOLE, batch_size=12)
    whole = trained_from(recipe)
    shown = list[int]()
    monkeypatch.setattr(fine_tune_module, "MICRO_BATCH_PIXELS", 5 * 32**2)
    monkeypatch.setattr(
        ImageClassifier,
        "forward",
        lambda self, images: shown.append(len(images)) or self.head(self.tower(images)),
    )
    for ours, theirs in zip(trained_from(recipe).parameters(), whole.parameters(), strict=True):
        # AdamW's steps are up to 1e-3.
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=5e-5)
    assert shown == [4] * 6


def test_fine_tuning_at_another_size_resizes_the_tower_and_scores_whole_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fine_tune_module, "FEWEST_STEPS", 4)
    monkeypatch.setattr(fine_tune_module, "LEARNING_RATES", (3e-5,))
    scaled = list[float | None]()
    batches = fine_tune_module.iterate_eval_batches
    monkeypatch.setattr(
        fine_tune_module,
        "iterate_eval_batches",
        lambda *given: scaled.append(given[2]) or batches(*given),
    )
    tower, recipe = toy_tower(), FineTuningRecipe(image_size=64, resize_over_crop=1.0, epochs=1)
    (score,) = score_fine_tuning(toy_subject(tower), toy_task(12, 8, 10), "at 64 px", recipe)
    assert score.protocol == "at 64 px"
    assert score.training == TaskTrainingSettings(
        image_size=64,
        batch_size=12,
        steps=7,
        warmup_steps=1,
        learning_rate=3e-5,
        layer_decay=1.0,
        is_averaged=False,
    )
    assert set(scaled) == {1.0}
    assert tower.image_size == 32
