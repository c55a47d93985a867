"""Recipes have the released values; a published pair is compared only knowingly, and the table says what differs."""

from typing import Any

import pytest
from msgspec.structs import asdict, replace

from bench.config import MAY_DIFFER, Experiment, differing_fields, require_comparable_experiments
from bench.experiments import EXPERIMENTS, METHOD_SETTINGS, SCALES
from bench.measure.costs import count_costs
from bench.measure.tables import speed_table
from bench.recipes import RECIPES
from bench.record import Record
from tests.small import circumstances
from tests.speeds import speed

# apple/corenet at 1aa3acd, the values of the yaml files; None: the key is not there.
CLIP_YAML: dict[str, Any] = {
    "batch_size": 256,  # dataset.train_batch_size0
    "crop_scale": (0.9, 1.0),  # image_augmentation.random_resized_crop.scale
    "flip": False,  # image_augmentation.random_horizontal_flip.enable
    "image_sizes": (160, 192, 224, 256, 288, 320),  # sampler.vbs: 5 scales of 160 to 320, check_scale 32, base 224
    "context_length": 77,
    "betas": (0.9, 0.98),  # optim.adamw.beta1, beta2
    "eps": 1e-6,
    "weight_decay": 0.2,
    "learning_rate": 0.001,  # scheduler.cosine.max_lr
    "min_learning_rate": 1e-6,  # scheduler.cosine.min_lr
    "schedule": "cosine",
    "clip_norm": None,  # common.grad_clip
    "ema_decay": 1 - 0.0005,  # 1 - ema.momentum
    "activation_checkpointing": True,  # model.activation_checkpointing
    "head_rows": None,
}
CATLIP_YAML: dict[str, Any] = CLIP_YAML | {
    "batch_size": 1024,
    "crop_scale": (0.08, 1.0),  # the default
    "flip": True,
    # 25 scales of 128 to 320, check_scale 16
    "image_sizes": (128, 144, 160, 176, 192, 208, 224, 240, 256, 272, 288, 304, 320),
    "betas": (0.9, 0.999),
    "eps": 1e-8,  # the default of optim.eps
    "min_learning_rate": 0.00001,
    "clip_norm": 1.0,
    "head_rows": 24320,  # _anchor_vocab_size
    "precision": "bf16",  # common.mixed_precision_dtype
}
LARGE = {"batch_size": 512, "learning_rate": 0.0006, "min_learning_rate": 0.000006}
HUGE = {"batch_size": 256, "learning_rate": 0.0004, "min_learning_rate": 0.000004}
CC3M = {"batch_size": 512, "images": 290_000_000, "weight_decay": 0.2}  # the paper's table 6a
CC3M_CLIP = {"learning_rate": 5e-4, "min_learning_rate": 1e-6, "betas": (0.9, 0.98)}
CC3M_CATLIP = {"learning_rate": 2e-3, "min_learning_rate": 2e-5, "betas": (0.9, 0.999), "head_rows": None}
RELEASED: dict[str, dict[str, Any]] = {
    "clip-vit-b16-datacomp": CLIP_YAML,
    "catlip-vit-b16-datacomp": CATLIP_YAML,
    "catlip-vit-l16-datacomp": CATLIP_YAML | LARGE,
    "catlip-vit-h16-datacomp": CATLIP_YAML | HUGE,
    "clip-vit-b16-cc3m": CLIP_YAML | CC3M | CC3M_CLIP,
    "catlip-vit-b16-cc3m": CATLIP_YAML | CC3M | CC3M_CATLIP,
    # x-cls/superclass at 90b761f, cls_vit_b16_s1.28B_bs16k.yaml and the defaults of params.py and transform.py
    "superclass-vit-b16-datacomp": {
        "images": 1_280_000_000,
        "warmup_images": 8_192_000,  # 500 steps of 16,384
        "learning_rate": 5e-4,
        "min_learning_rate": 0.0,
        "betas": (0.9, 0.98),
        "eps": 1e-6,
        "weight_decay": 0.2,
        "clip_norm": None,
        "ema_decay": None,
        "crop_scale": (0.9, 1.0),
        "flip": False,
        "image_size": 224,
        "image_sizes": (),
        "pooling": "mean",  # pool_type of CLS-ViT-B-16.json
        "precision": "bf16",
        "activation_checkpointing": True,
        "schedule": "cosine",
        "subword_vocabulary": "all",
    },
}
PUBLISHED = [EXPERIMENTS["clip-vit-b16-datacomp"], EXPERIMENTS["catlip-vit-b16-datacomp"]]
CONTROLLED = [EXPERIMENTS["clip-vit-b16-controlled"], EXPERIMENTS["catlip-vit-b16-controlled"]]


