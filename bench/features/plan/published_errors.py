"""Errors of a plan on published trainings, by what is left out of the fit that predicts them. No torch here.

A plan is for another cluster than the published ones as a rule: its error is that of a cluster left out.
Source: Roberts et al. 2017, "Cross-validation strategies for data with temporal, spatial, hierarchical, or phylogenetic
structure" (blocks of dependent observations are left out together).
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, median

from bench.features.plan.calibration import leave_group_out
from bench.features.plan.model import OVERLAP
from bench.features.plan.published import NCCL, Latencies, fit_utilisations, predict_published_rate
from bench.published import PUBLISHED_RUNS, PublishedRun

CLUSTER = "one cluster"
# What is left out: the group of a training, and the plans whose error it estimates.
GROUPINGS: Mapping[str, tuple[Callable[[PublishedRun], Hashable], str]] = {
    "one training": (PUBLISHED_RUNS.index, "a further training of a published series"),
    "one source": (lambda run: run.publication, "another team's training on a published cluster"),
    "one model": (lambda run: run.model, "a size of model that no published training has"),
    CLUSTER: (lambda run: run.cluster, "a cluster that no published training ran on: the usual plan"),
}


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
    predictions = leave_group_out(utilisations, group_of)
    errors, inside = [], []
    for run, found, predicted in zip(PUBLISHED_RUNS, utilisations, predictions, strict=True):
        errors.append(predict_published_rate(run, predicted.value, latencies, overlap)[0] / run.midpoint - 1)
        inside.append(predicted.low <= found <= predicted.high)
    return PublishedErrors(len({*map(group_of, PUBLISHED_RUNS)}), errors, fmean(inside))
