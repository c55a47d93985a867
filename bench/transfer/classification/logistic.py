"""Multinomial logistic regression with an L2 penalty, solved to its optimum for a sequence of penalties.

The objective is the same as in scikit-learn's LogisticRegression: C times the sum of the cross-entropies, plus half the
sum of the squared weights, without the intercepts. It is divided by C and the number of images, as in scikit-learn's
solvers. (For two classes scikit-learn has one row of weights. It is the difference of the two rows here at half of C.)

Newton steps start from the solution for the previous, stronger penalty, and each is solved by conjugate gradients. A
product with the Hessian is two matrix products in float32, because it only shapes the step. Objective and gradient
decide when to stop; they have the precision of the features and are summed in float64. Projected on principal axes the
Hessian is nearly diagonal, so its diagonal is the preconditioner.

Images are read in blocks of rows, so that beside the features the memory does not grow with their number: the
probabilities are kept for the products if they are few, and are computed again in each product otherwise. Features in
float32 are solved until a bound on the excess of the objective over its minimum is small.
Source: Nocedal and Wright 2006, "Numerical Optimization", algorithms 3.1 and 7.1.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bench.console.console import log
from bench.transfer.feature_matrix import BLOCK_ROWS, allocate_or_map_matrix

TOLERANCE = 1e-7  # of the gradient norm
MAX_EXCESS = 1e-4  # of the objective over its minimum, relative, for features in float32
MAX_STEPS = 60  # Newton steps
MAX_PRODUCTS = 200  # products with the Hessian in each step
# Residual of conjugate gradients over the gradient, far from the optimum.
MAX_RELATIVE_RESIDUAL = 0.1
ARMIJO = 1e-4  # Armijo's constant: smallest decrease relative to the slope
STEP_SIZES = [2.0**-halving for halving in range(20)]  # step sizes of the line search
ROUNDING = 1e-14  # relative, of the objective
BLOCK_SIZE = 2**20  # probabilities that are computed at once
MAX_KEPT = 2**27  # probabilities that are kept for products with the Hessian

Features = Float[Tensor, "images features"]
Projected = Float[Tensor, "images columns"]


@dataclass(frozen=True, slots=True)
class StandardisedPrincipalAxes:
    """The standardisation of features (mean 0, deviation 1), and the principal axes that they are rotated to.

    A rotation changes neither penalty nor solution. Axes without variance have weight 0 and are dropped, so that there
    are no more axes than images.
    """

    mean: Float[Tensor, " features"]
    deviation: Float[Tensor, " features"]
    axes: Float[Tensor, "features axes"]

    @classmethod
    def fit(cls, features: Features) -> "StandardisedPrincipalAxes":
        """Compute the axes, in float64; a constant feature is only centred."""
        count = len(features)
        blocks = torch.split(features, BLOCK_ROWS)
        sums = [block.double().sum(0) for block in blocks]
        mean = torch.stack(sums).sum(0) / count
        squares = [(block.double() - mean).square().sum(0) for block in blocks]
        deviation = (torch.stack(squares).sum(0) / count).sqrt()
        deviation = torch.where(deviation > 1e-12 * (1 + mean.abs()), deviation, 1.0)
        scaled = ((block.double() - mean) / deviation for block in blocks)
        if count < features.shape[1]:
            # The images span a space of lower dimension.
            basis, upper = torch.linalg.qr(torch.cat(list(scaled)).T)
            values, axes = torch.linalg.eigh(upper @ upper.T)
            axes = basis @ axes
        else:
            products = torch.zeros_like(mean).diag()
            for block in scaled:
                products.addmm_(block.T, block)
            values, axes = torch.linalg.eigh(products)
        varying = values > 1e-12 * values.max()
        return cls(mean, deviation, axes[:, varying].contiguous())

    def project_and_append_ones(self, features: Features) -> Projected:
        """Return a column per axis, and a column of ones for the intercepts, in the precision of the features."""
        num_columns = self.axes.shape[1] + 1
        projected = allocate_or_map_matrix(
            len(features), num_columns, features.dtype, self.mean.device
        )
        blocks = torch.split(features, BLOCK_ROWS)
        projected_blocks = torch.split(projected, BLOCK_ROWS)
        for block, out in zip(blocks, projected_blocks, strict=True):
            standardised = (block.to(self.mean) - self.mean) / self.deviation
            out[:, :-1] = standardised @ self.axes
            out[:, -1] = 1
        return projected


@dataclass(frozen=True, slots=True)
class LogisticFit:
    """The weights of a logistic regression on projected features, for one penalty."""

    inverse_penalty: float  # scikit-learn's C
    weights: Float[Tensor, "classes columns"]  # one column per axis, and the intercepts
    labels: Int[Tensor, " classes"]  # that occur in the training part, one per row of the weights
    objective: float  # divided by C and the number of images
    gradient_norm: float  # of that objective
    converged: bool  # whether the norm is within the tolerance, or the excess in float32

    def predict(self, projected: Projected) -> Int[Tensor, " images"]:
        """Return the most probable label of each image."""
        most_probable = []
        for block in torch.split(projected, BLOCK_ROWS):
            logits = block.to(self.weights) @ self.weights.T
            most_probable.append(logits.argmax(1))
        return self.labels[torch.cat(most_probable)]


class RegularisationPath:
    """Fits to some images by one penalty after another, each from the weights of the fit before.

    A class that does not occur is never predicted, because its intercept has no optimum. Blocks of features are
    computed on the device of the labels.

    Matrices are classes x images or classes x axes, so that products read the features in memory order, which takes 25
    to 50 % less time on a CPU.
    """

    def __init__(self, inputs: Projected, labels: Int[Tensor, " images"]) -> None:
        self.labels, targets = torch.unique(labels, return_inverse=True)
        classes = len(self.labels)
        rows = max(1, BLOCK_SIZE // classes)
        self.count = len(inputs)
        blocks = torch.split(inputs, rows)
        targets_of_blocks = torch.split(targets.unsqueeze(0), rows, dim=1)
        self.blocks = list(zip(blocks, targets_of_blocks, strict=True))
        self.rough_blocks = torch.split(inputs.float(), rows)  # the same memory if they are float32
        squares = [block.double().square().sum(0) for block in blocks]
        mean_square = torch.stack(squares).sum(0) / self.count
        self.spread = mean_square.to(targets.device)
        self.is_rough = inputs.dtype == torch.float32
        self.keeps = self.count * classes <= MAX_KEPT
        self.kept = list[Tensor]()
        shape = (classes, inputs.shape[1])
        self.weights = torch.zeros(shape, dtype=torch.float64, device=labels.device)

    def fit(self, inverse_penalty: float, tolerance: float = TOLERANCE) -> LogisticFit:
        """Search the minimum for an inverse penalty (scikit-learn's C), fastest for one after a smaller one.

        It ends before the minimum if rounding prevents progress. With the features in float32 the minimum counts as
        reached where the objective can exceed it by `MAX_EXCESS` at most. The excess of a strongly convex objective is
        at most the squared gradient over twice the penalty; the curvature of intercepts, which have no penalty, takes
        its place.
        Source: Boyd and Vandenberghe 2004, "Convex Optimization", equation 9.9.
        """
        least = 1 / (inverse_penalty * self.count)
        penalty = torch.full_like(self.spread, least)
        penalty[-1] = 0  # intercepts
        weights = self.weights
        objective, gradient = self._compute_objective_and_gradient(weights, penalty)
        for steps_left in range(MAX_STEPS, -1, -1):
            length = float(gradient.norm())
            if self.is_rough:
                of_weights = gradient[:, :-1].square().sum() / least
                of_intercepts = (gradient[:, -1:].square() / self.curvature).sum()
                excess = float(of_weights + of_intercepts) / 2 / objective
                log(
                    f"C = {inverse_penalty:g}: objective {objective:.6f}, at most {excess:.1e} of it above the minimum"
                )
                reached = excess <= MAX_EXCESS
                limit = math.sqrt(2 * least * MAX_EXCESS * objective)
            else:
                reached = length <= tolerance
                limit = tolerance
            if reached or not steps_left:
                break
            max_relative_residual = min(MAX_RELATIVE_RESIDUAL, max(length**0.5, limit / length / 2))
            step = self._solve_newton_step(weights, gradient, penalty, max_relative_residual)
            bound = objective + ROUNDING * abs(objective)
            slope = ARMIJO * float((gradient * step).sum())
            for size in STEP_SIZES:
                tried = weights + size * step
                value, gradient_there = self._compute_objective_and_gradient(tried, penalty)
                if value <= bound + size * slope:
                    break
            else:
                break
            weights = tried
            objective = value
            gradient = gradient_there
        self.weights = weights
        return LogisticFit(
            inverse_penalty,
            weights,
            self.labels,
            objective,
            gradient_norm=length,
            converged=reached,
        )

    def _compute_objective_and_gradient(
        self, weights: Tensor, penalty: Tensor
    ) -> tuple[float, Tensor]:
        """Return the objective and its gradient, and store the probabilities that the Newton step from here needs."""
        entropy = 0.0
        gradient = torch.zeros_like(weights)
        self.curvature = torch.zeros_like(weights[:, :1])
        self.kept.clear()
        for block, targets in self.blocks:
            inputs = block.to(weights.device)
            logits = weights.to(inputs.dtype) @ inputs.T
            normaliser = logits.logsumexp(0, keepdim=True)
            entropy += float((normaliser - logits.gather(0, targets)).double().sum())
            shares = logits.sub_(normaliser).exp_()
            self.curvature += (shares * (1 - shares)).sum(1, keepdim=True) / self.count
            if self.keeps:
                self.kept.append(shares.float())
            minus_one = shares.new_full(targets.shape, -1.0)
            gradient += shares.scatter_add(0, targets, minus_one) @ inputs
        penalty_of_weights = float((penalty * weights.square()).sum()) / 2
        gradient = gradient / self.count + penalty * weights
        return entropy / self.count + penalty_of_weights, gradient

    def _iterate_blocks_with_probabilities(
        self, weights: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (block of features, its class probabilities) at the weights that were evaluated last."""
        if self.kept:
            yield from zip(self.rough_blocks, self.kept, strict=True)
            return
        for block in self.rough_blocks:
            inputs = block.to(weights.device)
            yield inputs, (weights @ inputs.T).softmax(0)

    def _multiply_by_hessian(self, direction: Tensor, weights: Tensor, penalty: Tensor) -> Tensor:
        """Return the product of the Hessian at `weights` with a direction."""
        product = torch.zeros_like(direction)
        for inputs, shares in self._iterate_blocks_with_probabilities(weights):
            weighed = direction @ inputs.T * shares
            weighed.addcmul_(shares, weighed.sum(0, keepdim=True), value=-1)
            product.addmm_(weighed, inputs)
        return product / self.count + penalty * direction

    def _solve_newton_step(
        self, weights: Tensor, gradient: Tensor, penalty: Tensor, max_relative_residual: float
    ) -> Tensor:
        """Solve for the Newton step by conjugate gradients, up to a relative residual."""
        weights = weights.float()
        penalty = penalty.float()
        tiny = torch.finfo(torch.float32).tiny
        diagonal = (self.curvature * self.spread).float() + penalty + tiny
        step = torch.zeros_like(weights)
        scale = float(gradient.norm())
        residual = (-gradient / scale).float()
        direction = residual / diagonal
        slope = (residual * direction).sum()
        for _ in range(MAX_PRODUCTS):
            curved = self._multiply_by_hessian(direction, weights, penalty)
            size = slope / (direction * curved).sum()
            step.add_(direction * size)
            residual.sub_(curved * size)
            if float(residual.norm()) <= max_relative_residual:
                break
            scaled = residual / diagonal
            previous_slope = slope
            slope = (residual * scaled).sum()
            direction = scaled + slope / previous_slope * direction
        return step.double() * scale
