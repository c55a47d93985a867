"""The parts of Muon: the parameters that it updates, and an optimizer of several parts."""

import torch
from torch import nn

from bench.interfaces.optimizer import ParameterGroup
from models.tower_blocks import get_all_tower_blocks


class JointOptimizer(torch.optim.Optimizer):
    """Several optimizers as one, which has their groups and their state."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        for part in parts:
            part.state = self.state
        self._parts = parts

    def step(self) -> None:  # type: ignore[override]
        """Update all parameters once."""
        for part in self._parts:
            part.step()


def split_block_matrices(
    model: nn.Module, groups: list[ParameterGroup]
) -> tuple[list[ParameterGroup], list[ParameterGroup]]:
    """Return the groups with the parameters of two dimensions in the towers' blocks alone, and with all others.

    ValueError for a model without such parameters.
    """
    blocks = nn.ModuleList(get_all_tower_blocks(model))
    matrices = {parameter for parameter in blocks.parameters() if parameter.ndim == 2}  # noqa: PLR2004
    block_groups: list[ParameterGroup] = []
    other_groups: list[ParameterGroup] = []
    for group in groups:
        in_blocks = [parameter for parameter in group["params"] if parameter in matrices]
        others = [parameter for parameter in group["params"] if parameter not in matrices]
        block_groups.append({**group, "params": in_blocks})
        other_groups.append({**group, "params": others})
    if not any(group["params"] for group in block_groups):
        raise ValueError("optimizer=muon needs a tower with matrices in its blocks")
    return block_groups, other_groups