@pytest.mark.parametrize("name", RELEASED)
def test_recipes_have_the_released_values(name: str) -> None:
    fields = asdict(EXPERIMENTS[name])
    assert {field: fields[field] for field in RELEASED[name]} == RELEASED[name]


def test_recipe_names_are_distinct_from_scale_names() -> None:
    names = [recipe().name for recipe in RECIPES]
    assert len(names) == len({*names}) == len(RELEASED) + len(CONTROLLED)
    assert len(EXPERIMENTS) == len(names) + len(METHOD_SETTINGS) * len(SCALES)
    assert all(recipe.__name__ == recipe().name.replace("-", "_") and recipe.__doc__ for recipe in RECIPES)


@pytest.mark.parametrize(
    ("name", "devices", "batches", "gflop", "images"),
    [("clip-vit-b16-datacomp", 256, 1.029, 34.4, 13.5e9), ("catlip-vit-b16-datacomp", 64, 1.272, 27.7, 16.7e9)],
)
def test_multi_scale_sampler_has_the_released_flops(
    name: str, devices: int, batches: float, gflop: float, images: float
) -> None:
    """Mean images of a step over the base batch, and image-tower GFLOPs of the mean image.

    The figures are those of `image_batch_pairs` run on the released settings, each size's FLOPs weighted by its batch.
    """
    experiment = EXPERIMENTS[name]
    assert experiment.mean_batch_size / experiment.batch_size == pytest.approx(batches, abs=5e-4)
    assert count_costs(experiment).image_flops / 1e9 == pytest.approx(gflop, abs=0.05)
    assert experiment.images == pytest.approx(images, rel=0.01)
    assert experiment.images / devices / experiment.mean_batch_size == pytest.approx(200_000)
    assert experiment.warmup_images == pytest.approx(experiment.images / 20, abs=1)


def test_flops_explain_only_part_of_the_published_ratio() -> None:
    """By FLOPs with its sampler CatLIP is 1.45 times as cheap; the text tower alone makes 1.17."""
    clip, catlip = map(count_costs, PUBLISHED)
    assert (clip.image_flops + clip.text_flops) / catlip.image_flops == pytest.approx(1.45, abs=0.02)


def test_recipe_windows_have_balanced_image_sizes() -> None:
    for recipe in RECIPES:
        experiment = recipe()
        assert experiment.steps_per_window % len(experiment.all_image_sizes) == 0
        assert experiment.warmup_steps % len(experiment.all_image_sizes) == 0


def test_controlled_pair_differs_only_in_the_method() -> None:
    require_comparable_experiments(CONTROLLED)
    assert {*differing_fields(CONTROLLED)} == {"method", "head_rows"} <= {*MAY_DIFFER}


def test_published_pair_needs_allow_differences() -> None:
    with pytest.raises(ValueError, match=r"they differ in image_sizes: .*batch_size: 256 / 1024.*--allow-differences"):
        require_comparable_experiments(PUBLISHED)


def timed(experiment: Experiment, round_: int) -> Record:
    where = circumstances(precision="bf16")
    measured = speed(round=round_, window_seconds=(1.0 + round_,))
    return Record(comparison="c", experiment=experiment, circumstances=where, measured=measured)


def test_the_table_of_a_published_pair_lists_what_differs_beside_the_method() -> None:
    records, names = [timed(one, k) for one in PUBLISHED for k in range(2)], [one.name for one in PUBLISHED]
    with pytest.raises(ValueError, match="cannot be compared"):
        speed_table("t", records, names)
    note = speed_table("t", records, names, allow_differences=True).note
    for field, values in differing_fields(PUBLISHED).items():
        listed = f"\n  {field}: {' / '.join(map(str, values))}" in note
        assert listed == (field not in MAY_DIFFER)
    separate = [timed(one, k) for one in CONTROLLED for k in range(2)]
    for published in (True, False):
        assert (
            "also differ"
            not in speed_table("t", separate, [one.name for one in CONTROLLED], allow_differences=published).note
        )


def test_records_of_other_machines_are_refused_even_with_allowed_differences() -> None:
    records = [timed(PUBLISHED[0], 0), timed(PUBLISHED[1], 0)]
    elsewhere = replace(records[1], circumstances=replace(records[1].circumstances, machine="other"))
    with pytest.raises(ValueError, match="they differ in machine"):
        speed_table("t", [records[0], elsewhere], [one.name for one in PUBLISHED], allow_differences=True)
