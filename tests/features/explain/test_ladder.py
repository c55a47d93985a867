"""A ladder leads from one experiment to another, and neighbours on it differ in one thing."""

import re
from itertools import pairwise

import pytest

from bench.experiment.config import (
    Experiment,
    change,
    differing_values_by_field,
    get_field,
)
from bench.experiment.experiments import EXPERIMENTS
from bench.features.explain.ladder import (
    HEAD,
    PADDING,
    RECIPE_FIELDS,
    REST,
    TEXT_TOWER,
    plan_ladder,
)
from tests.features.explain.ladders import causes_of, ladder_of

PACE = {"untimed_steps", "timed_windows", "steps_per_window"}


def changed_fields(experiments: list[Experiment]) -> list[set[str]]:
    """Return the fields that change from each experiment to the next, without the pace of timing."""
    return [{*differing_values_by_field(pair)} - PACE for pair in pairwise(experiments)]


def test_ladder_from_clip_to_catlip_has_four_experiments() -> None:
    ladder, experiments = ladder_of()
    assert causes_of(ladder) == (PADDING, TEXT_TOWER, HEAD)
    assert [experiment.name for experiment in experiments] == [
        "clip-tiny[text_padding=max_length]",
        "clip-tiny",
        "clip-tiny[text_features=random]",
        "catlip-tiny",
    ]
    assert changed_fields(experiments) == [
        {"text_padding"},
        {"text_features"},
        {"method", "text_features", "learning_rate", "synset_head_initialisation"},
    ]


def test_factors_change_one_after_the_other_and_then_the_objective() -> None:
    chosen = ["attention=fp32_softmax", "batch_size=32", "injected_slowdown=0.5"]
    ladder, experiments = ladder_of(chosen=chosen)
    factors = ("attention", "batch_size", "injected_slowdown")
    assert causes_of(ladder) == (*factors, PADDING, TEXT_TOWER, HEAD)
    assert ladder.rungs[1].change == "fp32_softmax -> fused"
    assert changed_fields(experiments)[:3] == [{field} for field in factors]
    assert [get_field(experiments[0], field) for field in factors] == ["fp32_softmax", 32, 0.5]
    assert not {*differing_values_by_field([experiments[-1], EXPERIMENTS["catlip-tiny"]])} - PACE
    assert len({experiment.name for experiment in experiments}) == len(experiments) == 7


def test_rest_of_the_recipe_changes_in_one_stage_before_the_objective() -> None:
    """So the last stage is head and loss alone: what is left there is no work of a step."""
    ladder, experiments = ladder_of(
        settings=["clip_norm=null", "crop_scale=[0.9,1]", "flip=false", "workers=1", "eps=1e-8"]
    )
    assert causes_of(ladder) == (REST, PADDING, TEXT_TOWER, HEAD)
    changed = changed_fields(experiments)
    assert changed[0] == {"clip_norm", "crop_scale", "flip", "workers"}
    assert changed[3] == {
        "method",
        "text_features",
        "learning_rate",
        "synset_head_initialisation",
        "eps",
    }
    assert not changed[3] & {*RECIPE_FIELDS}


def test_experiments_take_similar_images_and_every_size_equally_often() -> None:
    named = change(EXPERIMENTS["catlip-tiny"], tower="vit_tiny_patch16_224")
    baseline = change(EXPERIMENTS["clip-tiny"], tower="vit_tiny_patch16_224", batch_size=32)
    _, experiments = plan_ladder(baseline, named, ["random_image_sizes=[32,48,64]"])
    for experiment in experiments:
        num_sizes = len(experiment.image.all_image_sizes)
        timing = experiment.timing
        assert timing.steps_per_window % num_sizes == timing.untimed_steps % num_sizes == 0
        images = timing.steps_per_window * experiment.training.batch_size
        assert images == pytest.approx(2 * named.images_per_device_in_window, rel=0.5)


@pytest.mark.parametrize(
    ("baseline", "named", "causes"),
    [
        ("siglip-tiny", "superclass-cls-tiny", (PADDING, TEXT_TOWER, HEAD)),
        ("clip-tiny", "siglip-tiny", ("loss",)),
        ("catlip-tiny", "superclass-cls-tiny", (f"labels, {HEAD}",)),
        ("superclass-cls-tiny", "superclass-tiny", ("pooling",)),
        ("clip-tiny", "flip-tiny", ("patch_drop",)),
        (
            "clip-vit-b16-datacomp",
            "catlip-vit-b16-datacomp",
            (
                *(
                    "random_image_sizes",
                    "gathered_features",
                    "batch_size",
                    "log_recomputed_grad_norm",
                    "precision",
                    "attention",
                ),
                *(REST, PADDING, TEXT_TOWER, HEAD),
            ),
        ),
    ],
)
def test_pair_has_a_cause_for_each_part_of_the_work_in_which_it_differs(
    baseline: str, named: str, causes: tuple[str, ...]
) -> None:
    ladder, experiments = ladder_of(named, baseline)
    assert sorted(causes_of(ladder)) == sorted(causes)
    assert ladder.rungs[-1].cause == causes[-1]
    assert len({experiment.name for experiment in experiments}) == len(causes) + 1
    assert not {*differing_values_by_field([experiments[-1], EXPERIMENTS[named]])} - PACE


def test_format_of_labels_is_a_factor_between_experiments_of_one_method() -> None:
    ladder, experiments = ladder_of("catlip-tiny", "catlip-tiny", ["synset_label_format=dense"])
    assert causes_of(ladder) == ("synset_label_format",)
    assert [one.targets.synset_label_format for one in experiments] == ["dense", "sparse"]


@pytest.mark.parametrize(
    ("baseline", "named", "text"),
    [
        ("catlip-tiny", "clip-tiny", "from catlip to clip: a ladder leads from a text tower"),
        ("clip-tiny", "superclip-tiny", "clip to superclip: superclip adds to a pair of towers"),
        ("clip-vit-b32", "catlip-vit-b16", "one tower and one data set, these differ in tower: "),
        ("catlip-tiny", "catlip-tiny", "catlip-tiny differs from catlip-tiny in nothing"),
    ],
)
def test_pair_without_a_ladder_is_refused_with_the_reason(
    baseline: str, named: str, text: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        ladder_of(named, baseline)


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ("batch_sise=4", "'batch_sise'; did you mean 'batch_size'"),
        ("timed_windows=3", "no factor named 'timed_windows'"),
        ("seed=1", "no factor named 'seed'"),
        ("attention=fused", "catlip-tiny has attention=fused already"),
        (
            "synset_label_format=dense",
            "synset_label_format is a factor between experiments of one method",
        ),
    ],
)
def test_setting_that_is_no_factor_is_refused_with_a_message(chosen: str, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        ladder_of(chosen=[chosen])
