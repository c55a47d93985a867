"""Runs of a comparison with reference implementations: equal weights, batches and learning rates on each side."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from bench.data.stream import Batch, BatchStream, PackStream
from bench.data.targets import CaptionTokens, LabelPairs
from bench.environment.circumstances import describe_current_commit
from bench.experiment.config import Experiment
from bench.experiment.fields import PACK_DATA
from bench.features.reference import (
    OPEN_CLIP,
    OPEN_CLIP_BUCKETED,
    OPEN_CLIP_FUSED,
    SUPERCLASS,
    WARMUP_STEPS,
)
from bench.features.reference.open_clip import (
    choose_order_for_bucketing,
    run_installed_open_clip,
    run_open_clip_checkout,
)
from bench.features.reference.records import ReferenceRun
from bench.features.reference.superclass import build_superclass_step
from bench.features.reference.timing import (
    DEFAULT_KERNELS,
    WindowTimer,
    batch_number_of_step,
    reference_learning_rate,
)
from bench.labels.subwords import SubwordEncoder
from bench.train.build import build_train_run, open_batch_stream


def train_side(
    experiment: Experiment,
    device: torch.device,
    results: Path,
    side: str,
    round_: int,
    checkout: str = "",
) -> ReferenceRun:
    """Train on one side of a comparison, with timed windows, and return what is recorded.

    `side` is a name from `bench.features.reference`. A step is compiled on every side or on none, as the experiment
    says. On a GPU, whose windows are longer, all windows have the same batches. Raises ValueError for other data than
    the pack.
    """
    if experiment.input.data != PACK_DATA:
        raise ValueError(
            f"{experiment.name}: the comparison needs the pack's images, data is {experiment.input.data!r}"
        )
    timing = experiment.timing
    timer = WindowTimer(device, timing.steps_per_window, timing.timed_windows)
    distinct_windows = 1 if device.type == "cuda" else timing.timed_windows
    num_batches = WARMUP_STEPS + distinct_windows * timing.steps_per_window
    stream = open_batch_stream(experiment, device, results)
    assert isinstance(stream, PackStream)
    if checkout and experiment.method == "clip":
        stream.order = choose_order_for_bucketing(stream, num_batches)
    batches: list[Batch[Any]] = [stream.batch(k) for k in range(num_batches)]
    tokens: float | None = None
    if side == OPEN_CLIP:
        kernel = DEFAULT_KERNELS[device.type]
        losses, tokens = run_installed_open_clip(stream, batches, timer, kernel)
    elif side == OPEN_CLIP_FUSED:
        losses, tokens = run_installed_open_clip(stream, batches, timer, "fused")
    elif side == OPEN_CLIP_BUCKETED:
        losses, tokens = run_open_clip_checkout(stream, batches, timer, Path(checkout))
    elif side == SUPERCLASS:
        losses = _train_superclass_checkout(stream, batches, timer, Path(checkout))
    else:
        losses = _train_our_code(stream, batches, timer)
        if experiment.method == "clip":
            tokens = mean(batch.target.tokens_per_caption for batch in batches)
    return ReferenceRun(
        side=side,
        round=round_,
        window_seconds=tuple(timer.seconds),
        losses=tuple(torch.stack(losses[:num_batches]).tolist()),
        tokens_per_caption=tokens,
        commit=describe_current_commit(Path(checkout)) if checkout else "",
    )


def _train_our_code(
    stream: PackStream[Any], batches: Sequence[Batch[Any]], timer: WindowTimer
) -> list[Tensor]:
    """Take our steps and return their losses; captions of CLIP are padded and sorted inside the windows."""
    experiment = stream.experiment
    train_step = build_train_run(stream).step
    losses = []
    for step in timer.yield_and_time_steps():
        number = batch_number_of_step(step, len(batches))
        batch = batches[number]
        if experiment.method == "clip":
            batch = Batch(batch.images, stream.target(number).to(stream.device))
        losses.append(train_step(batch, reference_learning_rate(experiment.optimizer, step)))
    return losses


def _train_superclass_checkout(
    stream: PackStream[LabelPairs],
    batches: Sequence[Batch[Any]],
    timer: WindowTimer,
    checkout: Path,
) -> list[Tensor]:
    """Take steps of the checkout's SuperClass from our weights, and return their losses."""
    train_step = build_superclass_step(build_train_run(stream), checkout)
    padded = []
    for number, batch in enumerate(batches):
        captions = pad_distinct_caption_tokens(stream, number).to(stream.device)
        padded.append(Batch(batch.images, captions))
    optimizer = stream.experiment.optimizer
    losses = []
    for step in timer.yield_and_time_steps():
        batch = padded[batch_number_of_step(step, len(padded))]
        losses.append(train_step(batch, reference_learning_rate(optimizer, step)))
    return losses


def pad_distinct_caption_tokens(
    stream: BatchStream[LabelPairs], batch_number: int
) -> CaptionTokens:
    """Return the distinct token ids of each caption of a batch, with start and end token, padded to the context.

    SuperClass's released code reads all token ids, but its loss depends on their presence alone.
    """
    experiment = stream.experiment
    labels = stream.target(batch_number)
    start, end = SubwordEncoder(experiment.targets.subword_vocabulary).start_and_end
    captions = [ids.tolist() for ids in labels.columns.tensor_split(labels.starts[1:-1])]
    return CaptionTokens.from_ids_without_start_and_end(
        captions, start, end, experiment.text.context_length
    )
