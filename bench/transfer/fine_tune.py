"""Train a tower and a new head on a task: the published recipe."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bench.transfer.tasks import Part
from models.image_tower import ImageTower


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuning:
    """How a tower is trained on a task; the defaults are CatLIP's on ImageNet-1k.

    Source: Mehta et al. 2024, arXiv:2404.15653, table 6, and apple/corenet,
    `projects/catlip/image_classification/imagenet/vit_base.yaml` (the batch is the paper's).
    """

    epochs: int = 10
    learning_rate: float = 3e-5
    last_learning_rate: float = 3e-6
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    clip_norm: float | None = 1.0
    ema_decay: float | None = 0.9995  # a run of fewer steps than its horizon, 1 / (1 - decay), has no average
    layer_decay: float = 1.0  # of the rate, from each block to the one before it
    batch_size: int = 128
    resize: int = 232  # scored pictures: the shorter side, then
    crop: int = 224  # the middle, both scaled to the side that the tower takes
    seed: int = 0
    train_tower: bool = True


class Classifier(nn.Module):
    """A tower and a head: normalised images to logits."""

    def __init__(self, tower: ImageTower, head: nn.Linear) -> None:
        super().__init__()
        self.tower, self.head = tower, head

    def forward(self, images: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch classes"]:
        """Return the logits of the classes."""
        logits: Tensor = self.head(self.tower(images))
        return logits


def fine_tune(
    tower: ImageTower, head: nn.Linear, part: Part, recipe: FineTuning, device: torch.device
) -> Classifier:
    """Return copies of the tower and the head, trained on a part; those given are left as they were.

    Equal arguments give equal weights on a CPU, bit for bit. Raises ValueError for layer decay on a tower whose blocks
    are not known, FloatingPointError for a loss that is not finite.
    """
    raise NotImplementedError
