"""Whether the loss and the gradients of two processes are those of one process with all images."""

import copy
import math
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessRaisedException, spawn

from bench.data.stream import Batch, PackStream
from bench.experiment.config import Experiment, join_first_names_shortened
from bench.interfaces.extensions import load_features_and_extensions
from bench.measure.method_checks import CheckError
from bench.train.build import TrainRun, build_train_run, open_batch_stream

PROCESSES = 2
SEED = 1
# Relative to the loss, and to the largest gradient, by the dtype of the loss: a method may compute it in float32.
LOSS_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
GRADIENT_TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-3}
NOISE = 0.02  # standard deviation
TIMEOUT = timedelta(seconds=60)  # for a process that waits for the other one


def check_two_processes_equal_one(experiment: Experiment, results: Path) -> None:
    """Check in float64 that the mean loss of two processes, each with half of a batch, is the loss of the batch.

    The mean of their gradients, which DDP takes, must be its gradient, and the loss must leave the same buffers on all
    processes. Each process draws the same random numbers.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            spawn(_compare_on_process, (experiment, results, Path(folder)), PROCESSES)  # type: ignore[no-untyped-call]
        except ProcessRaisedException as error:
            last_line = str(error).strip().splitlines()[-1]
            kind, _, reason = last_line.partition(": ")
            if kind != "AssertionError":
                raise
            raise CheckError(reason) from None


def _compare_on_process(rank: int, experiment: Experiment, results: Path, folder: Path) -> None:
    """Compare on a process; AssertionError names the first difference."""
    load_features_and_extensions()
    run = build_float64_run(experiment, results)
    batch = load_float64_batch(run)
    whole = run.model
    half = copy.deepcopy(whole)
    torch.manual_seed(SEED)
    whole_loss = batch.compute_loss(run.method.loss, whole)
    whole_loss.backward()  # type: ignore[no-untyped-call]

    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=PROCESSES,
        timeout=TIMEOUT,
    )
    assert isinstance(run.stream, PackStream)
    # The captions of half a batch are selected from the data set, as each process of a training does: a batch's are
    # already grouped by width or packed, and `split_into_micro_batches` serves methods without captions only.
    half_batch = Batch(
        batch.images.chunk(PROCESSES)[rank],
        run.stream.targets.select(run.stream.order.batch_rows(0).chunk(PROCESSES)[rank]),
        batch.number,
        None if batch.rows is None else batch.rows.chunk(PROCESSES)[rank],
    )
    torch.manual_seed(SEED)
    loss = half_batch.compute_loss(run.method.loss, half, dist.group.WORLD)
    loss.backward()  # type: ignore[no-untyped-call]
    _require_equal_means(whole, whole_loss.detach(), half, loss.detach())
    dist.barrier()
    dist.destroy_process_group()


def build_run(experiment: Experiment, results: Path) -> TrainRun:
    """Return a training on the CPU."""
    return build_train_run(open_batch_stream(experiment, torch.device("cpu"), results))


def build_float64_run(experiment: Experiment, results: Path) -> TrainRun:
    """Return a training whose model is float64; its weights have noise, equal on all processes."""
    run = build_run(experiment, results)
    _add_equal_noise_to_trained_parameters(run.model.double())
    return run


def load_float64_batch(run: TrainRun) -> Batch[Any]:
    """Return the first batch with images in float64."""
    batch = run.stream.batch(0)
    return replace(batch, images=batch.images.double())


def _require_equal_means(
    whole: nn.Module, whole_loss: Tensor, half: nn.Module, half_loss: Tensor
) -> None:
    """Raise AssertionError unless the means over the processes are the loss and gradients of the whole batch."""
    assert whole_loss.isfinite(), f"the loss is {whole_loss}"
    tolerance = LOSS_TOLERANCE[whole_loss.dtype]
    mean_loss = _mean_over_processes(half_loss)
    torch.testing.assert_close(
        mean_loss,
        whole_loss,
        rtol=tolerance,
        atol=0,
        msg=f"the mean loss of two processes is {mean_loss:.9g}, that of one with all images {whole_loss:.9g}",
    )
    gradients = _gradients_by_name(whole)
    half_gradients = _gradients_by_name(half)
    unpaired = gradients.keys() ^ half_gradients.keys()
    assert not unpaired, (
        f"on two processes or on one alone, no gradient reaches {join_first_names_shortened(sorted(unpaired))}"
    )
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    assert math.isfinite(largest), "a gradient is not finite"
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            _mean_over_processes(half_gradients[name]),
            gradient,
            rtol=0,
            atol=GRADIENT_TOLERANCE[whole_loss.dtype] * largest,
            msg=f"the mean gradient of {name} over two processes is not that of one with all images",
        )
    for (name, buffer), half_buffer in zip(whole.named_buffers(), half.buffers(), strict=True):
        torch.testing.assert_close(
            half_buffer.double(),
            buffer.double(),
            rtol=tolerance,
            atol=tolerance,
            equal_nan=True,
            msg=f"the loss leaves another buffer {name} on two processes than on one with all images",
        )


def _gradients_by_name(model: nn.Module) -> dict[str, Tensor]:
    parameters = model.named_parameters()
    return {name: value.grad for name, value in parameters if value.grad is not None}


@torch.no_grad()
def _add_equal_noise_to_trained_parameters(model: nn.Module) -> None:
    """Add equal noise on all processes to the trained parameters, because heads that begin at 0 hide what is before."""
    generator = torch.Generator().manual_seed(SEED)
    for parameter in model.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(NOISE * noise)


def _mean_over_processes(value: Tensor) -> Tensor:
    total = value.clone()
    dist.all_reduce(total)
    return total / PROCESSES
