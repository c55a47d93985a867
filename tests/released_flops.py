"""FLOPs of the methods' released code, which papers state."""

from collections import Counter
from collections.abc import Sequence
from functools import cache

import torch

from bench.experiment.config import Experiment, change
from bench.measure.costs import META, build_tower_and_model_on_meta
from bench.profilers.counters import (
    count_flops_of_one_image,
    count_forward_flops,
    count_matmul_flops,
)
from bench.train.build import build_untrained_tower
from models.heads import DualEncoderClassifier, ImageClassifier, ProjectedImageTower
from models.open_clip_blocks import compute_all_tokens_in_last_block
from models.text_tower import build_open_clip_text_tower


def forward_flops_as_released(experiment: Experiment, caption_lengths: Sequence[int] = ()) -> int:
    """Return the FLOPs of a forward of one image with its caption in the released code of the methods.

    Captions are padded to the context. Without padding it is the mean over captions of `caption_lengths` tokens, which
    are cut to the context. Every token of captions and images is computed. With several image sizes it is the mean.
    """
    _, model = build_tower_and_model_on_meta(change(experiment, random_image_sizes=()))
    flops = _mean_image_flops(experiment)
    if isinstance(model, ImageClassifier | DualEncoderClassifier):
        features = torch.empty(1, model.tower.width, device=META)
        flops += count_matmul_flops(lambda: model.head(features))
    if isinstance(model, ProjectedImageTower):
        context = experiment.text.context_length
        counts = Counter(min(length, context) for length in caption_lengths or (context,))
        total = sum(
            count * _text_flops(experiment.text.text_tower, length)
            for length, count in counts.items()
        )
        flops += total // counts.total()
    return flops


def _text_flops(text_tower: str, length: int) -> int:
    """They are of second degree in the length: three lengths are counted, and Newton's formula gives the others."""
    first, second, third = (_count_text_flops(text_tower, counted) for counted in (1, 2, 3))
    n = length - 1
    return first + n * (second - first) + n * (n - 1) // 2 * (third - 2 * second + first)


@cache
def _count_text_flops(text_tower: str, length: int) -> int:
    with META:
        tower = build_open_clip_text_tower(text_tower, length, 2)
        caption = torch.zeros(1, length, dtype=torch.int64)
        return count_forward_flops(tower, caption)


def _mean_image_flops(experiment: Experiment) -> int:
    """Return the FLOPs of one image, the mean over the images of a training."""
    with META:
        tower = build_untrained_tower(experiment)
    compute_all_tokens_in_last_block(tower)
    images = {
        side: experiment.device_batch_size_at(side) for side in experiment.image.all_image_sizes
    }
    total = sum(
        number * count_flops_of_one_image(tower, tower.channels, side)
        for side, number in images.items()
    )
    return total // sum(images.values())
