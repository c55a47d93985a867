"""Train a tower and a new head on a task: the published recipe."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from bench.data.normalisation import WHITE, normalised
from bench.seeds import HEAD, STEP, seed_for
from bench.step import averaging, decayed_apart, gradient_norm
from bench.train import cosine
from bench.transfer.batches import Batches
from bench.transfer.pictures import Pictures, shown
from bench.transfer.tasks import Part
from bench.transfer.waiting import waited_for
from models.depth import parameters_by_depth
from models.image_tower import ImageTower
from models.patch_drop import PatchDrop

BETAS, EPS = (0.9, 0.999), 1e-8
WARMUP_SHARE = 0.02  # of the steps: 500 of 25,000 on ImageNet-1k
INITIAL_SPREAD = 0.02  # of a new head's weights
CHECK_EVERY = 50  # steps between two looks at the losses, each of which waits for the device

LossOf = Callable[[Float[Tensor, "batch classes"], Int[Tensor, " batch"]], Float[Tensor, ""]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuning:
    """How a tower is trained on a task; the defaults are CatLIP's on ImageNet-1k.

    AdamW, a linear warm-up, then a cosine; random resized crops and flips. RangeAugment and the sampler of several
    image sizes are left out; there is no RandAugment, mixup or cutmix in the recipe. Source: Mehta et al. 2024,
    arXiv:2404.15653, table 6; apple/corenet, `projects/catlip/image_classification/imagenet/vit_base.yaml` (the batch
    is the paper's).
    """

    epochs: int = 10
    learning_rate: float = 3e-5
    last_learning_rate: float = 3e-6
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    clip_norm: float | None = 1.0  # of the whole gradient
    ema_decay: float | None = 0.9995  # of a running average of the weights
    layer_decay: float = 1.0  # of the rate, from the head to the last block and from each block to the one before it
    batch_size: int = 128
    crop_scale: tuple[float, float] = (0.08, 1.0)  # share of the picture's area that a random crop keeps
    flip: bool = True
    seed: int = 0
    train_tower: bool = True  # or the head alone

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"epochs and batch_size must be 1 or more, got {self.epochs} and {self.batch_size}")
        if not 0 <= self.last_learning_rate <= self.learning_rate < math.inf:
            raise ValueError(f"learning rates must fall to 0 or more: {self.learning_rate} to {self.last_learning_rate}")
        if not 0 <= self.layer_decay <= 1:
            raise ValueError(f"layer_decay must be from 0 to 1, got {self.layer_decay}")

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step of so many."""
        warmup = max(1, round(steps * WARMUP_SHARE))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        return cosine(self.learning_rate, self.last_learning_rate, (step - warmup) / max(1, steps - warmup))

    def average_over(self, steps: int) -> float | None:
        """Return the decay of the running average, None for a run of fewer steps than its horizon, 1 / (1 - decay).

        Such an average would still hold more than a third of the weights that the run began with, the new head's
        random ones among them.
        """
        return None if self.ema_decay is None or steps * (1 - self.ema_decay) < 1 else self.ema_decay


class Classifier(nn.Module):
    """A tower and a head: normalised images to logits."""

    def __init__(self, tower: ImageTower, head: nn.Linear) -> None:
        super().__init__()
        self.tower, self.head = tower, head

    def forward(self, images: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch classes"]:
        """Return the logits of the classes."""
        logits: Tensor = self.head(self.tower(images))
        return logits


def new_head(width: int, classes: int, seed: int) -> nn.Linear:
    """Return a head that knows nothing, from a generator of its own."""
    head = nn.Linear(width, classes, device="meta").to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed_for(seed, HEAD))
    nn.init.trunc_normal_(head.weight, std=INITIAL_SPREAD, generator=generator)
    nn.init.zeros_(head.bias)
    return head


def fine_tune(tower: ImageTower, head: nn.Linear, part: Part, recipe: FineTuning, device: torch.device) -> Classifier:
    """Return copies of a tower and a head, trained on a part; those given are left as they were.

    Cross-entropy, in nats. Equal arguments give equal weights on a CPU, bit for bit. Raises ValueError for layer decay
    on a tower whose blocks are not known, FloatingPointError for a loss or a gradient that is not finite.
    """
    labels = torch.from_numpy(part.labels)

    def loss_of(logits: Tensor, rows: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels[rows].to(device), label_smoothing=recipe.label_smoothing)

    return trained(tower, head, part.pictures, loss_of, recipe, device)


def trained(
    tower: ImageTower, head: nn.Linear, pictures: Pictures, loss_of: LossOf, recipe: FineTuning, device: torch.device
) -> Classifier:
    """Return copies of a tower and a head, trained on pictures; `loss_of` takes their logits and their rows, on the CPU."""
    model = Classifier(copy.deepcopy(tower), copy.deepcopy(head)).to(device)
    if not recipe.train_tower:
        model.tower.requires_grad_(requires_grad=False)
    size = min(recipe.batch_size, len(pictures))
    batches = Batches(pictures, tower.image_size, size, recipe.crop_scale, recipe.flip, recipe.seed)
    steps = math.ceil(recipe.epochs * len(pictures) / size)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        _groups(model, recipe), betas=BETAS, eps=EPS, weight_decay=recipe.weight_decay, fused=True
    )
    clip = gradient_norm(parameters, recipe.clip_norm)
    average, take_average = averaging(model, recipe.average_over(steps))
    _to_train(model, recipe)
    finite = torch.ones((), dtype=torch.bool, device=device)
    what = f"fine-tuning at rate {recipe.learning_rate:g}"
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed_for(recipe.seed, STEP))
        for step, (images, rows) in enumerate(waited_for(batches.first(steps), steps, what)):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = loss_of(model(normalised(images.to(device) / WHITE)), rows)
            loss.backward()  # type: ignore[no-untyped-call]
            finite &= loss.isfinite() & clip().isfinite()
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(step, steps) * group["share"]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            take_average()
            if (step + 1) % CHECK_EVERY == 0 or step + 1 == steps:
                _check(finite, recipe, step)
    return (model if average is None else average).eval()


