"""The state of a training that its next steps depend on: tensors by name, and its progress in the schedule."""

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from bench.train.build import TrainState
from bench.train.distributed import full_tensor, is_sharded, world_rank
from models.checkpoint import strip_prefix

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

    @property
    def phase(self) -> str:
        return "trunk" if self.images is None else f"cool-down to {self.images:,} images"


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
    frozen = _frozen_names(run)
    state = {
        f"model.{name}": value
        for name, value in run.model.state_dict().items()
        if name not in frozen
    }
    if run.step.ema is not None:
        averages = run.step.ema.state_dict()
        state |= {
            f"average.{name}": value for name, value in averages.items() if name not in frozen
        }
    for name, parameter in run.model.named_parameters():
        moments = run.step.optimizer.state.get(parameter, {})
        state |= {f"optimizer.{name}.{moment}": value for moment, value in moments.items()}
    state |= {
        f"scaler.{name}": torch.tensor(value)
        for name, value in run.step.scaler.state_dict().items()
    }
    state["generator.cpu"] = torch.get_rng_state()
    if run.stream.device.type == "cuda":
        state["generator.cuda"] = torch.cuda.get_rng_state(run.stream.device)
    return state


def load_state(run: TrainState, state: State) -> None:
    """Restore the state of a run of the same experiment, from whole tensors or from shards like the run's own.

    The given tensors are copied, to the run's device and one after the other.
    """
    model_state = run.model.state_dict()
    for name, value in strip_prefix("model.", state).items():
        model_state[name] = shard_like(value, model_state[name])
    run.model.load_state_dict(model_state)
    if run.step.ema is not None:
        run.step.ema.load_state_dict(run.step.ema.state_dict() | strip_prefix("average.", state))
    _load_moments(run, strip_prefix("optimizer.", state))
    scaler = {name: value.item() for name, value in strip_prefix("scaler.", state).items()}
    if scaler:
        run.step.scaler.load_state_dict(scaler)
    torch.set_rng_state(state["generator.cpu"])
    if run.stream.device.type == "cuda" and "generator.cuda" in state:  # not where a CPU wrote it
        torch.cuda.set_rng_state(state["generator.cuda"], run.stream.device)


def _load_moments(run: TrainState, moments: State) -> None:
    """Load the optimizer's moments and steps from tensors named PARAMETER.MOMENT."""
    optimizer = run.step.optimizer
    parameters = dict(run.model.named_parameters())
    # The optimizer numbers parameters in the order of its groups, which depends on which parameters are shards.
    in_order = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    indices = {parameter: index for index, parameter in enumerate(in_order)}
    moments_by_index: dict[int, State] = {}
    for name, value in moments.items():
        parameter_name, _, moment = name.rpartition(".")
        parameter = parameters[parameter_name]
        is_like_parameter = value.shape == parameter.shape  # or it is the number of steps
        loaded = shard_like(value, parameter) if is_like_parameter else value
        if loaded is value:  # the optimizer would keep it
            loaded = value.to(parameter.device if is_like_parameter else value.device, copy=True)
        moments_by_index.setdefault(indices[parameter], {})[moment] = loaded
    optimizer.load_state_dict(
        {"state": moments_by_index, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def shard_like(value: Tensor, target: Tensor) -> Tensor:
    """Shard a whole tensor if this process holds a shard of it."""
    if not is_sharded(target) or is_sharded(value):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    shard = cast("DTensor", target)
    return distribute_tensor(value.to(shard.device), shard.device_mesh, shard.placements)


def tower_state_to_score(run: TrainState) -> State:
    """Return the tower's scored weights, the run's own tensors: their moving average if there is one."""
    tower: nn.Module = run.tower if run.step.ema is None else run.step.ema.get_submodule("tower")
    return tower.state_dict()


def head_state_to_score(run: TrainState) -> State:
    """Return the scored weights outside the tower, the run's own tensors, without a teacher's or RangeAugment's."""
    frozen = _frozen_names(run)
    model = run.model if run.step.ema is None else run.step.ema
    head = {
        name: value
        for name, value in model.state_dict().items()
        if not name.startswith(("tower.", "augmentor."))
    }
    return {name: value for name, value in head.items() if name not in frozen}


def _frozen_names(run: TrainState) -> set[str]:
    return {name for name, value in run.model.named_parameters() if not value.requires_grad}


def copy_state(state: State) -> State:
    """Return a copy on the CPU, or of a shard on its device."""
    return {
        name: value.clone() if is_sharded(value) else value.to("cpu", copy=True)
        for name, value in state.items()
    }


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
