"""The checks of a method, on a batch of 8 images of the pack."""

import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor, nn

from bench.console.console import format_error_on_one_line
from bench.data.stream import PackStream
from bench.experiment.config import Experiment, change
from bench.experiment.fields import TextPadding
from bench.features.check.outcomes import CheckError, Outcome, describe_with_line, run_check
from bench.features.check.two_processes import (
    LOSS_TOLERANCE,
    add_noise,
    compare_with_two_processes,
)
from bench.interfaces.method import get_method, require_method_accepts
from bench.measure.costs import META, build_tower_and_model_on_meta, make_meta_batch
from bench.train.build import TrainRun, build_train_run, open_batch_stream
from bench.train.state import collect_state, copy_state_to_cpu, load_state

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")
SEED = 1
STEPS = 3  # of the training that is resumed after two of them
SHOWN_PARAMETERS = 3


def run_checks(experiment: Experiment, results: Path) -> list[Outcome]:
    """Return the outcomes of all checks of an experiment's method; after a failed first one, of no others.

    `results` is the folder with the cache of the pack.
    """
    first = run_check("loss without values", partial(check_on_meta, experiment, results))
    if first.has_failed:
        return [first]
    checks: dict[str, Callable[[Experiment, Path], None]] = {
        "gradients": check_gradients,
        "loader workers": check_pickling,
        "padding of captions": check_paddings,
        "two processes": compare_with_two_processes,
        "resume": check_resume,
    }
    outcomes = [first]
    for name, check in checks.items():
        outcomes.append(run_check(name, partial(check, experiment, results)))
    return outcomes


def check_on_meta(experiment: Experiment, results: Path) -> None:
    """Check that the loss can be computed on `meta` tensors, calls the tower and is a scalar with a gradient."""
    stream = _open_stream(experiment, results)
    tower, model = build_tower_and_model_on_meta(experiment)
    if getattr(model, "tower", None) is not tower:
        raise CheckError("the model of `build_model` has no attribute `tower` with the given tower")
    calls = []
    tower.register_forward_hook(lambda *_: calls.append(1))
    target = stream.target(0).to(META)
    batch = make_meta_batch(experiment, experiment.image.image_size, target)
    method = get_method(experiment.method)
    try:
        loss = batch.compute_loss(method.loss, model)
    except (RuntimeError, NotImplementedError) as error:
        if "meta" not in str(error):
            raise
        raise CheckError(
            f"the loss needs values of tensors, as `.item()` does: {describe_with_line(error)}"
        ) from None
    if not calls:
        raise CheckError("the loss does not call the tower")
    if loss.ndim:
        raise CheckError(f"the loss has the shape {tuple(loss.shape)}: it must be a scalar")
    if not loss.requires_grad:
        raise CheckError("the loss has no gradient")


def check_gradients(experiment: Experiment, results: Path) -> None:
    """Check that the loss is finite and that its gradient reaches every trained parameter."""
    run = _build_run(experiment, results)
    loss = run.step.forward(run.stream.batch(0))
    if not loss.isfinite():
        raise CheckError(f"the loss is {loss.item()}")
    run.step.backward(loss)
    unreached = [
        name
        for name, parameter in run.model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    if unreached:
        names = ", ".join(unreached[:SHOWN_PARAMETERS])
        raise CheckError(f"no gradient reaches {len(unreached)} parameters: {names}")


def check_pickling(experiment: Experiment, results: Path) -> None:
    """Check that the method and a batch's target can be sent to and from loader workers."""
    method = get_method(experiment.method)
    target = _open_stream(experiment, results).target(0)
    for name, value in (("the method", method.targets), ("the target of a batch", target)):
        try:
            pickle.loads(pickle.dumps(value))  # noqa: S301 - written on this line
        except Exception as error:  # noqa: BLE001 - of many kinds
            raise CheckError(
                f"{name} cannot be pickled: {format_error_on_one_line(error)}"
            ) from None


def check_paddings(experiment: Experiment, results: Path) -> None:
    """Check in float64 that the loss is equal for every padding of captions that the method accepts."""
    method = get_method(experiment.method)
    if not method.embeds_captions(experiment):
        return
    losses: dict[str, Tensor] = {}
    for padding in get_args(TextPadding):
        padded = change(experiment, text_padding=padding)
        if _is_accepted(padded):
            losses[padding] = _loss_in_float64(padded, results)
    first, *others = losses
    for padding in others:
        tolerance = LOSS_TOLERANCE[losses[first].dtype]
        is_close = (losses[padding] - losses[first]).abs() <= tolerance * losses[first].abs()
        if not is_close:  # also where one is not a number
            raise CheckError(
                f"text_padding={padding} gives the loss {losses[padding]:.9g}, {first} {losses[first]:.9g}"
            )


def check_resume(experiment: Experiment, results: Path) -> None:
    """Check that a training which is resumed before its last step has the weights of one that was not."""
    whole = _build_run(experiment, results)
    resumed = _build_run(experiment, results)
    rate = experiment.optimizer.learning_rate
    for k in range(STEPS):
        if k == STEPS - 1:
            state = copy_state_to_cpu(collect_state(whole))
            load_state(resumed, state)
            name = _first_difference(whole.model, resumed.model)
            if name:
                raise CheckError(
                    f"steps change {name}, which no checkpoint holds: make it a buffer"
                )
        whole.step(whole.stream.batch(k), rate)
    load_state(resumed, state)  # again, for the random numbers of the last step
    resumed.step(resumed.stream.batch(STEPS - 1), rate)
    name = _first_difference(whole.model, resumed.model)
    if name:
        raise CheckError(f"after a resume, {name} differs: it depends on what no checkpoint holds")


def _first_difference(model: nn.Module, other: nn.Module) -> str:
    """Return the name of the first weight or buffer in which two models differ; empty if none."""
    weights = other.state_dict()
    for name, value in model.state_dict().items():
        if not torch.equal(value, weights[name]):
            return name
    return ""


def _open_stream(experiment: Experiment, results: Path) -> PackStream[Any]:
    stream = open_batch_stream(experiment, CPU, results)
    assert isinstance(stream, PackStream)
    return stream


def _build_run(experiment: Experiment, results: Path) -> TrainRun:
    return build_train_run(_open_stream(experiment, results))


def _is_accepted(experiment: Experiment) -> bool:
    """Return whether the method accepts the settings of an experiment."""
    try:
        require_method_accepts(experiment)
    except ValueError:
        return False
    return True


def _loss_in_float64(experiment: Experiment, results: Path) -> Tensor:
    """Return the loss of the first batch; the model has noise in its weights."""
    run = _build_run(experiment, results)
    model = run.model.double()
    add_noise(model)
    batch = run.stream.batch(0)
    batch = replace(batch, images=batch.images.double())
    torch.manual_seed(SEED)
    return batch.compute_loss(run.method.loss, model).detach()
