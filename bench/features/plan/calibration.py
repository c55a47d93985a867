"""Utilisation of a GPU's dense peak, predicted from published trainings with an 80 % interval. No torch here.

The logarithm of the utilisation, communication excluded, is regressed on the logarithm of a model's size and on whether
the training ran under NeMo and on Hopper GPUs; all others are open_clip's. The interval is of one new training: that of
the regression's mean and the scatter of trainings about it.
Source: Weisberg 2014, "Applied Linear Regression", section 3.5 (prediction from ordinary least squares).

A plan is for another cluster than the published ones as a rule: its error is that of a cluster left out.
Source: Roberts et al. 2017, "Cross-validation strategies for data with temporal, spatial, hierarchical, or phylogenetic
structure" (blocks of dependent observations are left out together).
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, median

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from bench.environment.gpu_specs import GpuSpec
from bench.experiment.published import MODELS, NEMO, PUBLISHED_RUNS, PublishedRun
from bench.features.plan.model import OVERLAP
from bench.features.plan.published import NCCL, Latencies, fit_utilisations, predict_published_rate

COVERAGE = 0.8  # of the intervals
HOPPER = ("H100", "H200", "GH200")
CLUSTER = "one cluster"
# What is left out: the group of a training, and the plans whose error it estimates.
GROUPINGS: Mapping[str, tuple[Callable[[PublishedRun], Hashable], str]] = {
    "one training": (PUBLISHED_RUNS.index, "a further training of a published series"),
    "one source": (lambda run: run.publication, "another team's training on a published cluster"),
    "one model": (lambda run: run.model, "a size of model that no published training has"),
    CLUSTER: (lambda run: run.cluster, "a cluster that no published training ran on: the usual plan"),
}


@dataclass(frozen=True, slots=True)
class PredictedUtilisation:
    """Share of the bf16 peak that the products of a training reach, with its interval; all equal if it was given."""

    value: float
    low: float
    high: float

    @classmethod
    def given(cls, value: float) -> "PredictedUtilisation":
        """Return a utilisation that was given, without uncertainty."""
        return cls(value, value, value)


@dataclass(frozen=True, slots=True)
class UtilisationModel:
    """A regression of the logarithm of utilisations."""

    coefficients: Float[np.ndarray, " terms"]
    covariance: Float[np.ndarray, "terms terms"]  # of the coefficients, over the variance of a training
    deviation: float  # of a training about the regression
    degrees: int  # of freedom that are left

    @classmethod
    def fit(cls, runs: Sequence[PublishedRun], utilisations: Sequence[float]) -> "UtilisationModel":
        """Fit the terms to trainings and their utilisations by ordinary least squares."""
        terms, target = np.array([_regressors_of(run) for run in runs]), np.log(utilisations)
        coefficients, _, rank, _ = np.linalg.lstsq(terms, target)  # a term that no training has gets 0
        degrees = len(runs) - int(rank)
        deviation = math.sqrt(((target - terms @ coefficients) ** 2).sum() / degrees)
        return cls(coefficients, np.linalg.pinv(terms.T @ terms), deviation, degrees)

    def predict(self, gflops: float, device: GpuSpec, *, is_nemo: bool = False) -> PredictedUtilisation:
        """Predict the utilisation of a model of so many GFLOPs per image and caption, forward, on a device."""
        terms = _regressors(gflops, device, is_nemo=is_nemo)
        center = float(terms @ self.coefficients)
        spread = self.deviation * math.sqrt(1 + float(terms @ self.covariance @ terms))
        half = float(stdtrit(self.degrees, (1 + COVERAGE) / 2)) * spread
        value, low, high = (min(1.0, math.exp(center + offset)) for offset in (0.0, -half, half))
        return PredictedUtilisation(value, low, high)


@cache
def fit_published_utilisations() -> UtilisationModel:
    """Return the model of all published trainings."""
    return UtilisationModel.fit(PUBLISHED_RUNS, fit_utilisations(NCCL, OVERLAP))


def predict_leaving_group_out(
    utilisations: Sequence[float], group_of: Callable[[PublishedRun], Hashable]
) -> list[PredictedUtilisation]:
    """Return for each published training what the model of the other groups predicts, given the utilisations of all."""
    groups, models = [*map(group_of, PUBLISHED_RUNS)], dict[Hashable, UtilisationModel]()
    for left_out in {*groups}:
        kept = [at for at, group in enumerate(groups) if group != left_out]
        models[left_out] = UtilisationModel.fit([PUBLISHED_RUNS[at] for at in kept], [utilisations[at] for at in kept])
    return [
        models[group].predict(MODELS[run.model].gflops, run.device, is_nemo=run.source == NEMO)
        for group, run in zip(groups, PUBLISHED_RUNS, strict=True)
    ]


def _regressors_of(run: PublishedRun) -> Float[np.ndarray, " terms"]:
    return _regressors(MODELS[run.model].gflops, run.device, is_nemo=run.source == NEMO)


def _regressors(gflops: float, device: GpuSpec, *, is_nemo: bool) -> Float[np.ndarray, " terms"]:
    is_hopper = device.name_words.split()[0] in HOPPER
    return np.array([1.0, math.log(gflops), is_nemo, is_hopper])


@dataclass(frozen=True, slots=True)
class PublishedErrors:
    """Planned over published images/s, minus 1, of every training, and how often its interval contains it."""

    groups: int
    errors: Sequence[float]
    coverage: float  # share of the trainings whose utilisation is in the interval

    @property
    def median(self) -> float:
        """The median of the absolute errors."""
        return median(map(abs, self.errors))

    @property
    def mean(self) -> float:
        """The mean of the absolute errors."""
        return fmean(map(abs, self.errors))


@cache
def published_errors(left_out: str, latencies: Latencies = NCCL, overlap: float = OVERLAP) -> PublishedErrors:
    """Predict every published training from those of other groups, and return the errors."""
    group_of, _ = GROUPINGS[left_out]
    utilisations = fit_utilisations(latencies, overlap)
    predictions = predict_leaving_group_out(utilisations, group_of)
    errors, inside = [], []
    for run, found, predicted in zip(PUBLISHED_RUNS, utilisations, predictions, strict=True):
        errors.append(predict_published_rate(run, predicted.value, latencies, overlap)[0] / run.midpoint - 1)
        inside.append(predicted.low <= found <= predicted.high)
    return PublishedErrors(len({*map(group_of, PUBLISHED_RUNS)}), errors, fmean(inside))
