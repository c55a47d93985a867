"""The linear probe's solver ends where scikit-learn's ends, and says honestly where it did not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from bench.transfer import feature_matrix
from bench.transfer.classification import logistic
from bench.transfer.classification.hyperparameter_search import INVERSE_L2
from bench.transfer.classification.logistic import (
    MAX_EXCESS,
    TOLERANCE,
    RegularisationPath,
    StandardisedPrincipalAxes,
)
from bench.transfer.feature_matrix import concatenate_batches

SHAPES = {
    "more images than features": (400, 30, 5),
    "fewer": (40, 120, 3),
    "two classes": (150, 20, 2),
}


@pytest.fixture(autouse=True)
def one_thread(torch_state: None) -> None:  # noqa: ARG001 - which this one comes after
    """Small problems: threads would only wait for each other."""
    torch.set_num_threads(1)


def problem(
    images: int, features: int, classes: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Classes a little apart, along axes of which some matter a hundred times less than others."""
    draw = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), draw.integers(0, classes, images - classes)])
    apart = draw.normal(size=(classes, features))[labels]
    scales = np.logspace(0, -2, features)
    return (draw.normal(size=(images, features)) + apart) * scales @ draw.normal(
        size=(features, features)
    ), labels


def project(features: torch.Tensor) -> torch.Tensor:
    return StandardisedPrincipalAxes.fit(features).project_and_append_ones(features)


def standardised(x: np.ndarray, by: np.ndarray) -> np.ndarray:
    return (x - by.mean(0)) / by.std(0)


def fit_by_scikit_learn(
    scaled: np.ndarray, labels: np.ndarray, inverse_penalty: float
) -> tuple[LogisticRegression, float]:
    """Return scikit-learn's fit and the objective at it.

    Of two classes it keeps the difference of the weights, whose square is twice theirs: C counts twice.
    """
    times = 2 if labels.max() == 1 else 1
    fit = LogisticRegression(C=times * inverse_penalty, tol=1e-8, max_iter=5000).fit(scaled, labels)
    penalty = (fit.coef_**2).sum() / (2 * times * inverse_penalty * len(labels))
    entropy = -fit.predict_log_proba(scaled)[np.arange(len(labels)), labels].mean()
    return fit, entropy + penalty


@pytest.mark.parametrize("shape", SHAPES)
def test_optimum_equals_scikit_learns(shape: str) -> None:
    x, labels = problem(*SHAPES[shape])
    new, _ = problem(*SHAPES[shape], seed=1)
    scaled, axes = standardised(x, x), StandardisedPrincipalAxes.fit(torch.from_numpy(x))
    projected = axes.project_and_append_ones(torch.from_numpy(x))
    path = RegularisationPath(projected, torch.from_numpy(labels))
    for inverse_penalty in INVERSE_L2:
        fit = path.fit(inverse_penalty)
        theirs, objective = fit_by_scikit_learn(scaled, labels, fit.inverse_penalty)
        assert fit.objective == pytest.approx(objective, rel=1e-6)
        assert fit.converged
        answers = fit.predict(axes.project_and_append_ones(torch.from_numpy(new))).numpy()
        assert np.mean(answers == theirs.predict(standardised(new, x))) >= 0.999


def test_unconverged_fit_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = map(torch.from_numpy, problem(300, 20, 4))
    along = project(x)
    monkeypatch.setattr(logistic, "MAX_STEPS", 1)
    hurried = RegularisationPath(along, labels).fit(1.0)
    assert not hurried.converged
    assert hurried.gradient_norm > TOLERANCE
    unreachable = RegularisationPath(along, labels).fit(1e-3, tolerance=0.0)
    assert not unreachable.converged


def test_absent_class_is_never_predicted() -> None:
    x, labels = map(torch.from_numpy, problem(200, 10, 3))
    along = project(x)
    fit = RegularisationPath(along, labels * 2 + 1).fit(0.1)
    assert fit.converged
    assert torch.equal(
        fit.predict(along),
        RegularisationPath(along, labels).fit(0.1).predict(along) * 2 + 1,
    )


def test_constant_and_duplicate_features_change_nothing() -> None:
    x, labels = map(torch.from_numpy, problem(200, 10, 3))
    wider = torch.cat([x, torch.full((200, 2), 7.0)], dim=1)
    plain, constant = (RegularisationPath(project(f), labels).fit(0.1) for f in (x, wider))
    assert constant.objective == pytest.approx(plain.objective, rel=1e-9)
    twice = torch.cat([x, x], dim=1)
    assert StandardisedPrincipalAxes.fit(twice).axes.shape[1] == 10
    # Weights are shared out: half the penalty.
    repeated = RegularisationPath(project(twice), labels).fit(0.05)
    assert repeated.objective == pytest.approx(plain.objective, rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_features_in_a_file_are_fitted_within_the_stated_excess(
    shape: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The optimum is scikit-learn's; and the file goes with the matrix."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(feature_matrix, "MAX_IN_MEMORY", 100)
    x, labels = problem(*SHAPES[shape])
    features = concatenate_batches(torch.from_numpy(x).split(7), len(x))
    assert features.dtype == torch.float32
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    projected = project(features)
    path = RegularisationPath(projected, torch.from_numpy(labels))
    for inverse_penalty in INVERSE_L2:
        fit = path.fit(inverse_penalty)
        _, objective = fit_by_scikit_learn(standardised(x, x), labels, fit.inverse_penalty)
        assert fit.converged
        assert -1e-6 <= fit.objective / objective - 1 <= MAX_EXCESS
    del features, projected, path
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
