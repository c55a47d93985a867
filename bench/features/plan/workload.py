"""Tokens per caption, FLOPs and communicated parameters of an experiment, whose model is on the `meta` device."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import torch
from torch import nn

from bench.data.targets import CaptionTokens
from bench.experiment.config import Experiment, change
from bench.features.plan.collectives import ParameterCounts
from bench.features.plan.model import ForwardFlopsPerPair
from bench.interfaces.method import Method, get_method
from bench.measure.costs import (
    META,
    build_tower_and_model_on_meta,
    count_parameters_and_forward_flops,
    count_text_forward_flops,
)
from bench.tables.groups import group_by
from bench.train.build import count_trained_parameters, open_batch_stream
from models.heads import DualEncoder, TokenCounts
from models.tower_blocks import get_all_tower_blocks

SAMPLED_BATCHES = 32
LAST_LAYERS = ("head", "projection")  # modules that follow the image tower
MATRIX_DIMENSIONS = 2


def read_first_caption_batches(experiment: Experiment, results: Path) -> list[CaptionTokens]:
    """Return the captions of a run's first 32 batches, as a GPU's run pads them; none if no text is computed.

    Raises ValueError or OSError for data that cannot be read.
    """
    if not get_method(experiment.method).runs_text_model_on_captions(experiment):
        return []
    if experiment.runtime.compile == "auto":
        experiment = change(experiment, compile="on")  # as on a GPU; the padding depends on it
    stream = open_batch_stream(experiment, torch.device("cpu"), results)
    return [stream.target(k).captions for k in range(SAMPLED_BATCHES)]


def mean_tokens_per_caption(batches: Sequence[CaptionTokens]) -> float | None:
    """Return the computed tokens per caption, padding included, as the mean over batches; None without a batch."""
    return fmean(batch.tokens_per_caption for batch in batches) if batches else None


def count_forward_flops_per_pair(
    experiment: Experiment, caption_batches: Sequence[CaptionTokens]
) -> ForwardFlopsPerPair:
    """Count the FLOPs of an image and its caption, as the mean over batches of captions."""
    costs = count_parameters_and_forward_flops(experiment)
    _, model = build_tower_and_model_on_meta(change(experiment, random_image_sizes=()))
    forward = float(costs.image_flops)
    method = get_method(experiment.method)
    for name, parameter in model.named_parameters():
        if name.split(".")[0] in LAST_LAYERS and parameter.ndim == MATRIX_DIMENSIONS:
            forward += 2 * method.views * parameter.numel()
    if caption_batches:
        forward += count_text_forward_flops_per_caption(method, model, caption_batches)
    return ForwardFlopsPerPair(
        forward=forward,
        teacher=float(costs.teacher_flops),
        is_recomputed=experiment.runtime.activation_checkpointing,
    )


def count_text_forward_flops_per_caption(
    method: Method, model: nn.Module, batches: Sequence[CaptionTokens]
) -> float:
    """Return the FLOPs of the text's forward per caption, the mean over batches; equal shapes are counted once."""
    by_shapes = group_by(
        batches, lambda batch: (len(batch.lengths), *[ids.shape for ids in batch.groups])
    )
    total = 0.0
    for equal_batches in by_shapes.values():
        batch = equal_batches[0]
        flops_of_batch = count_text_forward_flops(method, model, batch.to(META))
        total += len(equal_batches) * flops_of_batch / len(batch.lengths)
    return total / len(batches)


def count_communicated_parameters(experiment: Experiment) -> ParameterCounts:
    """Count the parameters of an experiment's model, by how GPUs exchange them."""
    _, model = build_tower_and_model_on_meta(change(experiment, random_image_sizes=()))
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
