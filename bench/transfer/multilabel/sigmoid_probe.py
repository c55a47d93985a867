"""A multi-label linear head on frozen features: one logistic regression per class, solved together."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from torch import Tensor

from bench.transfer.classification.logistic import Along
from losses.chunks import LINEAR_FROM

MAX_ITERATIONS = 2000
TOLERANCE = 1e-7  # of each partial derivative of the mean loss, in nats


@dataclass(frozen=True, slots=True)
class SigmoidFit:
    """A solution in the coordinates of the axes."""

    strength: float
    weights: Float[Tensor, "rows classes"]  # one row per axis, and the biases
    converged: bool

    def logits(self, along: Along) -> Float[Tensor, "images classes"]:
        return along @ self.weights[:-1] + self.weights[-1]


def fit_sigmoids(
    along: Along,
    labels: Bool[Tensor, "images classes"],
    unjudged: Bool[Tensor, "images classes"],
    strengths: Iterable[float],
) -> Iterator[SigmoidFit]:
    """Yield a fit for each strength, started from the fit before, which is fastest from small to large.

    The objective of each class is `strength` x the summed binary cross-entropy + half the squared norm of its weights,
    without the bias: scikit-learn's logistic regression with C = `strength`. Classes are independent, and solved
    together by L-BFGS in float64 to share the matrix products. Weights are scaled by their curvature at a logit of 0.
    """
    count, device = len(along), along.device
    inputs = torch.cat([along, along.new_ones(count, 1)], dim=1)
    shown, judged = labels.to(inputs.dtype), (~unjudged).to(inputs.dtype)
    shares = (shown.sum(0) + 1) / (judged.sum(0) + 2)
    weights = torch.zeros(inputs.shape[1], labels.shape[1], dtype=inputs.dtype, device=device)
    shape = weights.shape
    weights[-1] = shares.logit()  # the optimum for weights of 0
    for strength in strengths:
        penalty = inputs.new_full((inputs.shape[1], 1), 1 / (strength * count))
        penalty[-1] = 0
        unit = (inputs.square().mean(0)[:, None] / 4 + penalty).rsqrt()

        def loss(scaled: np.ndarray, unit: Tensor = unit, penalty: Tensor = penalty) -> tuple[float, np.ndarray]:
            tried = torch.from_numpy(scaled).to(device).view(shape) * unit
            logits = inputs @ tried
            entropies = (F.softplus(logits, threshold=LINEAR_FROM) - shown * logits) * judged
            slope = inputs.T @ ((logits.sigmoid() - shown) * judged) / count + penalty * tried
            value = entropies.sum() / count + (penalty * tried.square()).sum() / 2
            return float(value), (slope * unit).flatten().cpu().numpy()

        limits = {"maxiter": MAX_ITERATIONS, "maxfun": 2 * MAX_ITERATIONS, "gtol": TOLERANCE, "ftol": 0.0}
        start = (weights / unit).flatten().cpu().numpy()
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options=limits)
        weights = torch.from_numpy(found.x).to(device).view(shape) * unit
        yield SigmoidFit(strength, weights, converged=bool(found.success))
