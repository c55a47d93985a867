"""A linear head for several labels a picture, on frozen features: one logistic regression a class, solved together."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from scipy.special import expit

MOST_ITERATIONS = 2000
TOLERANCE = 1e-7  # of the gradient of the mean loss, in nats


@dataclass(frozen=True, slots=True)
class SigmoidProbe:
    """Weights and biases of the classes, for features as they come."""

    weights: Float[np.ndarray, "features classes"]
    biases: Float[np.ndarray, " classes"]
    converged: bool

    def logits(self, features: Float[np.ndarray, "pictures features"]) -> Float[np.ndarray, "pictures classes"]:
        """Return the logits of pictures."""
        logits: np.ndarray = features @ self.weights + self.biases
        return logits


def fit_sigmoids(
    features: Float[np.ndarray, "pictures features"],
    labels: Bool[np.ndarray, "pictures classes"],
    unjudged: Bool[np.ndarray, "pictures classes"],
    strength: float,
) -> SigmoidProbe:
    """Minimise, for each class, `strength` x the summed binary cross-entropy + half the squared norm of its weights.

    That is scikit-learn's logistic regression with C = `strength`, on standardised features; biases are not penalised.
    By L-BFGS in float64, all classes at once: they share nothing, but each product of matrices serves all of them.
    """
    count, width = features.shape
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread[spread == 0] = 1.0
    x, y, judged = (features - mean) / spread, labels.astype(float), ~unjudged
    penalty = 1 / (strength * count)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = flat.reshape(width + 1, -1)
        weights, biases = parameters[:-1], parameters[-1]
        logits = x @ weights + biases
        losses = (np.logaddexp(0, logits) - y * logits) * judged
        slope = (expit(logits) - y) * judged / count
        gradient = np.vstack([x.T @ slope + penalty * weights, slope.sum(axis=0)])
        return losses.sum() / count + penalty / 2 * np.square(weights).sum(), gradient.ravel()

    # Biases begin at the classes' shares, where weights of 0 are best.
    shares = ((labels.sum(axis=0) + 1) / (judged.sum(axis=0) + 2)).astype(float)
    start = np.vstack([np.zeros((width, labels.shape[1])), np.log(shares / (1 - shares))])
    limits = {"maxiter": MOST_ITERATIONS, "maxfun": 2 * MOST_ITERATIONS, "gtol": TOLERANCE, "ftol": 0.0}
    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options=limits)
    weights, biases = np.split(found.x.reshape(width + 1, -1), [width])
    scaled = weights / spread[:, None]
    return SigmoidProbe(scaled, (biases - mean @ scaled).ravel(), converged=bool(found.success))