@torch.inference_mode()
def logits_of(model: Classifier, pictures: Pictures, device: torch.device) -> Float[Tensor, "pictures classes"]:
    """Return the logits of whole pictures, on the CPU: scaled, the centre cut out, as the pictures are shown."""
    shown_pictures = shown(pictures, model.tower.image_size)
    return torch.cat([model(normalised(images.to(device) / WHITE)).cpu() for images in shown_pictures])


def _groups(model: Classifier, recipe: FineTuning) -> list[dict[str, Any]]:
    """Return groups for an optimizer, each with its share of the learning rate.

    Source of the shares: Clark et al. 2020, arXiv:2003.10555 (ELECTRA), section 3.1. The norm behind the last block is
    the last block's here, so that a decay of 0 trains the head alone.
    """
    layers = [list(model.head.parameters())]
    if recipe.train_tower:
        one = [list(model.tower.parameters())]
        layers += one if recipe.layer_decay == 1 else reversed(parameters_by_depth(model.tower))
    shares = [recipe.layer_decay**below for below in range(len(layers))]
    return [
        group | {"share": share, "lr": recipe.learning_rate * share}
        for layer, share in zip(layers, shares, strict=True)
        for group in decayed_apart(layer)
    ]


def _to_train(model: Classifier, recipe: FineTuning) -> None:
    """Let a frozen tower behave as when it is scored; pictures are seen whole, whatever pre-training dropped of them."""
    model.train().tower.train(recipe.train_tower)
    for module in model.modules():
        if isinstance(module, PatchDrop):
            module.eval()


def _check(finite: Tensor, recipe: FineTuning, step: int) -> None:
    if not finite:
        raise FloatingPointError(f"loss or gradient is not finite by step {step}, at rate {recipe.learning_rate:g}")
