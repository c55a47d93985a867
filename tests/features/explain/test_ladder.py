"""A ladder leads from one experiment to another, and neighbours on it differ in one thing."""

import re
from itertools import pairwise

import pytest

from bench.experiment.config import change, differing_fields, get_field
from bench.experiment.experiments import EXPERIMENTS, get_experiment
from bench.experiment.recipes import multi_scale
from bench.features.explain.factors import FACTORS, catlip_sizes, select_factors
from bench.features.explain.ladder import (
    HEAD,
    PADDING,
    RECIPE_FIELDS,
    REST,
    TEXT_TOWER,
    build_ladder,
    stages_between,
)
from bench.interfaces.method import METHODS
from tests.features.explain.ladders import ladder_of

TINY = {
    name.removesuffix("-tiny"): one for name, one in EXPERIMENTS.items() if name.endswith("-tiny")
}


def test_ladder_from_clip_to_catlip_has_four_configurations() -> None:
    ladder, configurations = ladder_of()
    assert ladder.causes == (PADDING, TEXT_TOWER, HEAD)
    assert [one.name for one in configurations] == [
        "clip-tiny[text_padding=max_length]",
        "clip-tiny",
        "clip-tiny[text_features=stored]",
        "catlip-tiny",
    ]
    changed = [{*differing_fields(pair)} for pair in pairwise(configurations)]
    assert changed == [
        {"text_padding"},
        {"text_features"},
        {"method", "text_features", "learning_rate", "head_initialisation"},
    ]


def test_factors_change_one_after_the_other_and_then_the_objective() -> None:
    ladder, configurations = ladder_of(chosen=["kernel", "batch", "injected_slowdown=0.5"])
    assert ladder.causes == ("kernel", "batch", "injected_slowdown", PADDING, TEXT_TOWER, HEAD)
    changed = [
        {*differing_fields(pair)} - {"warmup_steps", "steps_per_window"}
        for pair in pairwise(configurations)
    ]
    assert changed[:3] == [{"attention"}, {"batch_size"}, {"injected_slowdown"}]
    assert configurations[0].runtime.attention == "fp32_softmax"
    assert (
        configurations[0].training.batch_size * 4
        == configurations[-1].training.batch_size
        == TINY["catlip"].training.batch_size
    )
    assert configurations[0].timing.injected_slowdown == 0.5
    end, named = configurations[-1], TINY["catlip"]
    assert {*differing_fields([end, named])} <= {"warmup_steps", "windows", "steps_per_window"}
    assert len({one.name for one in configurations}) == len(configurations) == 7


def test_rest_of_the_recipe_changes_in_one_stage_before_the_objective() -> None:
    """So the last stage is head and loss alone: what is left there is no work of a step."""
    ladder, configurations = ladder_of(
        settings=["clip_norm=null", "crop_scale=[0.9,1]", "flip=false", "workers=1", "eps=1e-8"]
    )
    assert ladder.causes == (REST, PADDING, TEXT_TOWER, HEAD)
    changed = [{*differing_fields(pair)} for pair in pairwise(configurations)]
    assert changed[:3] == [
        {"clip_norm", "crop_scale", "flip", "workers"},
        {"text_padding"},
        {"text_features"},
    ]
    assert changed[3] == {"method", "text_features", "learning_rate", "head_initialisation", "eps"}
    assert len({one.name for one in configurations}) == len(configurations) == 5
    assert not {*changed[3]} & {*RECIPE_FIELDS}


def test_recipe_factor_is_not_part_of_the_rest() -> None:
    ladder, configurations = ladder_of(chosen=["flip=false"], settings=["flip=false"])
    assert ladder.causes == ("flip", PADDING, TEXT_TOWER, HEAD)
    assert [one.input.flip for one in configurations] == [False, True, True, True, True]


def test_same_method_in_two_recipes_has_a_rest_stage() -> None:
    ladder, configurations = ladder_of("clip-tiny", "clip-tiny", settings=["ema_decay=0.9"])
    assert ladder.causes == (REST,)
    assert [one.optimizer.ema_decay for one in configurations] == [0.9, None]


