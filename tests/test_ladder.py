"""A ladder leads from one experiment to another, and neighbours on it differ in one thing."""

import re
from itertools import pairwise

import pytest
from msgspec.structs import replace

from bench.config import differing_fields
from bench.experiments import EXPERIMENTS, experiment_named
from bench.explain.factors import NAMES, catlip_sizes, factors_of
from bench.image_sizes import multi_scale
from bench.ladder import (
    HEAD,
    PADDING,
    PAIRED,
    RECIPE,
    REST,
    TEXT_TOWER,
    all_cells,
    build,
    chain_of,
    rungs_between,
)
from tests.ladders import ladder_of

TINY = {name.removesuffix("-tiny"): one for name, one in EXPERIMENTS.items() if name.endswith("-tiny")}


def test_from_clip_to_catlip_there_are_four_cells() -> None:
    ladder, cells = ladder_of()
    assert ladder.causes == (PADDING, TEXT_TOWER, HEAD)
    assert [one.name for one in cells] == [
        "clip-tiny[text_padding=full]",
        "clip-tiny",
        "clip-tiny[text_features=stored]",
        "catlip-tiny",
    ]
    changed = [{*differing_fields(pair)} for pair in pairwise(cells)]
    assert changed == [{"text_padding"}, {"text_features"}, {"method", "text_features", "learning_rate"}]


def test_factors_change_one_after_the_other_and_then_the_objective() -> None:
    ladder, cells = ladder_of(chosen=["kernel", "batch", "planted_delay=0.5"])
    assert ladder.steps == ("kernel", "batch", "planted_delay", PADDING, TEXT_TOWER, HEAD)
    changed = [{*differing_fields(pair)} - {"warmup_steps", "steps_per_window"} for pair in pairwise(cells)]
    assert changed[:3] == [{"attention"}, {"batch_size"}, {"planted_delay"}]
    assert cells[0].attention == "plain"
    assert cells[0].batch_size * 4 == cells[-1].batch_size == TINY["catlip"].batch_size
    assert cells[0].planted_delay == 0.5
    end, named = cells[-1], TINY["catlip"]
    assert {*differing_fields([end, named])} <= {"warmup_steps", "windows", "steps_per_window"}
    assert len({one.name for one in cells}) == len(cells) == 7


def test_what_else_of_the_recipe_differs_changes_at_once_before_the_objective() -> None:
    """So the last rung is head and loss alone: what is left there is no work of a step."""
    ladder, cells = ladder_of(settings=["clip_norm=null", "crop_scale=[0.9,1]", "flip=false", "workers=1", "eps=1e-8"])
    assert ladder.causes == (REST, PADDING, TEXT_TOWER, HEAD)
    changed = [{*differing_fields(pair)} for pair in pairwise(cells)]
    assert changed[:3] == [{"clip_norm", "crop_scale", "flip", "workers"}, {"text_padding"}, {"text_features"}]
    assert changed[3] == {"method", "text_features", "learning_rate", "eps"}
    assert len({one.name for one in cells}) == len(cells) == 5
    assert not {*changed[3]} & {*RECIPE}


def test_a_factor_of_the_recipe_is_no_part_of_its_rest() -> None:
    ladder, cells = ladder_of(chosen=["flip=false"], settings=["flip=false"])
    assert ladder.steps == ("flip", PADDING, TEXT_TOWER, HEAD)
    assert [one.flip for one in cells] == [False, True, True, True, True]


def test_a_method_against_itself_has_the_recipes_rest() -> None:
    ladder, cells = ladder_of("clip-tiny", "clip-tiny", settings=["ema_decay=0.9"])
    assert (ladder.causes, ladder.steps) == ((REST,), (REST,))
    assert [one.ema_decay for one in cells] == [0.9, None]


def test_all_combinations_have_every_rung() -> None:
    ladder, cells = ladder_of(chosen=["kernel", "columns"], whole=True)
    assert len(cells) == len({one.name for one in cells}) == 16
    assert ladder.is_whole
    assert {cell.coordinates for cell in ladder.cells} == {*all_cells(3, ["kernel", "columns"])}
    for cell, one in zip(ladder.cells, cells, strict=True):
        assert (one.attention == "fused") == ("kernel" in cell.after)
        assert (one.simulated_batch is None) == ("columns" in cell.after)
        assert (one.method == "catlip") == (cell.rung == 3)
    assert tuple(cell.coordinates for cell in ladder.cells[:6]) == chain_of(3, ["kernel", "columns"]) == ladder.chain
    assert not ladder_of(chosen=["kernel", "columns"])[0].is_whole


def test_every_cell_takes_about_as_many_images_and_every_size_as_often() -> None:
    first = replace(TINY["catlip"], tower="vit_tiny_patch16_224")
    against = replace(TINY["clip"], tower="vit_tiny_patch16_224")
    factors, _ = factors_of(against, first, ["sampler", "batch"], on_gpu=False)
    ladder, cells = build(rungs_between(against, first), factors, whole=True, pace=first)
    assert ladder.factors[0].after == "image_sizes=[32, 48, 64]"
    pace = 2 * first.images_per_window
    for one in cells:
        assert one.steps_per_window % len(one.sides) == one.warmup_steps % len(one.sides) == 0
        assert one.steps_per_window * one.batch_size == pytest.approx(pace, rel=0.5)


