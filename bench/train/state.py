"""The state of a training that its next steps depend on, as tensors by name."""

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from bench.train.build import TrainState
from bench.train.distributed import full_tensor, is_sharded

if TYPE_CHECKING:
    from models.image_tower import ImageTower

State = dict[str, Tensor]


def collect_state(run: TrainState) -> State:
    """Return trained weights, buffers, the optimizer's moments and steps, the moving average, and generator states.

    They are the run's own tensors, which the next step changes.
    """
    frozen = {name for name, value in run.model.named_parameters() if not value.requires_grad}
    models = {"model": run.model} | ({} if run.step.ema is None else {"average": run.step.ema})
    state = {
        f"{which}.{name}": value
        for which, model in models.items()
        for name, value in model.state_dict().items()
        if name not in frozen
    }
    for name, parameter in run.model.named_parameters():
        moments = run.step.optimizer.state.get(parameter, {})
        state |= {f"optimizer.{name}.{moment}": value for moment, value in moments.items()}
    state["generator.cpu"] = torch.get_rng_state()
    if run.stream.device.type == "cuda":
        state["generator.cuda"] = torch.cuda.get_rng_state(run.stream.device)
    return state


def load_state(run: TrainState, state: State) -> None:
    """Restore the state of a run of the same experiment. The optimizer may keep the given tensors.

    Whole tensors are sharded if this process holds shards.
    """
    kept = run.model.state_dict()
    own = {name: _shard_like(value, kept[name]) for name, value in strip_prefix("model.", state).items()}
    run.model.load_state_dict(kept | own)
    if run.step.ema is not None:
        run.step.ema.load_state_dict(run.step.ema.state_dict() | strip_prefix("average.", state))
    parameters = dict(run.model.named_parameters())
    places = {parameter: place for place, parameter in enumerate(_optimizer_parameters(run))}
    moments: dict[int, State] = {}
    for name, value in strip_prefix("optimizer.", state).items():
        of, _, moment = name.rpartition(".")
        parameter = parameters[of]
        whole = _shard_like(value, parameter) if value.shape == parameter.shape else value
        moments.setdefault(places[parameter], {})[moment] = whole
    groups = run.step.optimizer.state_dict()["param_groups"]
    run.step.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    torch.set_rng_state(state["generator.cpu"])
    if run.stream.device.type == "cuda" and "generator.cuda" in state:  # not where a CPU wrote it
        torch.cuda.set_rng_state(state["generator.cuda"], run.stream.device)


def _optimizer_parameters(run: TrainState) -> list[nn.Parameter]:
    """Return the parameters in the optimizer's order, which depends on which of them are shards."""
    return [parameter for group in run.step.optimizer.param_groups for parameter in group["params"]]


def _shard_like(value: Tensor, kept: Tensor) -> Tensor:
    """Shard a whole tensor if this process holds a shard of it."""
    if not is_sharded(kept) or is_sharded(value):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    shard = cast("DTensor", kept)
    return distribute_tensor(value.to(shard.device), shard.device_mesh, shard.placements)


def weights_to_score(run: TrainState) -> State:
    """Return the tower's scored weights unsharded: their moving average if there is one. All ranks must call it."""
    tower = run.tower if run.step.ema is None else cast("ImageTower", run.step.ema.tower)
    return {name: full_tensor(value) for name, value in tower.state_dict().items()}


def head_to_score(run: TrainState) -> State:
    """Return the scored weights outside the tower, without a teacher's. All ranks must call it."""
    frozen = {name for name, value in run.model.named_parameters() if not value.requires_grad}
    model = run.model if run.step.ema is None else run.step.ema
    own = {name: value for name, value in model.state_dict().items() if not name.startswith("tower.")}
    return {name: full_tensor(value) for name, value in own.items() if name not in frozen}


def clone_state(state: State) -> State:
    """Return a copy on the same device."""
    return {name: value.clone() for name, value in state.items()}


def state_to_cpu(state: State) -> State:
    """Return an unsharded copy on the CPU. All ranks must call it."""
    return {name: full_tensor(value).detach().to("cpu", copy=True).contiguous() for name, value in state.items()}


def strip_prefix(prefix: str, state: State) -> State:
    """Return the entries whose names begin with a prefix, named without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
