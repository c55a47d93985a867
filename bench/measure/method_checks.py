"""Checks of a method that need no data and no step, on the `meta` device."""

import pickle
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.console.console import format_error_on_one_line
from bench.data.targets import CaptionsWithRows
from bench.experiment.auto_fields import with_resolved_text_padding
from bench.experiment.config import Experiment, join_first_names_shortened
from bench.interfaces.method import get_method
from bench.measure.costs import META, build_tower_and_model_on_meta, make_meta_batch
from bench.train.augmentation import get_method_with_augmentation

CAPTION = "a dog on a chair"
OK = "ok"  # outcome of a check that finds nothing wrong


class CheckError(Exception):
    """A method breaks a rule; the message says which, in one line."""


def run_check(check: Callable[[], None]) -> str:
    """Run a check that raises an error if it fails; return "ok", or what is wrong."""
    try:
        check()
    except CheckError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - it is the code of others
        return _describe_error_and_its_line(error)
    return OK


def run_static_checks(experiment: Experiment) -> dict[str, str]:
    """Return the outcomes, by name, of the checks of an experiment's method that need no step."""
    return {
        "loss and gradients": run_check(partial(_check_loss_and_gradients_on_meta, experiment)),
        "loader workers": run_check(partial(_check_pickling, experiment)),
    }


def require_working_method(experiment: Experiment) -> None:
    """Raise ValueError for a method that breaks a rule which needs no step."""
    for outcome in run_static_checks(experiment).values():
        if outcome != OK:
            raise ValueError(f"{experiment.name}: {outcome}")


def _check_loss_and_gradients_on_meta(experiment: Experiment) -> None:
    """Check that the loss needs no values, calls the tower, and that its gradient reaches all trained parameters."""
    tower, model = build_tower_and_model_on_meta(experiment)
    if getattr(model, "tower", None) is not tower:
        raise CheckError("the model of `build_model` has no attribute `tower` with the given tower")
    calls = []
    tower.register_forward_hook(lambda *_: calls.append(1))
    target = _make_target(experiment).to(META)
    batch = make_meta_batch(experiment, experiment.image.image_size, target)
    try:
        loss = batch.compute_loss(get_method_with_augmentation(experiment).loss, model)
    except (RuntimeError, NotImplementedError) as error:
        if "meta" not in str(error):
            raise
        raise CheckError(
            f"the loss needs values of tensors, as `.item()` does: {_describe_error_and_its_line(error)}"
        ) from None
    if not calls:
        raise CheckError("the loss does not call the tower")
    _check_gradients(loss, model)


def _check_gradients(loss: Tensor, model: torch.nn.Module) -> None:
    """Check that a loss is a scalar whose gradient reaches every trained parameter."""
    if loss.ndim:
        raise CheckError(f"the loss has the shape {tuple(loss.shape)}: it must be a scalar")
    if not loss.requires_grad:
        raise CheckError("the loss has no gradient")
    loss.backward()  # type: ignore[no-untyped-call]
    unreached = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    if unreached:
        raise CheckError(
            f"no gradient reaches {len(unreached)} parameters: {join_first_names_shortened(unreached)}"
        )


def _check_pickling(experiment: Experiment) -> None:
    """Check that the method and a batch's target can be sent to and from loader workers."""
    sent = (get_method(experiment.method).make_target_function, _make_target(experiment))
    try:
        pickle.loads(pickle.dumps(sent))  # noqa: S301 - written on this line
    except Exception as error:  # noqa: BLE001 - of many kinds
        reason = format_error_on_one_line(error)
        raise CheckError(f"the method or its target cannot be pickled: {reason}") from None


def _make_target(experiment: Experiment) -> Any:
    """Return the target of a batch of equal captions, on the CPU."""
    batch_size = experiment.device_batch_size_at(experiment.image.image_size)
    experiment = with_resolved_text_padding(experiment, torch.device("cpu"))
    targets = get_method(experiment.method).make_target_function(experiment)
    return targets(CaptionsWithRows.from_texts([CAPTION] * batch_size)).select(
        torch.arange(batch_size)
    )


def _describe_error_and_its_line(error: BaseException) -> str:
    """Return the first line of an error, and the last line outside installed packages that led to it."""
    reason = format_error_on_one_line(f"{type(error).__name__}: {error}").splitlines()[0]
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename
    ]
    return f"{reason} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"
