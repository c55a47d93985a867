"""The built-in optimizers. PyTorch is imported inside functions."""

from typing import TYPE_CHECKING

from bench.experiment.fields import OptimizerSettings
from bench.interfaces.optimizer import OptimizerBuilder, ParameterGroup

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


class AdamWBuilder(OptimizerBuilder):
    """torch's AdamW for all parameters, of the experiment's kernel.

    On a CPU the fused kernel is nine times as fast as torch's default there, "for_loop".
    """

    name = "adamw"

    def build(
        self, model: "nn.Module", groups: list[ParameterGroup], settings: OptimizerSettings
    ) -> "Optimizer":
        import torch

        return torch.optim.AdamW(
            groups,
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=settings.optimizer_kernel == "fused",
            foreach=settings.optimizer_kernel == "foreach",
        )


class MuonAndAdamWBuilder(OptimizerBuilder):
    """Muon of torch 2.9 or newer for the matrices of the towers' blocks, and AdamW for the other parameters.

    Muon's rate is scaled to the size of AdamW's updates, so that AdamW's rate and weight decay apply. Its momentum is
    0.95, torch's default. The query, key and value weights are one matrix where the tower has them as one. Sources:
    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv 2502.16982, for the rate.
    """

    name = "muon"

    def build(
        self, model: "nn.Module", groups: list[ParameterGroup], settings: OptimizerSettings
    ) -> "Optimizer":
        import torch

        from bench.train.muon import JointOptimizer, split_block_matrices

        if not hasattr(torch.optim, "Muon"):
            raise ValueError(
                f"optimizer=muon needs torch 2.9 or newer, this is {torch.__version__}"
            )
        block_groups, other_groups = split_block_matrices(model, groups)
        muon = torch.optim.Muon(
            block_groups,
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        return JointOptimizer(muon, AdamWBuilder().build(model, other_groups, settings))


OPTIMIZERS = (AdamWBuilder(), MuonAndAdamWBuilder())
