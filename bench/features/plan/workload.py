"""Tokens per caption, FLOPs and communicated parameters of an experiment, whose model is on the `meta` device."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import fmean

import torch
from torch import nn

from bench.data.targets import CaptionTokens
from bench.experiment.config import Experiment, change
from bench.features.plan.collectives import ParameterCounts
from bench.features.plan.model import FlopsPerImage
from bench.interfaces.method import get_method
from bench.measure.costs import (
    META,
    build_tower_and_model_on_meta,
    count_costs,
    count_text_forward_flops,
    meta_captions,
)
from bench.train.build import count_trained_parameters, open_batch_stream
from models.heads import DualEncoder, TokenCounts
from models.tower_blocks import get_all_tower_blocks

SAMPLED_BATCHES = 32
LAST_LAYERS = ("head", "projection")  # modules that follow the image tower
MATRIX_DIMENSIONS = 2


def read_caption_batches(experiment: Experiment, results: Path) -> list[CaptionTokens]:
    """Return the captions of a run's first 32 batches, as a GPU's run pads them; none if no text is computed.

    Raises ValueError or OSError for data that cannot be read.
    """
    if not get_method(experiment.method).embeds_captions(experiment):
        return []
    if experiment.runtime.compile == "auto":
        experiment = change(experiment, compile="on")  # as on a GPU; the padding depends on it
    stream = open_batch_stream(experiment, torch.device("cpu"), results)
    return [stream.target(k).captions for k in range(SAMPLED_BATCHES)]


def mean_tokens_per_caption(batches: Sequence[CaptionTokens]) -> float | None:
    """Return the computed tokens per caption, padding included, as the mean over batches; None without a batch."""
    return fmean(batch.tokens_per_caption for batch in batches) if batches else None


def count_flops_per_image(
    experiment: Experiment, caption_batches: Sequence[CaptionTokens]
) -> FlopsPerImage:
    """Count the FLOPs of an image and its caption, as the mean over batches of captions."""
    costs = count_costs(experiment)
    _, model = build_tower_and_model_on_meta(change(experiment, image_sizes=()))
    forward = float(costs.image_flops)
    views = get_method(experiment.method).views
    for name, parameter in model.named_parameters():
        if name.split(".")[0] in LAST_LAYERS and parameter.ndim == MATRIX_DIMENSIONS:
            forward += 2 * views * parameter.numel()
    if caption_batches:
        text_flops = count_text_flops_by_batch(model, caption_batches)
        counts = zip(text_flops, caption_batches, strict=True)
        forward += fmean(flops / len(batch.lengths) for flops, batch in counts)
    return FlopsPerImage(
        forward=forward,
        teacher=float(costs.teacher_flops),
        is_recomputed=experiment.runtime.activation_checkpointing,
    )


def count_text_flops_by_batch(model: nn.Module, batches: Sequence[CaptionTokens]) -> list[int]:
    """Return the FLOPs of the text tower's forward over each batch.

    Each width, and each size of packed batches, is counted once: a caption has the FLOPs of its width, whatever lies
    beside it.
    """
    count_caption = cache(lambda width: count_text_forward_flops(model, meta_captions(1, width)))
    packed_counts: dict[tuple[int, int], int] = {}
    counts = []
    for batch in batches:
        if batch.positions is None:
            widths = batch.num_rows_by_width.items()
            counts.append(sum(rows * count_caption(width) for width, rows in widths))
            continue
        size = (len(batch.groups[0]), len(batch.lengths))
        if size not in packed_counts:
            packed_counts[size] = count_text_forward_flops(model, batch.to(META))
        counts.append(packed_counts[size])
    return counts


def count_communicated_parameters(experiment: Experiment) -> ParameterCounts:
    """Count the parameters of an experiment's model, by how GPUs exchange them."""
    _, model = build_tower_and_model_on_meta(change(experiment, image_sizes=()))
    parameters = list(model.parameters())
    blocks = get_all_tower_blocks(model)
    trained_blocks = [
        block
        for block in blocks
        if all(parameter.requires_grad for parameter in block.parameters())
    ]
    counts = [module for module in model.modules() if isinstance(module, TokenCounts)]
    return ParameterCounts(
        method=experiment.method,
        trained=count_trained_parameters(model),
        frozen=sum(parameter.numel() for parameter in parameters if not parameter.requires_grad),
        trained_in_blocks=sum(map(count_trained_parameters, trained_blocks)),
        num_trained_blocks=len(trained_blocks),
        num_frozen_blocks=len(blocks) - len(trained_blocks),
        num_scalars=sum(parameter.ndim == 0 for parameter in parameters),
        feature_width=model.text.width if isinstance(model, DualEncoder) else 0,
        counted_tokens=sum(len(module.images_with_token) for module in counts),
    )
