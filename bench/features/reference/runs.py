"""Runs of a comparison with reference implementations: equal weights, batches and learning rates on each side."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from bench.data.stream import Batch, BatchStream, PackStream
from bench.data.targets import Labels, Tokens
from bench.environment.circumstances import current_commit
from bench.experiment.config import Experiment, change
from bench.experiment.fields import PACK_DATA
from bench.features.reference import (
    OPEN_CLIP,
    OPEN_CLIP_BUCKETED,
    OPEN_CLIP_FUSED,
    SUPERCLASS,
    WARMUP_STEPS,
)
from bench.features.reference.open_clip import (
    order_for_bucketing,
    run_installed_open_clip,
    run_open_clip_checkout,
)
from bench.features.reference.records import ReferenceRun
from bench.features.reference.superclass import build_superclass_step
from bench.features.reference.timing import WindowTimer, batch_number, reference_learning_rate
from bench.labels.subwords import SubwordIds
from bench.train.build import build_train_run, open_batch_stream


def run_side(
    experiment: Experiment,
    device: torch.device,
    results: Path,
    side: str,
    round_: int,
    checkout: str = "",
) -> ReferenceRun:
    """Run the warm-up and the windows of an experiment on one side of a comparison, and return its record's content.

    A step is compiled on every side or on none, as the experiment says. On a GPU, whose windows are longer, all windows
    have the same batches.
    """
    timing = experiment.timing
    windows = WindowTimer(device, timing.steps_per_window, timing.windows)
    distinct_windows = 1 if device.type == "cuda" else timing.windows
    num_batches = WARMUP_STEPS + distinct_windows * timing.steps_per_window
    if experiment.input.data != PACK_DATA:
        raise ValueError(
            f"{experiment.name}: the comparison needs the pack's images, data is {experiment.input.data!r}"
        )
    if side == SUPERCLASS:
        # As the released code pads captions.
        experiment = change(experiment, text_padding="max_length")
    stream = open_batch_stream(experiment, device, results)
    assert isinstance(stream, PackStream)
    if checkout and experiment.method == "clip":
        stream.order = order_for_bucketing(stream, num_batches)
    batches: list[Batch[Any]] = [stream.batch(k) for k in range(num_batches)]
    tokens: float | None = None
    if side in (OPEN_CLIP, OPEN_CLIP_FUSED):
        losses, tokens = run_installed_open_clip(stream, batches, windows, side)
    elif side == OPEN_CLIP_BUCKETED:
        losses, tokens = run_open_clip_checkout(stream, batches, windows, Path(checkout))
    elif side == SUPERCLASS:
        losses = _run_superclass(stream, batches, windows, Path(checkout))
    else:
        losses = _run_ours(stream, batches, windows)
        if experiment.method == "clip":
            tokens = mean(batch.target.tokens_per_caption for batch in batches)
    return ReferenceRun(
        side=side,
        round=round_,
        window_seconds=tuple(windows.seconds),
        losses=tuple(torch.stack(losses[:num_batches]).tolist()),
        tokens_per_caption=tokens,
        commit=current_commit(Path(checkout)) if checkout else "",
    )


def _run_ours(
    stream: PackStream[Any], batches: Sequence[Batch[Any]], windows: WindowTimer
) -> list[Tensor]:
    """Run our steps and return losses; captions of CLIP are padded and sorted inside the windows."""
    experiment = stream.experiment
    step = build_train_run(stream).step
    losses = []
    for k in windows.time_steps():
        number = batch_number(k, len(batches))
        batch = batches[number]
        if experiment.method == "clip":
            batch = Batch(batch.images, stream.target(number).to(stream.device))
        losses.append(step(batch, reference_learning_rate(experiment.optimizer, k)))
    return losses


def _run_superclass(
    stream: PackStream[Labels], batches: Sequence[Batch[Any]], windows: WindowTimer, checkout: Path
) -> list[Tensor]:
    """Run steps of SuperClass's modules from our weights; return losses."""
    step = build_superclass_step(build_train_run(stream), checkout)
    padded = []
    for k, batch in enumerate(batches):
        padded.append(Batch(batch.images, superclass_tokens(stream, k).to(stream.device)))
    settings = stream.experiment.optimizer
    losses = []
    for k in windows.time_steps():
        batch = padded[batch_number(k, len(padded))]
        losses.append(step(batch, reference_learning_rate(settings, k)))
    return losses


def superclass_tokens(stream: BatchStream[Labels], batch_number: int) -> Tokens:
    """Return the captions of a batch as SuperClass's released code reads them.

    They are token ids with start and end token, padded to the context.
    """
    experiment = stream.experiment
    labels = stream.target(batch_number)
    start, end = SubwordIds(experiment.targets.subword_vocabulary).start_and_end
    captions = [ids.tolist() for ids in labels.columns.tensor_split(labels.starts[1:-1])]
    return Tokens.from_ids(captions, start, end, experiment.text.context_length)
