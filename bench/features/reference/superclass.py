"""The authors' SuperClass, built from a checkout of x-cls/superclass with our weights.

Source: x-cls/superclass 90b761f, `cls_model.py` and `loss.py` of `opencls/open_clip`, the step of
`opencls/training/train.py` and the optimizer of `opencls/training/main.py`.
"""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from bench.data.stream import Batch
from bench.experiment.config import change
from bench.features.reference.checkouts import add_package, make_reference_step, match_weights
from bench.features.reference.timing import DEFAULT_KERNELS
from bench.train.build import TrainState
from bench.train.step import Step, make_optimizer
from models import open_clip_config

PACKAGE = "superclass_open_clip"
OUR_NAMES = {
    "visual.": "tower.trunk.",
    "text_decoder.ln_mlp.": "head.0.",
    "text_decoder.text_projection.": "head.1.",
    "cap_fq": "counts.images_with_token",
    "num_samples": "counts.images_seen",
}


def build_superclass(state: TrainState, checkout: Path) -> Step[Any]:
    """Return the step of SuperClass's model with the weights of ours; targets are captions padded to the context.

    The package open_clip of the checkout is imported under another name. Its mean of token counts over all processes
    is left out, which is the identity for one process.
    """
    add_package(checkout / "opencls" / "open_clip", PACKAGE)
    modules: Any = import_module(f"{PACKAGE}.cls_model")
    losses: Any = import_module(f"{PACKAGE}.loss")
    experiment = state.stream.experiment
    config = open_clip_config(experiment.image.tower)
    assert config is not None
    vision = config["vision_cfg"] | {"image_size": experiment.image.image_size, "pool_type": "avg"}
    text = {"vocab_size": state.model.counts.images_with_token.numel(), "layers": 0}  # type: ignore[union-attr, operator]
    model: nn.Module = modules.Classifier(0, text, vision)
    model.load_state_dict(match_weights(state.model.state_dict(), model.state_dict(), our_name))
    model.to(state.stream.device).train()
    losses.dist = SimpleNamespace(all_reduce=lambda *_, **__: None, ReduceOp=dist.ReduceOp)
    loss_function = losses.ClsLoss(world_size=1)

    def compute_loss(batch: Batch[Any]) -> Tensor:
        loss: Tensor = loss_function(**model(batch.images, batch.target.groups[0]))
        return loss

    settings = change(
        experiment, optimizer_kernel=DEFAULT_KERNELS[state.stream.device.type]
    ).optimizer
    return make_reference_step(experiment, model, make_optimizer(settings, model), compute_loss)


def our_name(name: str) -> str:
    """Return our name of a weight of SuperClass's model."""
    for theirs, ours in OUR_NAMES.items():
        if name.startswith(theirs):
            return name.replace(theirs, ours, 1)
    return name
