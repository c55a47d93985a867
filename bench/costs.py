"""What an experiment costs by count alone: parameters, and FLOPs of an image and its caption."""

from dataclasses import dataclass

import torch
from torch import nn

from bench.config import Experiment
from bench.methods import method_named
from bench.profilers.flops import META, counted
from models.heads import Contrastive
from models.image_tower import build_image_tower


@dataclass(frozen=True, slots=True)
class Costs:
    """Parameters, and FLOPs of one forward of an image, and of a caption that fills its context.

    A multiply-add is two.
    """

    parameters: int  # trained
    tower_parameters: int  # of the image tower, which is kept
    image_flops: int
    text_flops: int  # 0 where no text is computed

    @property
    def text_share(self) -> float:
        """Share of the two towers' forward that the text tower takes."""
        return self.text_flops / (self.text_flops + self.image_flops)


def costs_of(experiment: Experiment) -> Costs:
    """Count on the `meta` device: no weight is drawn, no data read."""
    with META:
        tower = build_image_tower(experiment.tower, experiment.image_size, experiment.seed)
        model = method_named(experiment.method).wrap(tower, experiment)
        image = torch.empty(1, 3, experiment.image_size, experiment.image_size)
        tokens, row = torch.zeros(1, experiment.context_length, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    return Costs(
        parameters=_size(model),
        tower_parameters=_size(tower),
        image_flops=counted(lambda: tower(image)),
        text_flops=counted(lambda: model.text((tokens,), row, row)) if isinstance(model, Contrastive) else 0,
    )


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
