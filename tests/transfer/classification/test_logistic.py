"""The linear probe's solver ends where scikit-learn's ends, and says honestly where it did not."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from bench.transfer.classification import logistic
from bench.transfer.classification.logistic import TOLERANCE, Axes, sweep
from bench.transfer.classification.probe import STRENGTHS

SHAPES = {"more pictures than features": (400, 30, 5), "fewer": (40, 120, 3), "two classes": (150, 20, 2)}


@pytest.fixture(autouse=True)
def one_thread(global_state_of_torch: None) -> None:  # noqa: ARG001 - which this one comes after
    """Small problems: threads would only wait for each other."""
    torch.set_num_threads(1)


def problem(pictures: int, features: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes a little apart, along axes of which some matter a hundred times less than others."""
    draw = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), draw.integers(0, classes, pictures - classes)])
    apart = draw.normal(size=(classes, features))[labels]
    scales = np.logspace(0, -2, features)
    return (draw.normal(size=(pictures, features)) + apart) * scales @ draw.normal(size=(features, features)), labels


def standardised(x: np.ndarray, by: np.ndarray) -> np.ndarray:
    return (x - by.mean(0)) / by.std(0)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_ends_where_scikit_learn_ends(shape: str) -> None:
    """Of two classes scikit-learn keeps the difference of the weights, whose square is twice theirs: C counts twice."""
    x, labels = problem(*SHAPES[shape])
    new, _ = problem(*SHAPES[shape], seed=1)
    scaled, axes = standardised(x, x), Axes.of(torch.from_numpy(x))
    times = 2 if shape == "two classes" else 1
    for fit in sweep(axes.seen(torch.from_numpy(x)), torch.from_numpy(labels), STRENGTHS):
        theirs = LogisticRegression(C=times * fit.strength, tol=1e-7, max_iter=5000).fit(scaled, labels)
        penalty = (theirs.coef_**2).sum() / (2 * times * fit.strength * len(labels))
        entropy = -theirs.predict_log_proba(scaled)[np.arange(len(labels)), labels].mean()
        assert fit.objective == pytest.approx(entropy + penalty, rel=1e-6)
        assert fit.converged
        answers = fit.answers(axes.seen(torch.from_numpy(new))).numpy()
        assert np.mean(answers == theirs.predict(standardised(new, x))) >= 0.999


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_that_is_told_is_that_of_the_objective(shape: str) -> None:
    """By automatic differentiation, in the features' own coordinates: the axes are only how they are looked at."""
    x, labels = map(torch.from_numpy, problem(*SHAPES[shape]))
    axes = Axes.of(x)
    scaled = (x - x.mean(0)) / x.std(0, correction=0)
    for fit in sweep(axes.seen(x), labels, STRENGTHS):
        weights = (axes.axes @ fit.weights[:, :-1].T).requires_grad_()
        intercepts = fit.weights[:, -1].clone().requires_grad_()
        entropy = torch.nn.functional.cross_entropy(scaled @ weights + intercepts, labels)
        value = entropy + weights.square().sum() / (2 * fit.strength * len(labels))
        gradients = torch.autograd.grad(value, [weights, intercepts])
        length = sum(float(one.square().sum()) for one in gradients) ** 0.5
        assert value.item() == pytest.approx(fit.objective, rel=1e-12)
        assert fit.gradient == pytest.approx(length, rel=1e-3, abs=1e-11)
        assert fit.converged == (length <= TOLERANCE)


def test_a_fit_does_not_depend_on_where_it_began() -> None:
    x, labels = map(torch.from_numpy, problem(300, 20, 4))
    along = Axes.of(x).seen(x)
    swept = dict(zip(STRENGTHS, sweep(along, labels, STRENGTHS), strict=True))
    for strength in STRENGTHS[::4]:
        alone = next(sweep(along, labels, [strength]))
        shifts = [fit.weights - fit.weights.mean(0) for fit in (alone, swept[strength])]
        torch.testing.assert_close(*shifts, rtol=1e-3, atol=1e-4)  # what all classes have in common is free
        assert alone.objective == pytest.approx(swept[strength].objective, rel=1e-9)


def test_what_did_not_converge_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = map(torch.from_numpy, problem(300, 20, 4))
    along = Axes.of(x).seen(x)
    monkeypatch.setattr(logistic, "MOST_STEPS", 1)
    hurried = next(sweep(along, labels, [1.0]))
    assert not hurried.converged
    assert hurried.gradient > TOLERANCE
    unreachable = next(sweep(along, labels, [1e-3], tolerance=0.0))
    assert not unreachable.converged


def test_a_class_that_does_not_occur_is_never_answered() -> None:
    x, labels = map(torch.from_numpy, problem(200, 10, 3))
    along = Axes.of(x).seen(x)
    fit = next(sweep(along, labels * 2 + 1, [0.1]))
    assert fit.converged
    assert torch.equal(fit.answers(along), next(sweep(along, labels, [0.1])).answers(along) * 2 + 1)


def test_features_that_never_change_or_repeat_others_change_nothing() -> None:
    x, labels = map(torch.from_numpy, problem(200, 10, 3))
    wider = torch.cat([x, torch.full((200, 2), 7.0)], dim=1)
    plain, constant = (next(sweep(Axes.of(f).seen(f), labels, [0.1])) for f in (x, wider))
    assert constant.objective == pytest.approx(plain.objective, rel=1e-9)
    twice = torch.cat([x, x], dim=1)
    assert Axes.of(twice).axes.shape[1] == 10
    repeated = next(sweep(Axes.of(twice).seen(twice), labels, [0.05]))  # weights are shared out: half the penalty
    assert repeated.objective == pytest.approx(plain.objective, rel=1e-9)
