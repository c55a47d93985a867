"""All that a training's next steps depend on, as tensors by name."""

from typing import cast

import torch
from torch import Tensor

from bench.run import Assembled
from models.image_tower import ImageTower

State = dict[str, Tensor]


def state_of(run: Assembled) -> State:
    """Return weights, buffers, the optimizer's moments and steps, the running average, the generators' states.

    They are the run's own tensors, which the next step changes.
    """
    state = {f"model.{name}": value for name, value in run.model.state_dict().items()}
    if run.step.average is not None:
        state |= {f"average.{name}": value for name, value in run.step.average.state_dict().items()}
    for index, moments in run.step.optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    state["generator.cpu"] = torch.get_rng_state()
    if run.stream.device.type == "cuda":
        state["generator.cuda"] = torch.cuda.get_rng_state(run.stream.device)
    return state


def load_state(run: Assembled, state: State) -> None:
    """Put a run where `state_of` found one of the same experiment. The optimizer may keep the tensors themselves."""
    run.model.load_state_dict(under("model.", state))
    if run.step.average is not None:
        run.step.average.load_state_dict(under("average.", state))
    moments: dict[int, State] = {}
    for name, value in under("optimizer.", state).items():
        index, _, moment = name.partition(".")
        moments.setdefault(int(index), {})[moment] = value
    groups = run.step.optimizer.state_dict()["param_groups"]
    run.step.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    torch.set_rng_state(state["generator.cpu"])
    if run.stream.device.type == "cuda" and "generator.cuda" in state:  # not where a CPU wrote it
        torch.cuda.set_rng_state(state["generator.cuda"], run.stream.device)


def scored_tower(run: Assembled) -> ImageTower:
    """Return the tower with the weights that count: their running average where there is one."""
    return run.tower if run.step.average is None else cast("ImageTower", run.step.average.tower)


def copied(state: State) -> State:
    """Return a copy on the same device, which no step changes."""
    return {name: value.clone() for name, value in state.items()}


def on_cpu(state: State) -> State:
    """Return a copy as a file holds it."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}


def under(prefix: str, state: State) -> State:
    """Return what is named under a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
