"""Losses, as pure functions of tensors."""

from jaxtyping import Float
from torch import Tensor

Scalar = Float[Tensor, ""]
Features = Float[Tensor, "batch dim"]
