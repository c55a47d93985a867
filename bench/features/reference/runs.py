"""Runs of a comparison with reference implementations: equal weights, batches and learning rates on each side."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from bench.data.released_labels import DenseLabels, make_multi_hot
from bench.data.stream import Batch, BatchStream, PackStream
from bench.data.targets import Labels, Tokens
from bench.environment.circumstances import current_commit
from bench.experiment.config import Experiment, change
from bench.features.reference import (
    DENSE,
    OPEN_CLIP,
    OPEN_CLIP_CHECKOUT,
    OPEN_CLIP_FUSED,
    OURS,
    SUPERCLASS,
    WARMUP_STEPS,
)
from bench.features.reference.corenet import build_corenet
from bench.features.reference.open_clip import choose_images, run_installed_open_clip, run_open_clip_checkout
from bench.features.reference.records import ReferenceRun
from bench.features.reference.superclass import build_superclass
from bench.features.reference.timing import WindowTimer, batch_number, reference_learning_rate, time_phases
from bench.labels.subwords import SubwordIds
from bench.labels.vocabulary import count_synset_rows
from bench.train.build import TrainState, build_train_state, load_data


def run_side(
    experiment: Experiment, device: torch.device, results: Path, side: str, round_: int, checkout: str = ""
) -> ReferenceRun:
    """Run the warm-up and the windows of an experiment on one side of a comparison, whose code may be a checkout.

    A step is compiled on every side or on none, as the experiment says. On a GPU, whose windows are longer, all have
    the same batches.
    """
    windows = WindowTimer(device, experiment.timing.steps_per_window, experiment.timing.windows)
    distinct_windows = 1 if device.type == "cuda" else experiment.timing.windows
    steps = WARMUP_STEPS + distinct_windows * experiment.timing.steps_per_window  # more repeat these steps' batches
    tokens = target_bytes = None
    phases: dict[str, tuple[float, ...]] = {}
    is_open_clip = experiment.method == "clip" and (not checkout or OPEN_CLIP_CHECKOUT.matches_folder(Path(checkout)))
    if checkout and not is_open_clip and side != OURS:
        experiment = change(experiment, text_padding="max_length")  # as the released code pads captions
    elif not checkout:
        experiment = change(experiment, label_format="dense" if side == DENSE else "sparse")
    stream = load_data(experiment, device, results)
    if is_open_clip:
        if not isinstance(stream, PackStream):
            raise ValueError(
                f"{experiment.name}: the comparison needs the pack's images, data is {experiment.input.data!r}"
            )
        if checkout:
            stream.order = choose_images(stream, steps)
        batches = [stream.batch(k) for k in range(steps)]
        if side == OURS:
            losses = _run_ours(build_train_state(stream), batches, windows)
            tokens = mean(batch.target.tokens_per_caption for batch in batches)
        elif side in (OPEN_CLIP, OPEN_CLIP_FUSED):
            losses, tokens = run_installed_open_clip(stream, batches, windows, side)
        else:
            losses, tokens = run_open_clip_checkout(stream, batches, windows, side, Path(checkout))
    elif checkout:
        losses, tokens, phases = _run_one_side(stream, side, windows, steps, Path(checkout))
    else:
        losses, target_bytes = _run_catlip_steps(build_train_state(stream), windows)
    return ReferenceRun(
        side=side,
        round=round_,
        window_seconds=tuple(windows.seconds),
        losses=tuple(torch.stack(losses[:steps]).tolist()),
        tokens_per_caption=tokens,
        target_bytes_per_image=target_bytes,
        phase_seconds=phases,
        commit=current_commit(Path(checkout)) if checkout else "",
    )


# CLIP


def _run_ours(state: TrainState, batches: Sequence[Batch[Tokens]], windows: WindowTimer) -> list[Tensor]:
    """Run our steps; captions are padded and sorted inside the windows."""
    losses, stream = list[Tensor](), state.stream
    for k in windows.time_steps():
        batch = batch_number(k, len(batches))
        target = stream.target(batch).to(stream.device)
        losses.append(
            state.step(Batch(batches[batch].images, target), reference_learning_rate(stream.experiment.optimizer, k))
        )
    return losses


# CatLIP


def _run_catlip_steps(state: TrainState, windows: WindowTimer) -> tuple[list[Tensor], float]:
    """Run steps; return losses and bytes of targets per image."""
    losses, target_bytes, experiment = list[Tensor](), 0, state.stream.experiment
    for k in windows.time_steps():
        batch: Batch[Any] = state.stream.batch(k)
        target_bytes += batch.target.nbytes
        losses.append(state.step(batch, reference_learning_rate(experiment.optimizer, k)))
    return losses, target_bytes / (len(losses) * experiment.training.batch_size)


# Code of a checkout


def _run_one_side(
    stream: BatchStream[Any], side: str, windows: WindowTimer, steps: int, checkout: Path
) -> tuple[list[Tensor], float | None, dict[str, tuple[float, ...]]]:
    """Run our steps, or those of a checkout from our weights; return losses, tokens per caption, seconds by phase.

    Batches are made before the windows, as loader workers make them, with the targets of the side. The steps after the
    windows are split into phases.
    """
    experiment, state = stream.experiment, build_train_state(stream)
    batches: list[Batch[Any]] = [stream.batch(k) for k in range(steps + experiment.timing.steps_per_window)]
    is_clip, model, step = experiment.method == "clip", state.model, state.step
    tokens = mean(batch.target.tokens_per_caption for batch in batches[:steps]) if is_clip else None
    if side != OURS:
        model, step = (build_superclass if side == SUPERCLASS else build_corenet)(state, checkout)
        if not is_clip:
            labels = (released_labels(stream, k).to(stream.device) for k in range(len(batches)))
            batches = [Batch(batch.images, target) for batch, target in zip(batches, labels, strict=True)]
    losses = [
        step(batches[batch_number(k, steps)], reference_learning_rate(experiment.optimizer, k))
        for k in windows.time_steps()
    ]
    phases = time_phases(model, step, batches[steps:], reference_learning_rate(experiment.optimizer, steps))
    return losses, tokens, phases


def released_labels(stream: BatchStream[Labels], k: int) -> DenseLabels | Tokens:
    """Return the labels of batch k in the form of the released code: multi-hot for CatLIP, token ids for SuperClass."""
    experiment, labels = stream.experiment, stream.target(k)
    if experiment.method == "catlip":
        rows = count_synset_rows(experiment)
        return DenseLabels(labels, rows, make_multi_hot(labels, rows))
    captions = [ids.tolist() for ids in labels.columns.tensor_split(labels.starts[1:-1])]
    return Tokens.from_ids(
        captions, *SubwordIds(experiment.targets.subword_vocabulary).start_and_end, experiment.text.context_length
    )
