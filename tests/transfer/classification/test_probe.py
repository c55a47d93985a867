"""The probe tries settings until the best one lies inside of them, and scores as scikit-learn with that setting."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from bench.transfer import feature_matrix
from bench.transfer.classification import probe
from bench.transfer.classification.hyperparameter_search import (
    INVERSE_L2,
    INVERSE_L2_LIMITS,
    find_best_setting,
)
from bench.transfer.classification.probe import (
    LINEAR_PROBE,
    EmbeddedTask,
    LabelledFeatures,
    score_after_refit,
    score_linear_probe,
)
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.feature_matrix import concatenate_batches
from bench.transfer.tasks.image_sources import ArrayImageSource, ImageSource
from bench.transfer.tasks.tasks import LabelledImages, SingleLabelTask

CPU = torch.device("cpu")


@given(st.floats(-7, 5))
def test_best_setting_is_found_inside_of_the_tried_ones(peak: float) -> None:
    tried = []

    def measure(inverse_penalty: float) -> float:
        tried.append(inverse_penalty)
        return -abs(math.log10(inverse_penalty) - peak)

    best, quality = find_best_setting(measure, INVERSE_L2, INVERSE_L2_LIMITS)
    assert quality == -abs(math.log10(best) - peak)
    assert abs(math.log10(best) - peak) <= 0.25 + 1e-9  # half of the grid's step
    assert min(tried) < best < max(tried)


def test_search_ends_at_its_limits_and_without_limits_at_the_grid() -> None:
    best, _ = find_best_setting(float, INVERSE_L2, INVERSE_L2_LIMITS)
    assert 0.3 * INVERSE_L2_LIMITS[1] < best <= INVERSE_L2_LIMITS[1]
    assert find_best_setting(float, (1.0, 3.0)) == (3.0, 3.0)


def count_right(inverse_penalty: float, x: np.ndarray, labels: np.ndarray, count: int) -> int:
    """Return how many rows scikit-learn's classifier of standardised features sorts rightly, fitted to the first."""
    scaled = StandardScaler().fit(x[:count]).transform(x)
    model = LogisticRegression(C=inverse_penalty, max_iter=10_000, tol=1e-8).fit(
        scaled[:count], labels[:count]
    )
    return int((model.predict(scaled[count:]) == labels[count:]).sum())


def test_linear_probe_beyond_the_grid_scores_as_scikit_learn() -> None:
    """Few saturated projections of the digits need a weak penalty; rounding may decide one test image."""
    pixels, labels = load_digits(return_X_y=True)
    x = np.tanh(pixels @ np.random.default_rng(0).normal(size=(pixels.shape[1], 24)) / 40)
    features, classes = torch.from_numpy(x), torch.from_numpy(labels.astype(np.int64))
    parts = [
        LabelledFeatures(features[rows], classes[rows])
        for rows in (slice(600), slice(600, 900), slice(900, None))
    ]
    task = EmbeddedTask("digits", tuple("0123456789"), *parts)
    score = score_after_refit(LINEAR_PROBE, task)
    assert INVERSE_L2[-1] < score.chosen < INVERSE_L2_LIMITS[1]
    assert abs(count_right(score.chosen, x, labels, 900) - score.correct.count("1")) <= 1
    tried = [*INVERSE_L2, score.chosen]
    on_validation = {penalty: count_right(penalty, x[:900], labels[:900], 600) for penalty in tried}
    assert max(on_validation.values()) - on_validation[score.chosen] <= 1, on_validation


def test_features_beyond_memory_score_as_scikit_learn_with_the_penalty_chosen_on_a_sample(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The penalty is chosen on a random sample of the training part; the fit to all of it is scikit-learn's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pixels, labels = load_digits(return_X_y=True)
    x = pixels + np.random.default_rng(0).normal(size=pixels.shape) * 6
    bounds = ((0, 900), (900, 1200), (1200, 1797))
    parts = [
        LabelledImages(
            ArrayImageSource(torch.zeros(b - a, 3, 1, 1, dtype=torch.uint8)), labels[a:b]
        )
        for a, b in bounds
    ]
    features = {part.images: x[a:b] for part, (a, b) in zip(parts, bounds, strict=True)}

    def embed(images: ImageSource) -> np.ndarray:
        return concatenate_batches(
            torch.from_numpy(features[images]).split(100), len(images)
        ).numpy()

    for module in (feature_matrix, probe):
        monkeypatch.setattr(module, "MAX_IN_MEMORY", 700 * x.shape[1])
    monkeypatch.setattr(feature_matrix, "BLOCK_ROWS", 64)
    fit, tuned_on = probe.predict_by_logistic_regression, list[int]()

    def spied(train: LabelledFeatures, *others: Any) -> Any:
        tuned_on.append(len(train.labels))
        return fit(train, *others)

    monkeypatch.setattr(probe, "LINEAR_PROBE", replace(LINEAR_PROBE, make_predict_function=spied))
    subject = FeatureExtractor(name="x", embed=embed, tower=None, device=CPU, experiment=None)
    (score,) = score_linear_probe(subject, SingleLabelTask("digits", tuple("0123456789"), *parts))
    assert tuned_on == [700, 1200]
    assert score.converged
    assert score.num_train == 1200
    assert abs(count_right(score.chosen, x, labels, 1200) - score.correct.count("1")) <= 2
