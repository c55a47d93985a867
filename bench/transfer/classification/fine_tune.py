"""Fine-tune a tower and a new head on a task by the published recipe."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from bench.data.transforms import WHITE, normalise
from bench.environment.seeds import HEAD, seed_for
from bench.transfer.tasks.pictures import ImageSource, eval_batches
from bench.transfer.tasks.tasks import TaskSplit
from bench.transfer.transfer_training import TaskBatches, TransferTraining, train_on_task
from models.image_tower import ImageTower

INITIAL_SPREAD = 0.02  # standard deviation of a new head's weights

RowLoss = Callable[[Float[Tensor, "batch classes"], Int[Tensor, " batch"]], Float[Tensor, ""]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuning:
    """Settings of fine-tuning; the defaults are CatLIP's on ImageNet-1k.

    AdamW with a linear warm-up and a cosine; random resized crops and flips. RangeAugment and the sampler of several
    image sizes are left out; the recipe has no RandAugment, mixup or cutmix. Source: Mehta et al. 2024,
    arXiv:2404.15653, table 6; apple/corenet, `projects/catlip/image_classification/imagenet/vit_base.yaml` (the batch
    is the paper's).
    """

    epochs: int = 10
    learning_rate: float = 3e-5
    min_learning_rate: float = 3e-6
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    clip_norm: float | None = 1.0  # of the gradient over all parameters
    ema_decay: float | None = 0.9995  # of the averaged weights
    layer_decay: float = (
        1.0  # factor of the rate from the head to the last block, and from each block to the block before
    )
    batch_size: int = 128
    crop_scale: tuple[float, float] = (0.08, 1.0)  # range of a random crop's area, as a share of the image's
    flip: bool = True
    seed: int = 0
    train_tower: bool = True  # otherwise only the head

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"epochs and batch_size must be 1 or more, got {self.epochs} and {self.batch_size}")
        if not 0 <= self.min_learning_rate <= self.learning_rate < math.inf or self.learning_rate == 0:
            raise ValueError(f"learning rates must fall to 0 or more: {self.learning_rate} to {self.min_learning_rate}")
        if not 0 <= self.layer_decay <= 1:
            raise ValueError(f"layer_decay must be from 0 to 1, got {self.layer_decay}")

    def transfer_training(self, images: int) -> TransferTraining:
        """Return the training settings for this number of images."""
        size = min(self.batch_size, images)
        return TransferTraining(
            epochs=self.epochs,
            batch_size=size,
            micro_batch_size=size,
            learning_rates=(self.learning_rate,),
            final_rate_share=self.min_learning_rate / self.learning_rate,
            weight_decay=self.weight_decay,
            layer_decay=self.layer_decay,
            clip_norm=self.clip_norm,
            ema_decay=self.ema_decay,
            train_tower=self.train_tower,
            seed=self.seed,
        )


class FineTunedClassifier(nn.Module):
    """A tower and a head, which map normalised images to logits."""

    def __init__(self, tower: ImageTower, head: nn.Linear) -> None:
        super().__init__()
        self.tower, self.head = tower, head

    def forward(self, images: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch classes"]:
        logits: Tensor = self.head(self.tower(images))
        return logits


def init_head(width: int, classes: int, seed: int) -> nn.Linear:
    """Return a randomly initialised head, from a generator of its own."""
    head = nn.Linear(width, classes, device="meta").to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed_for(seed, HEAD))
    nn.init.trunc_normal_(head.weight, std=INITIAL_SPREAD, generator=generator)
    nn.init.zeros_(head.bias)
    return head


def fine_tune(
    tower: ImageTower, head: nn.Linear, part: TaskSplit, recipe: FineTuning, device: torch.device
) -> FineTunedClassifier:
    """Return trained copies of a tower and a head; the originals are unchanged.

    The loss is cross-entropy, in nats. Equal arguments give equal weights on a CPU, bit for bit. Raises ValueError for
    layer decay on a tower whose blocks are not known, FloatingPointError for a loss or a gradient that is not finite.
    """
    labels = torch.from_numpy(part.labels)

    def loss_of(logits: Tensor, rows: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels[rows].to(device), label_smoothing=recipe.label_smoothing)

    return train_classifier(tower, head, part.images, loss_of, recipe, device)


def train_classifier(
    tower: ImageTower, head: nn.Linear, images: ImageSource, loss_of: RowLoss, recipe: FineTuning, device: torch.device
) -> FineTunedClassifier:
    """Return trained copies of a tower and a head; `loss_of` takes logits, and rows of the images on the CPU."""
    model, how = (
        FineTunedClassifier(copy.deepcopy(tower), copy.deepcopy(head)).to(device),
        recipe.transfer_training(len(images)),
    )
    steps = how.steps(len(images))
    batches = TaskBatches(images, tower.image_size, how.batch_size, recipe.crop_scale, recipe.flip, recipe.seed)

    def loss_of_batch(batch: tuple[Tensor, Tensor]) -> Tensor:
        images, rows = batch
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return loss_of(model(normalise(images.to(device) / WHITE)), rows)

    whole = ([batch] for batch in batches.first(steps))
    return train_on_task(model, model.tower, whole, steps, loss_of_batch, how, recipe.learning_rate)


@torch.inference_mode()
def compute_logits(
    model: FineTunedClassifier, images: ImageSource, device: torch.device
) -> Float[Tensor, "images classes"]:
    """Return the logits of images, preprocessed for scoring, on the CPU."""
    shown_images = eval_batches(images, model.tower.image_size)
    return torch.cat([model(normalise(batch.to(device) / WHITE)).cpu() for batch in shown_images])
