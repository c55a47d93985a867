"""The linear probe's solver against scikit-learn's, in one process: `pytest bench/suites/test_probe.py -m minutes`.

Twenty strengths of the penalty, 10,000 images, 512 features with the falling spectrum of networks' features, 100
classes. scikit-learn fits first, strength by strength from small to large and each from the last one's solution
(`warm_start`), to a tolerance at which it finds the optimum (its default may stop 7.7 % above). Our tolerance at all
strengths is the shortest gradient that it left at any. Both have two threads and standardised features; the rotation
onto the principal axes is part of our time.
"""

from time import perf_counter

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor

from bench.transfer.classification.logistic import LogisticFit, PrincipalAxes, fit_path

NUM_IMAGES = 10_000
FEATURES = 512
CLASSES = 100
INVERSE_L2 = np.logspace(-5, 0, 20).tolist()
MIN_SPEEDUP = 4
THREADS = 2


def draw_features(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return standardised features whose variance falls as 1 / rank, mixed by a rotation, and their classes."""
    labels = torch.randint(CLASSES, (NUM_IMAGES,), generator=generator)
    class_means = torch.randn(CLASSES, FEATURES, generator=generator, dtype=torch.float64) / 2
    noise = torch.randn(NUM_IMAGES, FEATURES, generator=generator, dtype=torch.float64)
    spectrum = torch.arange(1, FEATURES + 1, dtype=torch.float64) ** -0.5
    rotation, _ = torch.linalg.qr(
        torch.randn(FEATURES, FEATURES, generator=generator, dtype=torch.float64)
    )
    features = (noise + class_means[labels]) * spectrum @ rotation
    return (features - features.mean(0)) / features.std(0, correction=0), labels


def gradient_norm(
    features: Tensor, labels: Tensor, model: LogisticRegression, strength: float
) -> float:
    """Return the length of the gradient of the mean loss with its penalty at scikit-learn's solution."""
    weights = torch.from_numpy(model.coef_.T)
    probabilities = (features @ weights + torch.from_numpy(model.intercept_)).softmax(1)
    errors = (probabilities - torch.nn.functional.one_hot(labels)) / len(features)
    slopes = features.T @ errors + weights / (strength * len(features))
    return float(torch.cat([slopes, errors.sum(0, keepdim=True)]).norm())


@pytest.mark.minutes
@pytest.mark.benchmark(group="linear probe")
def test_a_sweep_of_twenty_strengths(
    benchmark: BenchmarkFixture, generator: torch.Generator
) -> None:
    torch.set_num_threads(THREADS)
    features, labels = draw_features(generator)
    model = LogisticRegression(tol=1e-7, warm_start=True, max_iter=5000)
    seconds = 0.0
    gradients = []
    for strength in INVERSE_L2:
        start = perf_counter()
        with threadpool_limits(THREADS):
            model.set_params(C=strength).fit(features.numpy(), labels.numpy())
        seconds += perf_counter() - start
        gradients.append(gradient_norm(features, labels, model, strength))

    def fit() -> list[LogisticFit]:
        return list(
            fit_path(
                PrincipalAxes.fit(features).project(features), labels, INVERSE_L2, min(gradients)
            )
        )

    fits: list[LogisticFit] = benchmark.pedantic(fit, rounds=1)  # type: ignore[no-untyped-call]
    assert all(result.converged for result in fits)
    benchmark.extra_info["gradients left: theirs, ours"] = [
        min(gradients),
        max(fit.gradient_norm for fit in fits),
    ]
    if benchmark.stats is not None:
        speedup = seconds / benchmark.stats.stats.median
        benchmark.extra_info["times faster than scikit-learn"] = round(speedup, 2)
        assert speedup >= MIN_SPEEDUP
