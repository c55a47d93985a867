"""The authors' SuperClass, built from a checkout of x-cls/superclass with our weights.

Importing it executes that code: only child processes import it. Source: x-cls/superclass 90b761f, `cls_model.py` and
`loss.py` of `opencls/open_clip`, the step of `opencls/training/train.py` and the optimizer of
`opencls/training/main.py`.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from bench.data.stream import Batch
from bench.experiment.config import change
from bench.features.reference.timing import DEFAULT_KERNELS
from bench.interfaces.optimizer import weight_decay_groups
from bench.train.build import TrainRun
from bench.train.step import make_optimizer
from models import StateDict, find_open_clip_config

PACKAGE = "superclass_open_clip"
OUR_PREFIXES = {
    "visual.": "tower.trunk.",
    "text_decoder.ln_mlp.": "head.0.",
    "text_decoder.text_projection.": "head.1.",
    "cap_fq": "counts.images_with_token",
    "num_samples": "counts.images_seen",
}


def build_superclass_step(run: TrainRun, checkout: Path) -> Callable[[Batch[Any], float], Tensor]:
    """Return a function that trains SuperClass's model, from our weights, by one step: (batch, learning rate) -> loss.

    Targets are captions padded to the context. The package open_clip of the checkout is imported under another name.
    Its mean of token counts over all processes is left out, which is the identity for one process.
    """
    add_importable_package_without_init(checkout / "opencls" / "open_clip", PACKAGE)
    modules: Any = import_module(f"{PACKAGE}.cls_model")
    losses: Any = import_module(f"{PACKAGE}.loss")
    experiment = run.stream.experiment
    device = run.stream.device
    image = experiment.image
    config = find_open_clip_config(image.tower)
    assert config is not None
    vision = config["vision_cfg"] | {"image_size": image.image_size, "pool_type": "avg"}
    our_weights = run.model.state_dict()
    num_tokens = our_weights[OUR_PREFIXES["cap_fq"]].numel()
    model: nn.Module = modules.Classifier(0, {"vocab_size": num_tokens, "layers": 0}, vision)
    model.load_state_dict(to_superclass_weights(our_weights, model.state_dict()))
    model.to(device).train()
    losses.dist = SimpleNamespace(all_reduce=lambda *_, **__: None, ReduceOp=dist.ReduceOp)
    loss_function = losses.ClsLoss(world_size=1)
    settings = change(experiment, optimizer_kernel=DEFAULT_KERNELS[device.type]).optimizer
    optimizer = make_optimizer(settings, model, weight_decay_groups(model.parameters()))

    def step(batch: Batch[Any], learning_rate: float) -> Tensor:
        """Update the model once by the authors' loss."""
        outputs = model(batch.images, batch.target.groups[0])
        loss: Tensor = loss_function(**outputs)
        loss.backward()  # type: ignore[no-untyped-call]
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def add_importable_package_without_init(folder: Path, name: str) -> None:
    """Make the modules in a package's folder importable as NAME.MODULE; its `__init__.py` is not executed."""
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package


def to_superclass_weights(ours: StateDict, theirs: StateDict) -> dict[str, Tensor]:
    """Return our weights under the names and in the shapes of SuperClass's weights.

    Raises ValueError if the numbers of weights differ, KeyError or RuntimeError for a weight without a counterpart.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"SuperClass's model has {len(theirs)} weights, ours {len(ours)}")
    renamed = {}
    for name, weight in theirs.items():
        our_name = name
        for their_prefix, our_prefix in OUR_PREFIXES.items():
            if name.startswith(their_prefix):
                our_name = our_prefix + name.removeprefix(their_prefix)
        renamed[name] = ours[our_name].reshape(weight.shape)
    return renamed
