"""What the next steps of a training depend on: tensors by name, and the progress in its schedule."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from bench.train.build import TrainRun
from bench.train.distributed import gather_full_tensor, is_sharded, world_rank
from models.checkpoint import select_and_strip_prefix

NamedTensors = dict[str, Tensor]
# Name of the number of steps that an optimizer counts in its groups, as timm's Lamb does.
STEPS_OF_GROUPS = "param_groups.step"


@dataclass(frozen=True, slots=True)
class ScheduleSegment:
    """Consecutive steps: a part of the trunk, or a cool-down from it to a budget."""

    first_step: int  # index of its first step, counted over trunk and cool-downs
    batch_numbers: range
    budget_images: int | None  # of the budget at the end of a cool-down; None: a part of the trunk

    @property
    def is_before_cooldowns(self) -> bool:
        """Return whether it is a part of the trunk and no cool-down."""
        return self.budget_images is None

    @property
    def stop_step(self) -> int:
        """Return the index after its last step."""
        return self.first_step + len(self.batch_numbers)


@dataclass(slots=True)
class TrainProgress:
    """The progress of a training: one loss for each step taken."""

    losses: list[float] = field(default_factory=list)  # in the order in which the steps were taken
    # Of the trunk, kept during every cool-down but the last; otherwise empty.
    trunk_state: NamedTensors = field(default_factory=dict)
    seconds_before: float = 0.0  # of training in the processes that this one resumes


def collect_state(run: TrainRun) -> NamedTensors:
    """Return weights, buffers, moving average, optimizer's moments and steps, gradient scaler and generators.

    Weights that are not trained are left out. They are the run's own tensors, which the next step changes. ValueError
    for a state of the optimizer that is neither a tensor nor a number.
    """
    step = run.step
    frozen = _frozen_parameter_names(run)
    state: NamedTensors = {}
    for prefix, module in (("model", run.model), ("average", step.ema)):
        if module is not None:
            for name, value in module.state_dict().items():
                if name not in frozen:
                    state[f"{prefix}.{name}"] = value
    for name, parameter in run.model.named_parameters():
        for moment, value in step.optimizer.state.get(parameter, {}).items():
            state |= _named_moment(f"{name}.{moment}", value)
    steps = step.optimizer.param_groups[0].get("step")
    if steps is not None:
        state |= _named_moment(STEPS_OF_GROUPS, steps)
    for name, number in step.scaler.state_dict().items():
        state[f"scaler.{name}"] = torch.tensor(number)
    # Equal on all ranks, which are seeded equally, so that rank 0's is kept for all.
    state["generator.cpu"] = torch.get_rng_state()
    if run.stream.device.type == "cuda":
        state["generator.cuda"] = torch.cuda.get_rng_state(run.stream.device)
    return state


def load_state(run: TrainRun, state: NamedTensors) -> None:
    """Copy a state into a run of the same experiment; tensors are whole, or sharded as the run's own.

    Tensors are copied to the run's device one at a time.
    """
    step = run.step
    model_state = run.model.state_dict()
    for name, value in select_and_strip_prefix("model.", state).items():
        model_state[name] = shard_like(value, model_state[name])
    run.model.load_state_dict(model_state)
    if step.ema is not None:
        average = step.ema.state_dict()  # never sharded: ema_decay needs sharding=ddp
        average.update(select_and_strip_prefix("average.", state))
        step.ema.load_state_dict(average)
    _load_moments(run, state)
    scaler_state = select_and_strip_prefix("scaler.", state)
    if scaler_state:
        step.scaler.load_state_dict({name: value.item() for name, value in scaler_state.items()})
    torch.set_rng_state(state["generator.cpu"])
    device = run.stream.device
    # A training on a CPU stores no generator of a GPU.
    if device.type == "cuda" and "generator.cuda" in state:
        torch.cuda.set_rng_state(state["generator.cuda"], device)


def _named_moment(name: str, value: object) -> NamedTensors:
    """Return a state of the optimizer by its name in checkpoints; ValueError if it is no tensor and no number."""
    if isinstance(value, Tensor):
        return {f"optimizer.{name}": value}
    if not isinstance(value, int | float):
        raise ValueError(f"the optimizer's state {name} is no tensor and no number")  # noqa: TRY004 - a user's error
    dtype = torch.float64 if isinstance(value, float) else torch.int64
    return {f"number.{name}": torch.tensor(value, dtype=dtype)}


def _load_moments(run: TrainRun, state: NamedTensors) -> None:
    """Load the optimizer's state from tensors named optimizer.PARAMETER.MOMENT, and number.PARAMETER.MOMENT."""
    optimizer = run.step.optimizer
    optimizer.state.clear()
    parameters = dict(run.model.named_parameters())
    counting_on_device = set[Tensor]()
    for group in optimizer.param_groups:
        if group.get("fused") or group.get("capturable"):
            counting_on_device.update(group["params"])
    moments: dict[str, Any] = select_and_strip_prefix("optimizer.", state)
    for name, number in select_and_strip_prefix("number.", state).items():
        moments[name] = number.item()
    steps = moments.pop(STEPS_OF_GROUPS, None)
    if steps is not None:
        for group in optimizer.param_groups:
            group["step"] = deepcopy(steps)
    for name, value in moments.items():
        parameter_name, _, moment = name.rpartition(".")
        parameter = parameters[parameter_name]
        loaded = value
        if isinstance(value, Tensor):
            if value.shape == parameter.shape:
                loaded = shard_like(value, parameter)
            is_on_host = moment == "step" and parameter not in counting_on_device
            loaded = loaded.to("cpu" if is_on_host else parameter.device, copy=True)
        optimizer.state[parameter][moment] = loaded


