"""Muon is its formula, groups have the parameters that the docs name, and a loaded state goes on to the last bit."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm.optim
import torch
from torch import Tensor, nn

from bench.experiment.config import change
from bench.interfaces.method import METHODS, Method, require_method_accepts
from bench.interfaces.optimizer import OPTIMIZERS, OptimizerBuilder, weight_decay_groups
from bench.interfaces.schedule import SCHEDULES
from bench.methods.catlip import CatLip
from bench.train.build import TrainRun
from bench.train.state import _load_moments, collect_state, copy_state_to_cpu, load_state
from tests.small import two_blocks
from tests.tensors import differing
from tests.train.runs import assembled

RATE = 1e-2
SETTINGS = two_blocks("clip").optimizer
EXTENSIONS = Path(__file__).parents[2] / "docs" / "extensions"
MUON_MOMENTUM, MUON_EPS = 0.95, 1e-7  # torch's defaults


def orthogonalised(matrix: Tensor) -> Tensor:
    """Newton-Schulz as in the post by Jordan et al., without its transposition of tall matrices."""
    result = matrix / max(float(matrix.norm()), MUON_EPS)
    for _ in range(5):
        gram = result @ result.T
        result = 3.4445 * result + (-4.7750 * gram + 2.0315 * gram @ gram) @ result
    return result


def muon_formula(weight: Tensor, gradients: list[Tensor], decay: float) -> Tensor:
    """The weight after updates of Muon with Nesterov's momentum and decoupled weight decay, in float64."""
    momentum = torch.zeros_like(weight)
    for gradient in gradients:
        momentum = MUON_MOMENTUM * momentum + (1 - MUON_MOMENTUM) * gradient
        ahead = MUON_MOMENTUM * momentum + (1 - MUON_MOMENTUM) * gradient
        scale = 0.2 * max(weight.shape) ** 0.5
        weight = weight - RATE * decay * weight - RATE * scale * orthogonalised(ahead)
    return weight


def adamw_formula(weight: Tensor, gradients: list[Tensor], decay: float) -> Tensor:
    """The weight after updates of AdamW, in float64."""
    first, second = SETTINGS.betas
    mean = square = torch.zeros_like(weight)
    for step, gradient in enumerate(gradients, 1):
        mean = first * mean + (1 - first) * gradient
        square = second * square + (1 - second) * gradient**2
        root = (square / (1 - second**step)).sqrt() + SETTINGS.eps
        weight = weight - RATE * decay * weight - RATE * mean / (1 - first**step) / root
    return weight


def test_muon_equals_its_formula_in_float64_and_the_rest_is_adamw(results: Path) -> None:
    """Muon computes in bfloat16: its updates agree to 3 % of their norm, those of AdamW to rounding."""
    run = assembled(results, "clip", optimizer="muon", clip_norm=None)
    before = {name: value.detach().double() for name, value in run.model.named_parameters()}
    gradients: dict[str, list[Tensor]] = {name: [] for name in before}
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for name, value in run.model.named_parameters():
            value.grad = torch.randn(value.shape, generator=generator)
            gradients[name].append(value.grad.double())
        run.step.update(torch.zeros(()), RATE)
    kinds = set()
    for name, value in run.model.named_parameters():
        by_muon = ".resblocks." in name and value.ndim == 2
        formula = muon_formula if by_muon else adamw_formula
        decay = SETTINGS.weight_decay if value.ndim >= 2 else 0.0
        expected = formula(before[name], gradients[name], decay)
        difference = (value.double() - expected).norm() / (expected - before[name]).norm()
        assert difference < (0.03 if by_muon else 1e-5), name
        if by_muon:
            kinds.add((value.shape[0] > value.shape[1], name.startswith("tower.")))
    assert len(kinds) == 4, "tall and wide matrices of both towers"


@pytest.mark.parametrize("tower", ["two-blocks", "vit_tiny_patch16_224"])
def test_muon_has_the_matrices_of_the_blocks_of_trained_towers(tower: str, results: Path) -> None:
    """Embeddings, heads, convolutions, vectors and scalars are AdamW's; a frozen teacher is in no group."""
    run = assembled(results, "distill", optimizer="muon", tower=tower, weight_decay=0.2)
    names = {value: name for name, value in run.model.named_parameters() if value.requires_grad}
    in_groups: dict[str, dict[str, Any]] = {}
    for group in run.step.optimizer.param_groups:
        in_groups |= {names.pop(value): group for value in group["params"]}
    assert not names
    parameters = dict(run.model.named_parameters())
    for name, group in in_groups.items():
        is_in_block = any(part in name for part in (".resblocks.", ".blocks."))
        assert ("momentum" in group) == (is_in_block and parameters[name].ndim == 2), name
        assert group["weight_decay"] == (0.2 if parameters[name].ndim >= 2 else 0.0), name
    assert any("momentum" in group for group in in_groups.values())


