"""Tokens per caption, FLOPs and communicated parameters of an experiment; the latter counted on the `meta` device."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import fmean

import torch
from torch import nn

from bench.data.targets import Tokens
from bench.environment.gpu_specs import GpuSpec
from bench.experiment.config import Experiment, change
from bench.features.plan.collectives import ParameterCounts
from bench.features.plan.model import (
    ComputeProfile,
    FlopsPerImage,
    compute_profile_from_flops,
)
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


def sample_captions(experiment: Experiment, results: Path) -> list[Tokens]:
    """Return the captions of a run's first 32 batches, as `bench measure` pads them; none if no text is computed.

    Raises ValueError or OSError for data that cannot be read.
    """
    if not get_method(experiment.method).embeds_captions(experiment):
        return []
    stream = open_batch_stream(experiment, torch.device("cpu"), results)
    return [stream.target(k).captions for k in range(SAMPLED_BATCHES)]


def mean_computed_tokens(batches: Sequence[Tokens]) -> float | None:
    """Return the number of tokens computed per caption, padding included, mean over batches; None without a batch."""
    return fmean(batch.tokens_per_caption for batch in batches) if batches else None


def count_flops_per_image(experiment: Experiment, batches: Sequence[Tokens]) -> FlopsPerImage:
    """Count the FLOPs of an image and its caption, the mean over the batches of `sample_captions`."""
    costs = count_costs(experiment)
    model = _build_model(experiment)
    forward = float(costs.image_flops)
    for name, parameter in model.named_parameters():
        if name.split(".")[0] in LAST_LAYERS and parameter.ndim == MATRIX_DIMENSIONS:
            forward += 2 * parameter.numel()
    if batches:
        counts = zip(count_text_flops_by_batch(model, batches), batches, strict=True)
        forward += fmean(flops / len(batch.lengths) for flops, batch in counts)
    return FlopsPerImage(
        forward=forward,
        teacher=float(costs.teacher_flops),
        is_recomputed=experiment.runtime.activation_checkpointing,
    )


def count_text_flops_by_batch(model: nn.Module, batches: Sequence[Tokens]) -> list[int]:
    """Return the FLOPs of the text tower's forward over each batch.

    Each width, and each size of packed batches, is counted once: a caption has the FLOPs of its width, whatever lies
    beside it.
    """
    count_caption = cache(lambda width: count_text_forward_flops(model, meta_captions(1, width)))
    packed_counts: dict[tuple[int, int], int] = {}
    counts = []
    for batch in batches:
        if batch.positions is None:
            widths = batch.rows_by_width.items()
            counts.append(sum(rows * count_caption(width) for width, rows in widths))
            continue
        size = (len(batch.groups[0]), len(batch.lengths))
        if size not in packed_counts:
            packed_counts[size] = count_text_forward_flops(model, batch.to(META))
        counts.append(packed_counts[size])
    return counts


def estimate_compute_profile(
    experiment: Experiment, gpu: GpuSpec, utilisation: float, results: Path
) -> tuple[ComputeProfile, float | None]:
    """Return the profile of a GPU at an assumed utilisation, and the tokens per caption (None without captions).

    Raises ValueError or OSError for data that cannot be read.
    """
    if experiment.runtime.compile == "auto":
        experiment = change(experiment, compile="on")  # as on a GPU
    captions = sample_captions(experiment, results)
    work = count_flops_per_image(experiment, captions)
    precision = experiment.runtime.contrastive_precision
    profile = compute_profile_from_flops(work, gpu, utilisation, precision)
    return profile, mean_computed_tokens(captions)


def count_communicated_parameters(experiment: Experiment) -> ParameterCounts:
    """Count the parameters of an experiment's model, by how devices exchange them."""
    model = _build_model(experiment)
    parameters = list(model.parameters())
    blocks = get_all_tower_blocks(model)
    trained_blocks = [block for block in blocks if all(p.requires_grad for p in block.parameters())]
    counts = [module for module in model.modules() if isinstance(module, TokenCounts)]
    return ParameterCounts(
        method=experiment.method,
        trained=count_trained_parameters(model),
        frozen=sum(parameter.numel() for parameter in parameters if not parameter.requires_grad),
        in_blocks=sum(map(count_trained_parameters, trained_blocks)),
        blocks=len(trained_blocks),
        frozen_blocks=len(blocks) - len(trained_blocks),
        scalars=sum(parameter.ndim == 0 for parameter in parameters),
        feature_width=model.text.width if isinstance(model, DualEncoder) else 0,
        counted_tokens=sum(len(module.images_with_token) for module in counts),
    )


def _build_model(experiment: Experiment) -> nn.Module:
    one_size = change(experiment, image_sizes=())  # the weights are the same
    _, model = build_tower_and_model_on_meta(one_size)
    return model
