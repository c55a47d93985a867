"""Recipes have the released values; a published pair is compared only knowingly, and the table says what differs."""

from collections.abc import Sequence
from statistics import fmean

import pytest

from bench.data.caption_lengths import web_caption_length_quantiles
from bench.experiment.config import (
    MAY_DIFFER,
    Experiment,
    change,
    differing_values_by_field,
    require_comparable_experiments,
)
from bench.experiment.experiments import EXPERIMENTS
from bench.measure.costs import count_parameters_and_forward_flops
from tests.released_flops import forward_flops_as_released

PUBLISHED_H16 = [EXPERIMENTS["clip-vit-h16-datacomp"], EXPERIMENTS["catlip-vit-h16-datacomp"]]
PUBLISHED = [EXPERIMENTS["clip-vit-b16-datacomp"], EXPERIMENTS["catlip-vit-b16-datacomp"]]
CONTROLLED = [EXPERIMENTS["clip-vit-b16-controlled"], EXPERIMENTS["catlip-vit-b16-controlled"]]


@pytest.mark.parametrize(
    ("name", "devices", "batches", "gflop", "images"),
    [
        ("clip-vit-b16-datacomp", 256, 1.029, 34.4, 13.5e9),
        ("catlip-vit-b16-datacomp", 64, 1.272, 27.7, 16.7e9),
    ],
)
def test_multi_scale_sampler_has_the_released_flops(
    name: str, devices: int, batches: float, gflop: float, images: float
) -> None:
    """Mean images of a step over the base batch, and image-tower GFLOPs of the mean image.

    The figures are those of `image_batch_pairs` run on the released settings, each size's FLOPs weighted by its batch.
    The FLOPs are timm's: its ViT computes all tokens.
    """
    experiment = change(EXPERIMENTS[name], tower="vit_base_patch16_224")
    assert experiment.mean_device_batch_size / experiment.training.batch_size == pytest.approx(
        batches, abs=5e-4
    )
    assert count_parameters_and_forward_flops(experiment).image_flops / 1e9 == pytest.approx(
        gflop, abs=0.05
    )
    assert experiment.training.images_seen == pytest.approx(images, rel=0.01)
    assert (
        experiment.training.images_seen / devices / experiment.mean_device_batch_size
        == pytest.approx(200_000)
    )
    assert experiment.training.warmup_images == pytest.approx(
        experiment.training.images_seen / 20, abs=1
    )


SIDES_BY_METHOD = {"clip": range(160, 321, 32), "catlip": range(128, 321, 16)}


def transformer_flops(tokens: int, width: int, layers: int) -> int:
    """Two for each product: 12 squares of the width for each token, and each token's scores and sums with all."""
    return 2 * layers * tokens * (12 * width**2 + 2 * tokens * width)


def image_flops(side: int, width: int, layers: int) -> int:
    """The stem of convolutions of 4, 2 and 2 px, to a quarter, a quarter and all of the width; then the blocks."""
    patches, stem, pixels = (side // 16) ** 2, width // 4, 4 * 4 * 3
    convolutions = patches * (16 * pixels * stem + 4 * 4 * stem**2 + 4 * stem * width)
    return 2 * convolutions + transformer_flops(patches + 1, width, layers)


def hand_counted(
    method: str, batch: int, text_lengths: Sequence[int], sizes: tuple[int, ...], sides: range
) -> float:
    """The FLOPs of an image with its caption; `sizes` are widths and layers, of towers and projection."""
    width, layers, text_width, text_layers, projected = sizes
    images = {side: int(round(batch * 224**2 / side**2, 2)) for side in sides}
    of_images = sum(
        count * image_flops(side, width, layers) for side, count in images.items()
    ) / sum(images.values())
    if method == "catlip":
        return of_images + 2 * width * 24_320
    texts = [transformer_flops(length, text_width, text_layers) for length in text_lengths]
    return of_images + fmean(texts) + 2 * text_width * projected


@pytest.mark.parametrize(
    ("pair", "sizes", "ratios"),
    [
        (PUBLISHED, (768, 12, 512, 12, 512), (1.17, 1.04, 1.45)),
        pytest.param(
            PUBLISHED_H16,
            (1280, 32, 768, 12, 512),
            (1.05, 1.01, 1.30),
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_counted_flop_ratios_equal_a_count_by_hand(
    pair: list[Experiment], sizes: tuple[int, ...], ratios: tuple[float, ...]
) -> None:
    """At 224 px; there with captions that are not padded; and at the image sizes of each recipe."""
    web, padded = web_caption_length_quantiles(1000), (77,)
    kinds = [(padded, False), ([min(77, length) for length in web], False), (padded, True)]
    for (lengths, has_sizes), ratio in zip(kinds, ratios, strict=True):
        by_hand, counted = list[float](), list[int]()
        for one in pair:
            sides = SIDES_BY_METHOD[one.method] if has_sizes else range(224, 225)
            by_hand.append(hand_counted(one.method, one.training.batch_size, lengths, sizes, sides))
            experiment = one if has_sizes else change(one, random_image_sizes=())
            counted.append(forward_flops_as_released(experiment, lengths))
        assert counted == pytest.approx(by_hand, rel=1e-6)
        assert counted[0] / counted[1] == pytest.approx(ratio, abs=0.005)


def test_controlled_pair_differs_only_in_the_method() -> None:
    require_comparable_experiments(CONTROLLED)
    assert {*differing_values_by_field(CONTROLLED)} == {"method"} <= {*MAY_DIFFER}


def test_published_pair_needs_allow_differences() -> None:
    with pytest.raises(
        ValueError,
        match=r"they differ in random_image_sizes: .*batch_size: 256 / 1024.*--allow-differences",
    ):
        require_comparable_experiments(PUBLISHED)