def shard_like(value: Tensor, target: Tensor) -> Tensor:
    """Return `value` sharded as `target` is; unchanged if `target` is not sharded, or `value` is already."""
    if not is_sharded(target) or is_sharded(value):
        return value
    # Imported here because it takes half a second.
    from torch.distributed.tensor import DTensor, distribute_tensor

    shard = cast("DTensor", target)
    return distribute_tensor(value.to(shard.device), shard.device_mesh, shard.placements)


def split_tower_and_head_weights(run: TrainRun) -> tuple[NamedTensors, NamedTensors]:
    """Return all weights of the tower, and the trained weights of the head without RangeAugment's, for scoring.

    They are the run's own tensors, or the moving average of the weights if there is one.
    """
    model = run.model if run.step.ema is None else run.step.ema
    frozen = _frozen_parameter_names(run)
    tower: NamedTensors = {}
    head: NamedTensors = {}
    for name, value in model.state_dict().items():
        if name.startswith("tower."):
            tower[name.removeprefix("tower.")] = value
        elif not name.startswith("augmentor.") and name not in frozen:
            head[name] = value
    return tower, head


def _frozen_parameter_names(run: TrainRun) -> set[str]:
    """Return the names of parameters that are not trained."""
    return {name for name, value in run.model.named_parameters() if not value.requires_grad}


def copy_state_to_cpu(state: NamedTensors) -> NamedTensors:
    """Return a copy of a state on the CPU; shards are copied on their device."""
    copied: NamedTensors = {}
    for name, value in state.items():
        copied[name] = value.clone() if is_sharded(value) else value.to("cpu", copy=True)
    return copied


def gather_on_rank0(state: NamedTensors) -> NamedTensors:
    """Return on rank 0 a copy of a state, unsharded and on the CPU; on the other ranks return an empty state.

    All ranks must call it. They gather one tensor at a time, so that no device holds a second copy of all.
    """
    host_state: NamedTensors = {}
    for name, value in state.items():
        tensor = gather_full_tensor(value).detach()
        if world_rank() == 0:
            host_state[name] = tensor.to("cpu", copy=True)
    return host_state