def test_muon_refuses_a_tower_without_such_matrices(results: Path) -> None:
    """A frozen teacher's matrices do not count."""
    with pytest.raises(ValueError, match=r"^optimizer=muon needs a tower with matrices in its bl"):
        assembled(results, "distill", optimizer="muon", tower="small-resnet")


@pytest.mark.parametrize(
    ("field", "names"), [("optimizer", "adamw, muon"), ("schedule", "cosine, wsd")]
)
def test_unknown_names_are_refused_with_those_that_exist(field: str, names: str) -> None:
    with pytest.raises(ValueError, match=rf"^no {field} named 'lion'.* \(there are {names}\)$"):
        require_method_accepts(two_blocks("clip", **{field: "lion"}))
    assert [*OPTIMIZERS] == ["adamw", "muon"]
    assert [*SCHEDULES] == ["wsd", "cosine"]


class HeadAlone(CatLip):
    """A method that gives the optimizer groups of its own."""

    name = "head-alone"

    def __init__(self, *, leaves_out: bool) -> None:
        self.leaves_out = leaves_out

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        head = {"params": [*model.head.parameters()], "lr_scale": 0.5, "weight_decay": 0.0}
        return [head] if self.leaves_out else [head, *weight_decay_groups(model.tower.parameters())]


def with_method(results: Path, method: Method, monkeypatch: pytest.MonkeyPatch) -> TrainRun:
    monkeypatch.setitem(METHODS._objects, "catlip", method)
    return assembled(results)


def test_groups_of_a_method_have_rates_and_weight_decay_of_their_own(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = with_method(results, HeadAlone(leaves_out=False), monkeypatch)
    run.step(run.stream.batch(0), RATE)
    rates = [(group["lr"], group["weight_decay"]) for group in run.step.optimizer.param_groups]
    assert rates == [(RATE / 2, 0.0), (RATE, 0.2), (RATE, 0.0)]
    with pytest.raises(ValueError, match=r"^no parameter group of the method has tower\.trunk\."):
        with_method(results, HeadAlone(leaves_out=True), monkeypatch)


class OfTimm(OptimizerBuilder):
    """An optimizer of timm, whose state is partly numbers."""

    name = "timm"

    def __init__(self, kind: Callable[..., torch.optim.Optimizer]) -> None:
        self.kind = kind

    def build(self, _model: nn.Module, groups: Any, settings: Any) -> torch.optim.Optimizer:
        return self.kind(groups, lr=settings.learning_rate)


@pytest.mark.parametrize(
    "kind", [timm.optim.Lamb, timm.optim.Adan, timm.optim.AdamP, timm.optim.MADGRAD]
)
def test_state_with_numbers_and_steps_of_groups_goes_on_to_the_last_bit(
    kind: Callable[..., torch.optim.Optimizer], results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPTIMIZERS._objects, "timm", OfTimm(kind))
    whole, resumed = (assembled(results, optimizer="timm") for _ in range(2))
    for k in range(2):
        whole.step(whole.stream.batch(k), RATE)
    load_state(resumed, copy_state_to_cpu(collect_state(whole)))
    for k in range(2, 4):
        for run in (whole, resumed):
            run.step(run.stream.batch(k), RATE)
    assert not differing(collect_state(resumed), collect_state(whole))


def test_steps_are_counted_where_the_group_of_their_parameter_counts_them(results: Path) -> None:
    run = assembled(results)
    run.step(run.stream.batch(0), RATE)
    state = copy_state_to_cpu(collect_state(run))
    groups = run.step.optimizer.param_groups
    names = {value: name for name, value in run.model.named_parameters()}
    on_meta = dict(run.model.to("meta").named_parameters())  # other objects
    for group, setting in zip(groups, ("capturable", "foreach"), strict=True):
        group |= {"fused": False, setting: True}
        group["params"] = [on_meta[names[value]] for value in group["params"]]
    _load_moments(run, state)
    states = run.step.optimizer.state
    devices = [{states[value]["step"].device.type for value in group["params"]} for group in groups]
    assert devices == [{"meta"}, {"cpu"}]


def test_momentum_of_the_docs_is_whole_after_a_skipped_first_update() -> None:
    builder = runpy.run_path(str(EXTENSIONS / "sgd.py"))["EXTENSION"].optimizers[0]
    values = [nn.Parameter(torch.ones(1000)) for _ in range(2)]
    skipping, other = (builder.build(None, [{"params": [value]}], SETTINGS) for value in values)
    skipping.found_inf = torch.ones(())
    for value in values:
        value.grad = torch.full_like(value, 0.5)
    skipping.step()
    del skipping.found_inf
    for _ in range(2):
        skipping.step()
        other.step()
    assert torch.equal(*values)


def test_state_that_is_no_tensor_and_no_number_is_refused(results: Path) -> None:
    run = assembled(results)
    run.step.optimizer.state[next(run.model.parameters())]["history"] = []
    with pytest.raises(ValueError, match=r"history is no tensor and no number$"):
        collect_state(run)


def test_experiment_of_an_unknown_optimizer_can_be_read() -> None:
    assert change(two_blocks("clip"), optimizer="lion").optimizer.optimizer == "lion"
