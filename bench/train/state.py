"""The state of a training that its next steps depend on: tensors by name, and its progress in the schedule."""

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from bench.train.build import TrainState
from bench.train.distributed import full_tensor, is_sharded, world_rank
from models.checkpoint import select_and_strip_prefix

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class ScheduleSegment:
    """Consecutive steps: a part of the trunk, or a cool-down from it to a budget."""

    first_step: int  # steps taken before it, of trunk and cool-downs
    batches: range  # batch numbers
    images: int | None  # of the budget; None: the trunk

    @property
    def end_step(self) -> int:
        """Return the steps taken at its end."""
        return self.first_step + len(self.batches)


@dataclass(slots=True)
class TrainProgress:
    """The progress of a training: one loss for each step taken."""

    losses: list[float] = field(default_factory=list)  # in the order in which the steps were taken
    # State of the trunk during every cool-down but the last.
    trunk: State = field(default_factory=dict)
    seconds: float = 0.0  # spent before this process


def collect_state(run: TrainState) -> State:
    """Return trained weights, buffers, optimizer's moments and steps, moving average, gradient scaler and generators.

    They are the run's own tensors, which the next step changes.
    """
    step = run.step
    frozen = _frozen_names(run)
    state: State = {}
    for name, value in run.model.state_dict().items():
        if name not in frozen:
            state[f"model.{name}"] = value
    if step.ema is not None:
        for name, value in step.ema.state_dict().items():
            if name not in frozen:
                state[f"average.{name}"] = value
    for name, parameter in run.model.named_parameters():
        moments = step.optimizer.state.get(parameter, {})
        for moment, value in moments.items():
            state[f"optimizer.{name}.{moment}"] = value
    for name, number in step.scaler.state_dict().items():
        state[f"scaler.{name}"] = torch.tensor(number)
    state["generator.cpu"] = torch.get_rng_state()
    if run.stream.device.type == "cuda":
        state["generator.cuda"] = torch.cuda.get_rng_state(run.stream.device)
    return state


def load_state(run: TrainState, state: State) -> None:
    """Restore the state of a run of the same experiment, from whole tensors or from shards like the run's own.

    The given tensors are copied, to the run's device and one after the other.
    """
    step = run.step
    model_state = run.model.state_dict()
    for name, value in select_and_strip_prefix("model.", state).items():
        model_state[name] = shard_like(value, model_state[name])
    run.model.load_state_dict(model_state)
    if step.ema is not None:
        average = step.ema.state_dict()
        average.update(select_and_strip_prefix("average.", state))
        step.ema.load_state_dict(average)
    _load_moments(run, select_and_strip_prefix("optimizer.", state))
    scaler_state = select_and_strip_prefix("scaler.", state)
    if scaler_state:
        step.scaler.load_state_dict({name: value.item() for name, value in scaler_state.items()})
    torch.set_rng_state(state["generator.cpu"])
    device = run.stream.device
    # A training on a CPU stores no generator of a GPU.
    if device.type == "cuda" and "generator.cuda" in state:
        torch.cuda.set_rng_state(state["generator.cuda"], device)


def _load_moments(run: TrainState, moments: State) -> None:
    """Load the optimizer's moments and steps from tensors named PARAMETER.MOMENT."""
    optimizer = run.step.optimizer
    optimizer.state.clear()
    parameters = dict(run.model.named_parameters())
    for name, value in moments.items():
        parameter_name, _, moment = name.rpartition(".")
        parameter = parameters[parameter_name]
        if moment != "step":
            loaded = shard_like(value, parameter).to(parameter.device, copy=True)
        elif optimizer.defaults["fused"]:  # a fused kernel counts steps on the device
            loaded = value.to(parameter.device, copy=True)
        else:
            loaded = value.to("cpu", copy=True)
        optimizer.state[parameter][moment] = loaded


def shard_like(value: Tensor, target: Tensor) -> Tensor:
    """Shard a whole tensor if this process holds a shard of it."""
    if not is_sharded(target) or is_sharded(value):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    shard = cast("DTensor", target)
    return distribute_tensor(value.to(shard.device), shard.device_mesh, shard.placements)


def states_to_score(run: TrainState) -> tuple[State, State]:
    """Return the scored weights of the tower, and those outside it, without a teacher's and RangeAugment's.

    They are the run's own tensors: the moving average if there is one.
    """
    model = run.model if run.step.ema is None else run.step.ema
    frozen = _frozen_names(run)
    tower: State = {}
    head: State = {}
    for name, value in model.state_dict().items():
        if name.startswith("tower."):
            tower[name.removeprefix("tower.")] = value
        elif not name.startswith("augmentor.") and name not in frozen:
            head[name] = value
    return tower, head


def _frozen_names(run: TrainState) -> set[str]:
    return {name for name, value in run.model.named_parameters() if not value.requires_grad}


def copy_state(state: State) -> State:
    """Return a copy of a state on the CPU; shards are copied on their device."""
    copied: State = {}
    for name, value in state.items():
        copied[name] = value.clone() if is_sharded(value) else value.to("cpu", copy=True)
    return copied


def gather_to_host(state: State) -> State:
    """Return a copy of a state, unsharded and on the CPU, on rank 0, and an empty one on the others.

    All ranks must call it. They gather one tensor at a time, so that no device holds a second copy of all.
    """
    host_state: State = {}
    for name, value in state.items():
        tensor = full_tensor(value).detach()
        if world_rank() == 0:
            host_state[name] = tensor.to("cpu", copy=True)
    return host_state