def test_configurations_take_similar_images_and_balanced_sizes() -> None:
    first = change(TINY["catlip"], tower="vit_tiny_patch16_224")
    against = change(TINY["clip"], tower="vit_tiny_patch16_224")
    factors, _ = select_factors(against, first, ["sampler", "batch"], on_gpu=False)
    assert factors[0].after == "image_sizes=[32, 48, 64]"
    _, configurations = build_ladder(stages_between(against, first), factors, pace=first)
    pace = 2 * first.images_per_window
    for one in configurations:
        assert (
            one.timing.steps_per_window % len(one.image.all_image_sizes)
            == one.timing.warmup_steps % len(one.image.all_image_sizes)
            == 0
        )
        assert one.timing.steps_per_window * one.training.batch_size == pytest.approx(pace, rel=0.5)


@pytest.mark.parametrize(
    ("against", "first", "causes"),
    [
        ("siglip", "superclass", (PADDING, TEXT_TOWER, HEAD)),
        ("clip", "siglip", ("loss",)),
        ("catlip", "superclass", (f"labels, {HEAD}",)),
        ("superclass", "catlip", (f"labels, {HEAD}",)),
    ],
)
def test_other_pairs_have_ladders_where_there_is_one(
    against: str, first: str, causes: tuple[str, ...]
) -> None:
    assert tuple(stage.cause for stage in stages_between(TINY[against], TINY[first])[1:]) == causes


def test_pooling_is_a_factor_of_its_own_and_not_part_of_the_head() -> None:
    ladder, configurations = ladder_of("superclass-tiny")
    assert ladder.causes == ("pooling", PADDING, TEXT_TOWER, HEAD)
    assert [one.image.pooling for one in configurations] == ["own", *["mean"] * 4]
    changed = [{*differing_fields(pair)} for pair in pairwise(configurations)]
    assert changed[0] == {"pooling"}
    assert changed[-1] == {"method", "text_features", "learning_rate"}
    assert ladder_of("superclass-cls-tiny")[0].causes == (PADDING, TEXT_TOWER, HEAD)
    assert ladder_of("superclass-tiny", "superclass-cls-tiny")[0].causes == ("pooling",)


def test_same_method_ladder_has_the_differing_factors() -> None:
    ladder, configurations = ladder_of("flip-tiny", "clip-tiny")
    assert ladder.causes == ("patch_drop",)
    assert [one.image.patch_drop for one in configurations] == [0.0, 0.5]


