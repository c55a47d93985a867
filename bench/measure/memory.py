"""Memory of a run: the peaks of a few steps, and the tensor bytes of one step."""

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.data.stream import BatchStream
from bench.experiment.config import Experiment
from bench.profilers.counters import TensorByteCounter
from bench.profilers.memory import PeakMemory
from bench.records.record import Memory
from bench.train.build import (
    build_train_run,
    count_trained_parameters,
    open_batch_stream,
    require_finite_losses,
    steps_with_each_size_first,
    take_steps_at_full_learning_rate,
)
from bench.train.distributed import all_gather_objects, world_group_or_none

NUM_MEMORY_STEPS = 4
# Out-of-memory messages of torch's allocators, the C++ library, oneDNN, and cuBLAS and cuDNN (the last two: a full
# device has no room for a handle, either).
OUT_OF_MEMORY_MESSAGES = (
    "out of memory",
    "allocate memory",
    "not enough memory",
    "bad_alloc",
    "could not create a primitive",
    "status_alloc_failed",
    "status_not_initialized",
)


def measure_memory(experiment: Experiment, device: torch.device, results: Path) -> Memory:
    """Return the peaks of memory over a few steps, and the tensor bytes of one step that is taken after them.

    Data is loaded before, because its memory is not the method's: decoded images, targets, and the pages of the batches
    that the steps read. Over several processes the peaks are the maxima.
    """
    stream = open_batch_stream(experiment, device, results)
    steps = steps_with_each_size_first(stream.order.batch_shapes, NUM_MEMORY_STEPS)
    for k in steps:
        stream.batch(k)  # once, so that its pages are in memory
    peak = PeakMemory(device)
    run = build_train_run(stream)
    require_finite_losses(take_steps_at_full_learning_rate(run, steps), steps, stream)
    peaks = max_peaks_over_ranks(all_gather_objects(peak.read_peak_bytes_by_field()))
    is_sharded = experiment.runtime.sharding != "ddp" and world_group_or_none() is not None
    trained_parameters = count_trained_parameters(run.model)
    del run  # the uncompiled model of the count needs its memory
    gc.collect()  # a compiled block and what calls it hold each other
    tensor_bytes = None
    if not is_sharded:
        # The uncompiled step of the count may need more memory than the measured one.
        try:
            tensor_bytes = take_step_and_count_peak_tensor_bytes(stream)
        except Exception as error:
            if not is_out_of_memory_error(error):
                raise
    return Memory(
        steps=len(steps),
        trained_parameters=trained_parameters,
        peak_tensor_bytes=tensor_bytes,
        **peaks,
    )


def max_peaks_over_ranks(rank_peaks: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Return the maximum over the ranks of each peak that all of them have, by name."""
    names = set.intersection(*map(set, rank_peaks))
    return {name: max(peaks[name] for peaks in rank_peaks) for name in names}


def is_out_of_memory_error(error: BaseException) -> bool:
    """Return whether an error says that the host or the device has no memory left."""
    text = str(error).lower()
    is_known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return is_known or any(word in text for word in OUT_OF_MEMORY_MESSAGES)


def take_step_and_count_peak_tensor_bytes(stream: BatchStream[Any]) -> int:
    """Take one uncompiled step, and return the peak bytes of batch, weights, gradients, moments and activations.

    The step is the second, when the optimizer has its state; with several image sizes, the next one of each size. The
    counter cannot count compiled steps. The step is of a single process: DDP's buckets are views of the gradients.
    """
    run = build_train_run(stream, eager_without_group=True)
    learning_rate = stream.experiment.optimizer.learning_rate
    run.step(stream.batch(0), learning_rate)
    held: list[Tensor] = []
    for model in (run.model, run.step.ema):
        if model is not None:
            held += [*model.parameters(), *model.buffers()]
    for moments in run.step.optimizer.state.values():
        held += [value for value in moments.values() if isinstance(value, Tensor)]
    held += [parameter.grad for parameter in run.model.parameters() if parameter.grad is not None]
    counted = TensorByteCounter(stream.device, held)
    del held
    steps = stream.order.batch_shapes.first_step_of_each_image_side(1)
    for k in steps:
        # The rows of a step are remembered: on a first run they would count, later not.
        stream.batch(k)
    with counted:
        for k in steps:
            run.step(stream.batch(k), learning_rate)
    return counted.peak_bytes
