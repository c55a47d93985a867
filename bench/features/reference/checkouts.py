"""Steps of other people's code from a checkout. Importing it executes that code: only child processes import it."""

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from bench.data.stream import Batch
from bench.experiment.auto_fields import resolve_precision_and_compile
from bench.experiment.config import Experiment
from bench.train.step import Step


class _HollowFinder(MetaPathFinder, Loader):
    def __init__(self, packages: Iterable[str]) -> None:
        self.packages = frozenset(packages)

    def find_spec(
        self, name: str, _path: object = None, _target: object = None
    ) -> ModuleSpec | None:
        return (
            ModuleSpec(name, self, is_package=True)
            if name.partition(".")[0] in self.packages
            else None
        )

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _HollowModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _HollowModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def stub_missing_packages(packages: Iterable[str]) -> None:
    """Let packages that are not installed import as empty modules, in which every name is an empty class."""
    sys.meta_path.append(_HollowFinder(packages))  # after the finders of installed packages


def add_package(folder: Path, name: str) -> None:
    """Let modules of a package be imported from its folder under another name; its `__init__.py` is not executed."""
    sys.modules[name] = package = ModuleType(name)
    package.__path__ = [str(folder)]


def match_weights(
    ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], our_name: Callable[[str], str]
) -> dict[str, Tensor]:
    """Return our weights under the names and in the shapes of another model; `our_name` maps its names to ours.

    Raises ValueError if a weight of either side has no counterpart of its size in the other.
    """
    matched = {}
    unmatched = set(ours)
    for name, weight in theirs.items():
        our_weight = ours.get(our_name(name))
        if our_weight is None or our_weight.numel() != weight.numel():
            unmatched.add(our_name(name))
            continue
        matched[name] = our_weight.reshape(weight.shape)
        unmatched.discard(our_name(name))
    if unmatched:
        raise ValueError(
            f"weights without a counterpart of their size: {', '.join(sorted(unmatched))}"
        )
    return matched


def make_reference_step(
    experiment: Experiment,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    compute_loss: Callable[[Batch[Any]], Tensor],
) -> Step[Any]:
    """Return the step of a model that is not ours, as its training loop takes it.

    With bf16, model and loss run under autocast. The gradient is clipped if the experiment says so. Losses and
    gradients are not checked for being finite. Raises ValueError for fp16.
    """
    device = next(model.parameters()).device
    precision, _ = resolve_precision_and_compile(experiment.runtime, device)
    if precision == "fp16":
        raise ValueError("precision: code of others runs in fp32 or bf16 here, got fp16")

    def forward(batch: Batch[Any]) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            return compute_loss(batch)

    def update(loss: Tensor, learning_rate: float) -> Tensor:
        if experiment.optimizer.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), experiment.optimizer.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    scaler = torch.amp.GradScaler(device.type, enabled=False)
    overflows = torch.zeros((), dtype=torch.int64)
    return Step(forward, Tensor.backward, update, optimizer, 1, None, scaler, overflows)
