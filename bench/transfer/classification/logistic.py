"""Multinomial logistic regression with an L2 penalty, to its optimum, for one strength of the penalty after another.

Minimised is what scikit-learn's LogisticRegression minimises: C times the sum of the cross-entropies, plus half the sum
of the squared weights, intercepts free; here divided by C and the number of pictures, as it does inside. (Of two
classes it has one row of weights, their difference, which is what this finds at half of C.)

Newton steps, each by conjugate gradients, begin where the stronger penalty before ended. The Hessian is only multiplied
with, two matrix products a time, in float32: it shapes the step, while objective and gradient, which decide where the
steps end, are float64. Seen along principal axes it is nearly diagonal, and its diagonal is the preconditioner.
Memory: about 50 bytes for each picture and class, beside the features.
Source: Nocedal and Wright 2006, "Numerical Optimization", algorithms 3.1 and 7.1.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

TOLERANCE = 1e-7  # of the gradient's length
MOST_STEPS, MOST_PRODUCTS = 60, 200  # Newton steps, and products with the Hessian in each
LOOSE = 0.1  # share of the gradient that a step may leave while the end is far
KEPT = 1e-4  # share of the slope's promise that a step has to keep
SIZES = [2.0**-halving for halving in range(20)]  # shares of a step that are tried
ROUNDING = 1e-14  # of the objective, relative

Features = Float[Tensor, "pictures features"]
Along = Float[Tensor, "pictures axes"]


@dataclass(frozen=True, slots=True)
class Axes:
    """Features made to have mean 0 and deviation 1, seen along their principal axes.

    A rotation changes neither penalty nor solution, and along axes on which no picture differs all weights are 0: there
    are no more axes than pictures.
    """

    mean: Float[Tensor, " features"]
    deviation: Float[Tensor, " features"]
    axes: Float[Tensor, "features axes"]

    @classmethod
    def of(cls, features: Features) -> "Axes":
        """Find them; a feature that never changes is left at its mean."""
        mean, deviation = features.mean(0), features.std(0, correction=0)
        deviation = torch.where(deviation > 1e-12 * (1 + mean.abs()), deviation, 1.0)
        scaled = (features - mean) / deviation
        if len(features) < features.shape[1]:
            basis, upper = torch.linalg.qr(scaled.T)  # the pictures' own space, no larger than they are many
            values, axes = torch.linalg.eigh(upper @ upper.T)
            axes = basis @ axes
        else:
            values, axes = torch.linalg.eigh(scaled.T @ scaled)
        return cls(mean, deviation, axes[:, values > 1e-12 * values.max()].contiguous())

    def seen(self, features: Features) -> Along:
        """Scale and rotate."""
        return (features - self.mean) / self.deviation @ self.axes


@dataclass(frozen=True, slots=True)
class Fit:
    """A solution along axes."""

    strength: float  # C
    weights: Float[Tensor, "classes columns"]  # a column for each axis, and the intercepts
    present: Int[Tensor, " classes"]  # the labels that occurred
    objective: float  # over C and the number of pictures
    gradient: float  # length of its gradient
    converged: bool  # whether that is within the tolerance
    products: int  # with the Hessian, that it took

    def answers(self, along: Along) -> Int[Tensor, " pictures"]:
        """Return the likeliest label of each picture."""
        return self.present[(along @ self.weights[:, :-1].T + self.weights[:, -1]).argmax(1)]


def sweep(
    along: Along, labels: Int[Tensor, " pictures"], strengths: Iterable[float], tolerance: float = TOLERANCE
) -> Iterator[Fit]:
    """Fit for one strength (C) after another, best from small to large.

    Of a class that does not occur the intercept would have no optimum: it is left out, and never answered.
    """
    present, targets = torch.unique(labels, return_inverse=True)
    problem = _Problem(along, targets)
    weights = along.new_zeros(len(present), along.shape[1] + 1)
    for strength in strengths:
        weights, objective, gradient, products = problem.minimised(weights, strength, tolerance)
        yield Fit(strength, weights, present, objective, gradient, gradient <= tolerance, products)


class _Problem:
    """The objective on some pictures, its gradient, and steps towards its minimum.

    Everything is classes x pictures, or classes x axes: so the products read the features in the order they lie in,
    and take a quarter to a half less time on a CPU.
    """

    def __init__(self, along: Along, targets: Int[Tensor, " pictures"]) -> None:
        self.inputs = torch.cat([along, along.new_ones(len(along), 1)], dim=1)
        self.rough_inputs = self.inputs.float()
        self.spread = self.inputs.square().mean(0)
        self.targets = targets.unsqueeze(0)

    def minimised(self, weights: Tensor, strength: float, tolerance: float) -> tuple[Tensor, float, float, int]:
        """Return the minimum's weights, objective, length of the gradient, and how many products it took.

        Where rounding lets no step make progress any more, it ends before the tolerance is met.
        """
        penalty = self.spread.new_full((len(self.spread),), 1 / (strength * len(self.inputs)))
        penalty[-1] = 0  # intercepts
        logits, normaliser, objective = self._at(weights, penalty)
        products = 0
        for steps_left in range(MOST_STEPS, -1, -1):
            shares = (logits - normaliser).exp_()
            gradient = self._gradient(shares, weights, penalty)
            length = float(gradient.norm())
            if length <= tolerance or not steps_left:
                break
            left = max(min(LOOSE, length**0.5), tolerance / length / 2)
            step, more = self._step(shares, gradient, penalty, left)
            products += more
            bound, slope = objective + ROUNDING * abs(objective), KEPT * float((gradient * step).sum())
            for size in SIZES:
                tried = weights + size * step
                logits, normaliser, value = self._at(tried, penalty)
                if value <= bound + size * slope:
                    break
            else:
                break
            weights, objective = tried, value
        return weights, objective, length, products

    def _at(self, weights: Tensor, penalty: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return the logits, the logarithms that normalise each picture's, and the objective."""
        logits = weights @ self.inputs.T
        normaliser = logits.logsumexp(0, keepdim=True)
        entropies = normaliser - logits.gather(0, self.targets)
        return logits, normaliser, float(entropies.mean() + (penalty * weights.square()).sum() / 2)

    def _gradient(self, shares: Tensor, weights: Tensor, penalty: Tensor) -> Tensor:
        wrong = shares.scatter_add(0, self.targets, shares.new_full(self.targets.shape, -1.0))
        return wrong @ self.inputs / len(self.inputs) + penalty * weights

    def _step(self, shares: Tensor, gradient: Tensor, penalty: Tensor, left: float) -> tuple[Tensor, int]:
        """Return Newton's step, solved for until a share of the gradient is left, and the products that it took."""
        rough, penalty = shares.float(), penalty.float()
        curvature = (rough * (1 - rough)).mean(1, keepdim=True)
        diagonal = curvature * self.spread.float() + penalty + torch.finfo(torch.float32).tiny
        step = torch.zeros_like(gradient, dtype=torch.float32)
        scale = float(gradient.norm())
        residual = (-gradient / scale).float()
        along = residual / diagonal
        slope = (residual * along).sum()
        products = 0
        while products < MOST_PRODUCTS:
            products += 1
            weighed = along @ self.rough_inputs.T * rough
            weighed.addcmul_(rough, weighed.sum(0, keepdim=True), value=-1)
            curved = weighed @ self.rough_inputs / len(self.inputs) + penalty * along
            size = slope / (along * curved).sum()
            step.add_(along * size)
            residual.sub_(curved * size)
            if float(residual.norm()) <= left:
                break
            scaled = residual / diagonal
            slope, before = (residual * scaled).sum(), slope
            along = scaled + slope / before * along
        return step.double() * scale, products
