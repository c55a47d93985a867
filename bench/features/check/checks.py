"""The checks of a method, on the first batches of an experiment."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor, nn

from bench.experiment.config import Experiment, change
from bench.experiment.fields import TextPadding
from bench.features.check.two_processes import (
    LOSS_TOLERANCE,
    SEED,
    build_float64_run,
    build_run,
    check_two_processes_equal_one,
    load_float64_batch,
)
from bench.interfaces.method import get_method, require_method_accepts
from bench.measure.method_checks import OK, CheckError, run_check, run_static_checks
from bench.train.state import collect_state, copy_state_to_cpu, load_state

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 3  # of the training that is resumed after two of them


def run_method_checks(experiment: Experiment, results: Path) -> dict[str, str]:
    """Return the outcomes of an experiment's method by the checks' names; after a failed static one, of no others.

    `results` is the folder with the cache of the pack.
    """
    outcomes = run_static_checks(experiment)
    if {*outcomes.values()} != {OK}:
        return outcomes
    checks: dict[str, Callable[[Experiment, Path], None]] = {
        "padding of captions": check_loss_is_equal_for_all_paddings,
        "two processes": check_two_processes_equal_one,
        "resume": check_resumed_training_is_equal,
    }
    for name, check in checks.items():
        outcomes[name] = run_check(partial(check, experiment, results))
    return outcomes


def check_loss_is_equal_for_all_paddings(experiment: Experiment, results: Path) -> None:
    """Check in float64 that the loss is equal for every padding of captions that the method accepts."""
    method = get_method(experiment.method)
    if not method.runs_text_model_on_captions(experiment):
        return
    require_method_accepts(experiment)
    losses: dict[str, Tensor] = {}
    for padding in get_args(TextPadding):
        padded = change(experiment, text_padding=padding)
        try:
            require_method_accepts(padded)
        except ValueError:
            continue
        run = build_float64_run(padded, results)
        torch.manual_seed(SEED)
        losses[padding] = load_float64_batch(run).compute_loss(run.method.loss, run.model)
    first, *others = losses
    for padding in others:
        tolerance = LOSS_TOLERANCE[losses[first].dtype]
        if not torch.isclose(losses[padding], losses[first], rtol=tolerance, atol=0):
            raise CheckError(
                f"text_padding={padding} gives the loss {losses[padding]:.9g}, {first} {losses[first]:.9g}"
            )


def check_resumed_training_is_equal(experiment: Experiment, results: Path) -> None:
    """Check that a training which is resumed before its last step has the weights and buffers of one that was not."""
    whole = build_run(experiment, results)
    resumed = build_run(experiment, results)
    rate = experiment.optimizer.learning_rate
    for k in range(STEPS - 1):
        whole.step(whole.stream.batch(k), rate)
    state = copy_state_to_cpu(collect_state(whole))
    load_state(resumed, state)
    name = _name_of_first_difference(whole.model, resumed.model)
    if name:
        raise CheckError(f"steps change {name}, which no checkpoint holds: make it a buffer")
    whole.step(whole.stream.batch(STEPS - 1), rate)
    load_state(resumed, state)  # again, for the random numbers of the last step
    resumed.step(resumed.stream.batch(STEPS - 1), rate)
    name = _name_of_first_difference(whole.model, resumed.model)
    if name:
        raise CheckError(f"after a resume, {name} differs: it depends on what no checkpoint holds")


def _name_of_first_difference(model: nn.Module, other: nn.Module) -> str:
    """Return the name of the first weight or buffer in which two models differ; empty if none. NaN is a CheckError."""
    weights = other.state_dict()
    for name, value in model.state_dict().items():
        if value.isnan().any():
            raise CheckError(f"{name} is nan after a training step")
        if not torch.equal(value, weights[name]):
            return name
    return ""
