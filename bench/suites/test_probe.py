"""The linear probe's solver against scikit-learn's, in one process: `pytest bench/suites/test_probe.py -m minutes`.

Twenty strengths of the penalty, 10,000 images, 512 features with the falling spectrum that networks' have, 100
classes. scikit-learn fits first, strength by strength from small to large and each from the last one's solution
(`warm_start`), to a tolerance at which it finds the optimum (its default may stop 7.7 % above). The shortest gradient
that it left at any strength is our tolerance at all, so that ours is nearer to the optimum at each. Both have two
threads, whatever the environment says, and standardised features; the rotation onto their axes is in our time.
"""

import time

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor

from bench.transfer.classification.logistic import LogisticFit, PrincipalAxes, fit_path

NUM_IMAGES, FEATURES, CLASSES = 10_000, 512, 100
INVERSE_L2 = np.logspace(-5, 0, 20).tolist()
FASTER, THREADS = 4, 2

pytestmark = pytest.mark.minutes


def features(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return standardised features, variance falling as 1 / rank, mixed by a rotation; and classes a little apart."""
    labels = torch.randint(CLASSES, (NUM_IMAGES,), generator=generator)
    apart, noise, mix = (
        torch.randn(rows, FEATURES, generator=generator, dtype=torch.float64)
        for rows in (CLASSES, NUM_IMAGES, FEATURES)
    )
    spectrum = torch.arange(1, FEATURES + 1, dtype=torch.float64) ** -0.5
    x = (noise + apart[labels] / 2) * spectrum @ torch.linalg.qr(mix)[0]
    return (x - x.mean(0)) / x.std(0, correction=0), labels


def gradient(x: Tensor, labels: Tensor, weights: Tensor, intercepts: Tensor, strength: float) -> float:
    """Return the length of the gradient of the objective over C and the number of images."""
    wrong = (x @ weights + intercepts).softmax(1) - torch.nn.functional.one_hot(labels)
    slopes = x.T @ wrong / len(x) + weights / (strength * len(x))
    return float(torch.cat([slopes, wrong.mean(0, keepdim=True)]).norm())


@pytest.mark.benchmark(group="linear probe")
def test_a_sweep_of_twenty_strengths(benchmark: BenchmarkFixture, generator: torch.Generator) -> None:
    torch.set_num_threads(THREADS)
    x, labels = features(generator)
    theirs, left = LogisticRegression(tol=1e-7, warm_start=True, max_iter=5000), list[float]()
    seconds, cpu_seconds = list[float](), list[float]()
    for strength in INVERSE_L2:
        start, start_cpu = time.perf_counter(), time.process_time()
        with threadpool_limits(THREADS):
            theirs.set_params(C=strength).fit(x.numpy(), labels.numpy())
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - start_cpu)
        weights, intercepts = torch.from_numpy(theirs.coef_.T), torch.from_numpy(theirs.intercept_)
        left.append(gradient(x, labels, weights, intercepts, strength))

    def ours() -> list[LogisticFit]:
        return list(fit_path(PrincipalAxes.fit(x).project(x), labels, INVERSE_L2, min(left)))

    start, start_cpu = time.perf_counter(), time.process_time()
    fits: list[LogisticFit] = benchmark.pedantic(ours, rounds=1)  # type: ignore[no-untyped-call]
    own, own_cpu = time.perf_counter() - start, time.process_time() - start_cpu
    assert all(fit.converged for fit in fits)
    benchmark.extra_info["times faster than scikit-learn"] = round(sum(seconds) / own, 2)
    benchmark.extra_info["by processor seconds"] = round(sum(cpu_seconds) / own_cpu, 2)
    benchmark.extra_info["gradients left: theirs, ours"] = [min(left), max(fit.gradient_norm for fit in fits)]
    if benchmark.stats is not None:
        assert sum(seconds) >= FASTER * own