@pytest.mark.parametrize(
    ("against", "first", "text"),
    [
        (
            "catlip",
            "clip",
            "from a text tower to none: explain catlip-tiny --baseline clip-tiny, not the reverse",
        ),
        (
            "clip",
            "superclip",
            "no ladder leads from clip to superclip: superclip adds to a pair of towers",
        ),
        (
            "distill",
            "catlip",
            "no ladder leads from distill to catlip: distill learns from another tower",
        ),
    ],
)
def test_a_pair_without_a_ladder_is_refused_with_the_reason(
    against: str, first: str, text: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        stages_between(TINY[against], TINY[first])


def test_two_towers_have_no_ladder() -> None:
    with pytest.raises(
        ValueError, match=r"one tower and one data set, these differ in tower: .*; text_tower: "
    ):
        stages_between(EXPERIMENTS["clip-vit-b32"], EXPERIMENTS["catlip-vit-b16"])


def test_identical_experiments_have_no_ladder() -> None:
    with pytest.raises(ValueError, match="catlip-tiny differs from the other in nothing"):
        ladder_of("catlip-tiny", "catlip-tiny")


def test_padded_text_towers_skip_the_padding_stage() -> None:
    stages = stages_between(TINY["clip"], TINY["catlip"], "it pools a class token")
    assert [stage.cause for stage in stages] == ["", TEXT_TOWER, HEAD]


# Factors


def test_factors_without_effect_on_a_cpu_are_left_out_unless_given_by_value() -> None:
    pair = TINY["clip"], TINY["catlip"]
    factors, left_out = select_factors(*pair, ["precision", "compile", "kernel"], on_gpu=False)
    assert [factor.name for factor in factors] == ["kernel"]
    assert {*left_out} == {"precision", "compile"}
    factors, left_out = select_factors(*pair, ["precision=bf16"], on_gpu=False)
    assert [(one.name, one.before, one.after) for one in factors] == [
        ("precision", "precision=bf16", "precision=fp32")
    ]
    assert {*left_out} == {"compile"}


def test_setting_already_present_is_no_factor() -> None:
    pair = [change(EXPERIMENTS[name], ema_decay=0.9) for name in ("clip-vit-b16", "catlip-vit-b16")]
    factors, left_out = select_factors(*pair, [*FACTORS], on_gpu=True)
    assert [factor.name for factor in factors] == [*FACTORS]
    assert not left_out
    factors, left_out = select_factors(
        TINY["clip"], TINY["catlip"], ["compile", "attention=fused"], on_gpu=True
    )
    assert not factors
    assert left_out == {
        "compile": "catlip-tiny has compile=off already",
        "kernel": "catlip-tiny has attention=fused already",
    }


def test_published_pair_has_factors_for_all_that_its_recipes_compute_otherwise() -> None:
    pair = get_experiment("clip-vit-b16-datacomp"), get_experiment("catlip-vit-b16-datacomp")
    factors, _ = select_factors(*pair, ["kernel", "global_negatives"], on_gpu=True)
    assert {factor.name: factor.before for factor in factors} == {
        "sampler": "image_sizes=[160, 192, 224, 256, 288, 320]",
        "gather": "gather=both",
        "batch": "batch_size=256",
        "grad_norm": "log_grad_norm=true",
        "precision": "precision=fp16",
        "kernel": "attention=fp32_softmax",
        "global_negatives": "simulated_global_batch=65536",
    }
    assert (
        catlip_sizes(224)
        == pair[1].image.image_sizes
        == multi_scale(128, 320, scales=25, multiple=16, base=224)
    )


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("kernel", ("attention", "fp32_softmax", "fused")),
        ("gather", ("gather", "both", "captions")),
        ("optimizer", ("optimizer_kernel", "foreach", "fused")),
        ("ema", ("ema_kernel", "for_loop", "foreach")),
        ("grad_norm", ("log_grad_norm", True, False)),
    ],
)
def test_factor_leads_from_the_released_form_and_is_not_part_of_the_rest(
    name: str, change: tuple[str, object, object]
) -> None:
    field, before, after = change
    ladder, configurations = ladder_of(chosen=[name], settings=["ema_decay=0.9", "clip_norm=null"])
    assert ladder.causes == (name, REST, PADDING, TEXT_TOWER, HEAD)
    assert [get_field(one, field) for one in configurations] == [before, *[after] * 5]
    assert {*differing_fields(configurations[:2])} == {field}


@pytest.mark.parametrize(
    ("name", "against", "reason"),
    [
        ("ema", "clip", "clip-tiny has no moving average (--set ema_decay=0.9995)"),
        ("gather", "siglip", "siglip does not gather images"),
        ("gather", "catlip", "catlip does not gather images"),
    ],
)
def test_factor_that_the_baseline_does_not_compute_is_left_out(
    name: str, against: str, reason: str
) -> None:
    factors, left_out = select_factors(TINY[against], TINY["superclass"], [name], on_gpu=False)
    assert name not in {factor.name for factor in factors}
    assert left_out[name] == reason


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ("kernal", "no factor (or FIELD=VALUE) named 'kernal'; did you mean 'kernel'"),
        ("batch_sise=4", "'batch_sise'; did you mean 'batch_size'"),
        ("batch_size=many", "batch_size=many: Expected `int`"),
        ("method=clip", "no factor named 'method'"),
        ("tower=ViT-B-16", "no factor named 'tower'"),
        ("windows=3", "no factor named 'windows'"),
    ],
)
def test_unknown_factor_is_refused_with_a_message(chosen: str, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        select_factors(TINY["clip"], TINY["catlip"], [chosen], on_gpu=True)


def test_only_dual_encoders_use_stored_features() -> None:
    assert all(
        "text_features=stored" in stage.settings
        for stage in stages_between(TINY["clip"], TINY["catlip"])[2:3]
    )
    assert [name for name, one in METHODS.items() if one.ladder_role == "pair"] == [
        "clip",
        "siglip",
    ]
