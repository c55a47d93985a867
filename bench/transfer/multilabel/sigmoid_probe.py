"""A linear head for several labels a picture, on frozen features: one logistic regression a class, solved together."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from torch import Tensor

from bench.transfer.classification.logistic import Along

MOST_ITERATIONS = 2000
LINEAR_FROM = 40.0  # softplus of more is the number itself, to float64's last bit
TOLERANCE = 1e-7  # of each derivative of the mean loss, in nats


@dataclass(frozen=True, slots=True)
class Sigmoids:
    """A solution along axes."""

    strength: float
    weights: Float[Tensor, "rows classes"]  # a row for each axis, and the biases
    converged: bool

    def logits(self, along: Along) -> Float[Tensor, "pictures classes"]:
        """Return the logits of pictures."""
        return along @ self.weights[:-1] + self.weights[-1]


def sigmoids(
    along: Along,
    labels: Bool[Tensor, "pictures classes"],
    unjudged: Bool[Tensor, "pictures classes"],
    strengths: Iterable[float],
) -> Iterator[Sigmoids]:
    """Fit for one strength after another, best from small to large: each begins where the one before ended.

    Minimised is, for each class, `strength` x the summed binary cross-entropy + half the squared norm of its weights:
    scikit-learn's logistic regression with C = `strength`; biases are free. By L-BFGS in float64, all classes at once:
    they share nothing, but each product of matrices serves all of them. A weight is counted in units of what its
    curvature is at a logit of 0, along principal axes nearly the whole of it.
    """
    count, device = len(along), along.device
    inputs = torch.cat([along, along.new_ones(count, 1)], dim=1)
    shown, judged = labels.to(inputs.dtype), (~unjudged).to(inputs.dtype)
    shares = (shown.sum(0) + 1) / (judged.sum(0) + 2)
    weights = torch.zeros(inputs.shape[1], labels.shape[1], dtype=inputs.dtype, device=device)
    shape = weights.shape
    weights[-1] = shares.logit()  # where weights of 0 are best
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

        limits = {"maxiter": MOST_ITERATIONS, "maxfun": 2 * MOST_ITERATIONS, "gtol": TOLERANCE, "ftol": 0.0}
        start = (weights / unit).flatten().cpu().numpy()
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options=limits)
        weights = torch.from_numpy(found.x).to(device).view(shape) * unit
        yield Sigmoids(strength, weights, converged=bool(found.success))