@pytest.mark.parametrize(
    ("against", "first", "causes"),
    [
        ("siglip", "superclass", (PADDING, TEXT_TOWER, HEAD)),
        ("clip", "siglip", ("loss",)),
        ("catlip", "superclass", (f"labels, {HEAD}",)),
        ("superclass", "catlip", (f"labels, {HEAD}",)),
    ],
)
def test_other_pairs_have_ladders_where_there_is_one(against: str, first: str, causes: tuple[str, ...]) -> None:
    assert tuple(rung.cause for rung in rungs_between(TINY[against], TINY[first])[1:]) == causes


def test_a_method_against_itself_has_the_factors_in_which_it_differs() -> None:
    ladder, cells = ladder_of("flip-tiny", "clip-tiny")
    assert (ladder.causes, ladder.steps) == ((), ("patch_drop",))
    assert [one.patch_drop for one in cells] == [0.0, 0.5]


@pytest.mark.parametrize(
    ("against", "first", "told"),
    [
        ("catlip", "clip", "from a text tower to none: explain catlip-tiny --against clip-tiny, not the reverse"),
        ("clip", "superclip", "no ladder leads from clip to superclip: superclip adds to a pair of towers"),
        ("distill", "catlip", "no ladder leads from distill to catlip: distill learns from another tower"),
    ],
)
def test_a_pair_without_a_ladder_is_refused_with_the_reason(against: str, first: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        rungs_between(TINY[against], TINY[first])


def test_two_towers_have_no_ladder() -> None:
    with pytest.raises(ValueError, match=r"one tower and one data set, these differ in tower: .*; text_tower: "):
        rungs_between(EXPERIMENTS["clip-vit-b32"], EXPERIMENTS["catlip-vit-b16"])


def test_an_experiment_against_itself_has_nothing_to_take_apart() -> None:
    with pytest.raises(ValueError, match="catlip-tiny differs from the other in nothing"):
        ladder_of("catlip-tiny", "catlip-tiny")


def test_five_factors_are_too_many_to_combine() -> None:
    five = ["kernel", "checkpointing", "batch", "columns", "planted_delay=1"]
    with pytest.raises(ValueError, match="at most 4 factors are combined, got kernel, checkpointing"):
        ladder_of(chosen=five, whole=True)
    assert len(ladder_of(chosen=five)[1]) == 9


def test_captions_that_cannot_be_cut_leave_a_rung_out() -> None:
    rungs = rungs_between(TINY["clip"], TINY["catlip"], "it pools a class token")
    assert [rung.cause for rung in rungs] == ["", TEXT_TOWER, HEAD]


# Factors


def test_what_a_cpu_cannot_show_is_left_out_with_the_reason_unless_it_is_asked_for_by_value() -> None:
    pair = TINY["clip"], TINY["catlip"]
    factors, left_out = factors_of(*pair, ["precision", "compile", "kernel"], on_gpu=False)
    assert [factor.name for factor in factors] == ["kernel"]
    assert {*left_out} == {"precision", "compile"}
    factors, left_out = factors_of(*pair, ["precision=bf16"], on_gpu=False)
    assert [(one.name, one.before, one.after) for one in factors] == [("precision", "precision=bf16", "precision=fp32")]
    assert {*left_out} == {"compile"}


def test_what_an_experiment_has_already_is_no_factor() -> None:
    pair = EXPERIMENTS["clip-vit-b16"], EXPERIMENTS["catlip-vit-b16"]
    factors, left_out = factors_of(*pair, [*NAMES], on_gpu=True)
    assert [factor.name for factor in factors] == [*NAMES]
    assert not left_out
    factors, left_out = factors_of(TINY["clip"], TINY["catlip"], ["compile", "attention=fused"], on_gpu=True)
    assert not factors
    assert left_out == {
        "compile": "catlip-tiny itself has compile=off",
        "kernel": "catlip-tiny itself has attention=fused",
    }


def test_the_published_pair_differs_in_sampler_and_batch() -> None:
    pair = experiment_named("clip-vit-b16-datacomp"), experiment_named("catlip-vit-b16-datacomp")
    factors, _ = factors_of(*pair, ["kernel", "columns"], on_gpu=True)
    assert {factor.name: factor.before for factor in factors} == {
        "sampler": "image_sizes=[160, 192, 224, 256, 288, 320]",
        "batch": "batch_size=256",
        "kernel": "attention=plain",
        "columns": "simulated_batch=65536",
    }
    assert catlip_sizes(224) == pair[1].image_sizes == multi_scale(128, 320, scales=25, multiple=16, base=224)


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ("kernal", "no factor (or FIELD=VALUE) named 'kernal'; did you mean 'kernel'"),
        ("batch_sise=4", "'batch_sise'; did you mean 'batch_size'"),
        ("batch_size=many", "batch_size=many: Expected `int`"),
        ("method=clip", "no factor named 'method'"),
        ("tower=ViT-B-16", "no factor named 'tower'"),
        ("windows=3", "no factor named 'windows'"),
    ],
)
def test_a_factor_that_there_is_not_is_refused_in_words(chosen: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        factors_of(TINY["clip"], TINY["catlip"], [chosen], on_gpu=True)


def test_only_pairs_of_towers_read_stored_features() -> None:
    assert all("text_features=stored" in rung.settings for rung in rungs_between(TINY["clip"], TINY["catlip"])[2:3])
    assert PAIRED == ("clip", "siglip")
