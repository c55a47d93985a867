"""Mean average precisions are scikit-learn's, the linear head is its logistic regression, and both tell what counts."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler

from bench.features.dense_tasks.multi_label import (
    PAPER,
    RELEASED,
    fit_sigmoids,
    make_loss,
    mean_average_precision,
    score_as_in_paper,
    score_fine_tuned,
    score_linear,
    task_metrics,
)
from bench.features.dense_tasks.multi_label_tasks import (
    MultiLabelPart,
    MultiLabelTask,
    split_train_validation,
)
from bench.transfer.classification import fine_tune as fine_tune_module
from bench.transfer.classification.logistic import PrincipalAxes
from bench.transfer.feature_extractor import UNTRAINED_FEATURES, FeatureExtractor
from bench.transfer.tasks.image_sources import on_white
from tests.transfer.toys import toy_tower

CPU = torch.device("cpu")


def part_of(labels: np.ndarray, unjudged: np.ndarray | None = None) -> MultiLabelPart:
    """Images whose red, green and blue shine where they show the first, second and third class."""
    pixels = torch.full((len(labels), 4, 64, 64), 255, dtype=torch.uint8)
    pixels[:, : labels.shape[1]] = (
        30 + 200 * torch.from_numpy(labels.astype(np.uint8))[..., None, None]
    )
    return MultiLabelPart(
        on_white(pixels), labels, np.zeros_like(labels) if unjudged is None else unjudged
    )


def drawn(seed: int, images: int = 40, classes: int = 3) -> tuple[np.ndarray, MultiLabelPart]:
    """Scores with many ties, labels, and pairs that nobody judged."""
    draw = np.random.default_rng(seed)
    unjudged = draw.random((images, classes)) < 0.1
    labels = (draw.random((images, classes)) < 0.3) & ~unjudged
    labels[0], unjudged[0] = True, False
    return draw.integers(-9, 9, (images, classes)) / 2, part_of(labels, unjudged)


@pytest.mark.parametrize("seed", range(8))
def test_mean_average_precisions_equal_a_naive_loop(seed: int) -> None:
    scores, part = drawn(seed)
    judged, columns = ~part.unjudged, range(3)
    separate = [
        average_precision_score(part.labels[judged[:, c], c], scores[judged[:, c], c])
        for c in columns
    ]
    found = mean_average_precision(scores, part)
    assert found["macro"] == pytest.approx(np.mean(separate), abs=1e-6)
    assert found["weighted"] == pytest.approx(
        np.average(separate, weights=part.labels.sum(axis=0)), abs=1e-6
    )
    assert found["micro"] == pytest.approx(
        average_precision_score(part.labels[judged], scores[judged]), abs=1e-6
    )


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_average_precision_depends_only_on_score_order(
    seed: int, scale: float, shift: float
) -> None:
    """Large logits too, which a sigmoid would make equal."""
    scores, part = drawn(seed)
    assert mean_average_precision(scores * scale + shift, part) == mean_average_precision(
        scores, part
    )


def test_class_without_positives_is_left_out_and_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores, part = drawn(0)
    labels = part.labels.copy()
    labels[:, 1] = False
    without = part_of(labels, part.unjudged)
    columns = [0, 2]
    separate = mean_average_precision(
        scores[:, columns], part_of(labels[:, columns], part.unjudged[:, columns])
    )
    found = mean_average_precision(scores, without)
    assert all(found[name] == separate[name] for name in ("macro", "weighted"))
    task_metrics(MultiLabelTask("toy", ("a", "b", "c"), part, part, without), "p", scores, part)
    assert (
        "1 classes are left out of the macro and the weighted mean, because no test image shows them: b"
        in (capsys.readouterr().err)
    )


def test_non_finite_scores_are_refused() -> None:
    scores, part = drawn(0)
    broken = scores.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="a score is not finite"):
        mean_average_precision(broken, part)
    with pytest.raises(ValueError, match="no image shows any class"):
        mean_average_precision(scores, part_of(np.zeros_like(part.labels)))
    with pytest.raises(ValueError, match="toy: no image of the test part shows any class"):
        MultiLabelTask("toy", ("a", "b", "c"), part, part, part_of(np.zeros_like(part.labels)))


def test_baseline_ap_is_the_share_of_positives() -> None:
    _, part = drawn(3)
    part = replace(part, unjudged=np.zeros_like(part.labels))
    found = {
        metric.name: metric
        for metric in task_metrics(
            MultiLabelTask("toy", ("a", "b", "c"), part, part, part), "p", part.labels * 1.0, part
        )
    }
    shares = part.labels.mean(axis=0)
    assert found["macro mAP"].baseline == pytest.approx(shares.mean())
    assert found["weighted mAP"].baseline == pytest.approx(np.average(shares, weights=shares))
    assert found["micro mAP"].baseline >= part.labels.mean() - 1e-6
    assert {metric.value for metric in found.values()} == {1.0}


def fitted(
    features: np.ndarray, labels: np.ndarray, unjudged: np.ndarray, *strengths: float
) -> np.ndarray:
    """The logits at the last strength."""
    axes = PrincipalAxes.fit(torch.from_numpy(features))
    along = axes.project(torch.from_numpy(features))
    *_, last = fit_sigmoids(along, torch.from_numpy(labels), torch.from_numpy(unjudged), strengths)
    assert last.converged
    return last.logits(along).numpy()


@pytest.mark.parametrize("width", [12, 200])
@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0])
def test_linear_head_equals_per_class_logistic_regression(strength: float, width: int) -> None:
    """With more features than images too, and wherever it begins."""
    draw = np.random.default_rng(0)
    features = draw.normal(size=(80, width)) * draw.uniform(0.1, 30, width) + 5
    features[:, 3] = 7.0  # says nothing
    labels = features[:, :4] + draw.normal(size=(80, 4)) * 5 > 6
    unjudged = (draw.random((80, 4)) < 0.1) & ~labels
    found = fitted(features, labels, unjudged, strength)
    np.testing.assert_allclose(
        fitted(features, labels, unjudged, 100.0, 1e-4, strength), found, atol=1e-3
    )
    x = StandardScaler().fit_transform(features)
    for column in range(4):
        rows = ~unjudged[:, column]
        theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=5000).fit(
            x[rows], labels[rows, column]
        )
        np.testing.assert_allclose(
            found[:, column], theirs.decision_function(x), rtol=1e-3, atol=1e-3
        )


def test_class_without_positives_does_not_affect_others() -> None:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(60, 5))
    labels = np.hstack(
        [features[:, :2] > 0.3, np.zeros((60, 1), dtype=bool), np.ones((60, 1), dtype=bool)]
    )
    found = fitted(features, labels, np.zeros_like(labels), 0.1)
    separate = fitted(features, labels[:, :2], np.zeros_like(labels[:, :2]), 0.1)
    np.testing.assert_allclose(found[:, :2], separate, atol=1e-3)
    assert found[:, 2].max() < -3
    assert found[:, 3].min() > 3


@pytest.mark.parametrize("seed", range(3))
def test_loss_is_bce_over_judged_pairs(seed: int) -> None:
    _, part = drawn(seed)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(40, generator=generator)[:16]
    logits = torch.randn(16, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    dense, judged = (
        torch.from_numpy(part.labels[rows]).double(),
        torch.from_numpy(~part.unjudged[rows]),
    )
    by_hand = (
        F.binary_cross_entropy_with_logits(logits, dense, reduction="none") * judged
    ).sum() / 16
    ours = make_loss(part, CPU)(logits, rows)
    torch.testing.assert_close(ours, by_hand, rtol=1e-6, atol=1e-6)
    (expected,), (found,) = torch.autograd.grad(by_hand, logits), torch.autograd.grad(ours, logits)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def coloured(seed: int, count: int) -> MultiLabelPart:
    return part_of(np.random.default_rng(seed).random((count, 3)) < 0.4)


def test_linear_head_and_fine_tuning_learn_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fine_tune_module, "FEWEST_STEPS", 40)
    monkeypatch.setattr(fine_tune_module, "RATES", (1e-3,))
    task = MultiLabelTask("toy", ("r", "g", "b"), coloured(0, 60), coloured(1, 30), coloured(2, 80))
    embed = cache(UNTRAINED_FEATURES["raw pixels"])
    subject = FeatureExtractor(
        name="toy", embed=embed, tower=toy_tower(), device=CPU, experiment=None
    )
    for score, protocol in (
        (score_linear, "multi-label, linear"),
        (score_fine_tuned, "multi-label, fine-tuned"),
    ):
        found = score(subject, task)
        assert [metric.name for metric in found] == ["macro mAP", "micro mAP", "weighted mAP"]
        for metric in found:
            assert (metric.protocol, metric.num_train, metric.num_test) == (protocol, 90, 80)
            assert metric.baseline is not None
            assert metric.value > 0.97
            assert metric.baseline < 0.7


def test_the_recipe_is_the_released_one() -> None:
    """apple/corenet, projects/catlip/multi_label_image_classification/vit_base.yaml; the paper's batch is 32."""
    assert (RELEASED.epochs, RELEASED.learning_rate, RELEASED.min_learning_rate) == (10, 1e-5, 1e-6)
    assert (RELEASED.batch_size, RELEASED.label_smoothing, RELEASED.weight_decay) == (
        128,
        0.0,
        0.05,
    )
    assert (RELEASED.image_size, RELEASED.resize_over_crop, RELEASED.ema_decay) == (
        512,
        1.0,
        0.9995,
    )
    assert (RELEASED.crop_scale, RELEASED.flip, RELEASED.clip_norm) == ((0.08, 1.0), True, 1.0)
    assert (
        RELEASED.warmup(RELEASED.steps(82_783)) == RELEASED.warmup(RELEASED.steps(118_287)) == 500
    )
    assert replace(PAPER, batch_size=128) == RELEASED
    assert PAPER.batch_size == 32
    assert score_as_in_paper.keywords["published"] == PAPER


@pytest.mark.parametrize(("published_width", "side"), [(64, 64), (768, 32)])
def test_towers_as_wide_as_published_ones_are_trained_at_the_released_size(
    published_width: int, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_tune_module, "FEWEST_STEPS", 2)
    monkeypatch.setattr(fine_tune_module, "RATES", (1e-3,))
    monkeypatch.setattr("bench.features.dense_tasks.multi_label.PUBLISHED_WIDTH", published_width)
    task = MultiLabelTask("toy", ("r", "g", "b"), coloured(0, 12), coloured(1, 12), coloured(2, 12))
    subject = FeatureExtractor(
        name="toy", embed=len, tower=toy_tower(), device=CPU, experiment=None
    )  # type: ignore[arg-type]
    for metric in score_fine_tuned(
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
