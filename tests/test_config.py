import json
import math
import re
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.experiment.config import (
    FIELD_DECLARATIONS,
    FIELDS,
    Experiment,
    change,
    differing_values_by_field,
    get_field,
    require_comparable_experiments,
)
from bench.experiment.experiments import (
    EXPERIMENTS,
    METHOD_SETTINGS,
    SCALES,
    TUNED_FIELDS,
    find_tuning_origin,
    get_experiment,
)
from bench.experiment.fields import NonEmptyStr
from bench.experiment.recipes import RECIPES
from bench.experiment.settings import renamed_with_settings
from bench.interfaces.method import METHODS, require_method_accepts

laws = settings(derandomize=True, deadline=None, database=None, max_examples=60)

TINY = EXPERIMENTS["clip-tiny"]
SETTABLE = tuple(field for field in FIELDS if field != "name")


# Another valid value of fields where it is not any other.
ANOTHER: dict[str, Any] = {
    "image_column": "jpg",
    "method": "catlip",
    "random_image_sizes": (32, 48, 64),
    "input_embedding_grid_channels": 8,
    "pack_caption_lengths": "web",
    "caption_fields": "json.llava",
    "subset": "own-keys.csv",
    "micro_batches": 4,
    "crop_scale": (0.9, 1.0),
    "betas": (0.9, 0.999),
    "cosine_min_learning_rate": 1e-6,
    **dict.fromkeys(("simulated_global_batch", "padded_head_rows"), 24_320),
    "clip_norm": None,
    "ema_decay": 0.9995,
    "workers": 2,
}


def another(field: str) -> Any:
    """Return another valid value of a field than the tiny experiment's."""
    value, kind = get_field(TINY, field), FIELD_DECLARATIONS[field].kind
    if field in ANOTHER:
        return ANOTHER[field]
    if isinstance(value, bool):
        return not value
    if kind == NonEmptyStr:
        return f"own-{field}"
    if isinstance(value, int | float):
        return value + 1 if isinstance(value, int) else value / 2 or 0.5
    return next(one for one in get_args(kind) if one != value)


def setting(field: str, value: object) -> str:
    """Text as it stands, everything else as JSON."""
    return f"{field}={value if isinstance(value, str) else json.dumps(value)}"


def based(field: str) -> Experiment:
    """The tiny experiment that takes another value of this field."""
    if field in (
        "caption_fields",
        "image_column",
        "input_embedding_grid_channels",
        "jpeg_decoding",
    ):
        return change(TINY, data="own-shards")
    return EXPERIMENTS["catlip-tiny"] if field == "micro_batches" else TINY


def decode_json(experiment: Experiment) -> Experiment:
    return msgspec.json.decode(msgspec.json.encode(experiment), type=Experiment)


# Named experiments


def test_every_scale_has_every_method() -> None:
    assert {*METHODS} == {row.method for row in METHOD_SETTINGS.values()}
    named = {
        f"{row}-{scale}": METHOD_SETTINGS[row].method for scale in SCALES for row in METHOD_SETTINGS
    }
    assert {name: EXPERIMENTS[name].method for name in named} == named
    assert {*EXPERIMENTS} == {*named, *(recipe().name for recipe in RECIPES)}
    for name in EXPERIMENTS:
        assert get_experiment(name).name == name
        assert decode_json(get_experiment(name)) == EXPERIMENTS[name]
        require_method_accepts(EXPERIMENTS[name])


def test_tuning_is_of_the_tuned_settings_and_needs_a_source() -> None:
    """An experiment with another rate is untuned, one with another number of images is not."""
    released = get_experiment("catlip-vit-b16")
    assert find_tuning_origin(
        renamed_with_settings(released, ["learning_rate=5e-4"])
    ) == find_tuning_origin(get_experiment("siglip-vit-b16"))
    assert (
        find_tuning_origin(renamed_with_settings(released, ["tower=ViT-B-32"])).state == "untuned"
    )
    assert find_tuning_origin(
        renamed_with_settings(released, ["images_seen=1000000"])
    ) == find_tuning_origin(released)
    assert find_tuning_origin(get_experiment("clip-vit-b16-controlled")).state == "untuned"
    recipe = EXPERIMENTS["catlip-vit-b16-datacomp"]
    assert not ({*TUNED_FIELDS} - {"tower"}) & differing_values_by_field([released, recipe]).keys()
    assert find_tuning_origin(released).state == find_tuning_origin(recipe).state == "released"
    for experiment in EXPERIMENTS.values():
        assert bool(find_tuning_origin(experiment).source) == (
            find_tuning_origin(experiment).state != "untuned"
        )


@pytest.mark.parametrize("scale", SCALES)
def test_all_methods_of_a_scale_are_comparable_by_default(scale: str) -> None:
    require_comparable_experiments(EXPERIMENTS[f"{name}-{scale}"] for name in METHOD_SETTINGS)


# Settings of the command line


@pytest.mark.parametrize(
    "field", [field for field in SETTABLE if field not in ("seed", "batch_size")]
)
def test_setting_changes_one_field_and_comes_back_from_json(field: str) -> None:
    base, text = based(field), setting(field, another(field))
    changed = renamed_with_settings(base, [text])
    assert changed == change(base, name=f"{base.name}[{text}]", **{field: another(field)})
    assert differing_values_by_field([base, changed]) == {
        field: (get_field(base, field), another(field))
    }
    again = decode_json(changed)
    assert (again, hash(again), repr(again)) == (changed, hash(changed), repr(changed))


@laws
@given(st.integers(2, 100_000))
def test_at_batch_size_keeps_about_the_same_number_of_images(size: int) -> None:
    base = EXPERIMENTS["clip-tiny"]
    other = renamed_with_settings(base, [f"batch_size={size}"])
    assert other.training.batch_size == size
    assert other.images_per_device_in_window >= min(size, base.images_per_device_in_window / 1.5)
    assert other.images_per_device_in_window <= max(
        4 * size, 1.5 * base.images_per_device_in_window
    )
    assert (
        size == base.training.batch_size
        or min(other.timing.untimed_steps, other.timing.steps_per_window) >= 4
    )
    assert (other == base) == (size == base.training.batch_size)
    longer = renamed_with_settings(base, ["steps_per_window=7", f"batch_size={size}"])
    assert longer.timing.steps_per_window == 7


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("learning_rate=1", 1.0),
        ("learning_rate=2e-3", 2e-3),
        ("learning_rate=.002", 0.002),
        ("betas=[0, 0.5]", (0.0, 0.5)),
        ("clip_norm=null", None),
        ("padded_head_rows=null", None),
        ("subset=[1]", "[1]"),
        ("flip=false", False),
        ("tower=123", "123"),
        ("tower=null", "null"),
        ("tower=a=b", "a=b"),
        ('tower="a"', '"a"'),
    ],
)
def test_setting_is_parsed_by_its_fields_type(text: str, value: object) -> None:
    assert repr(get_field(renamed_with_settings(TINY, [text]), text.partition("=")[0])) == repr(
        value
    )


def test_settings_without_effect_return_the_same_experiment() -> None:
    same = [setting(field, get_field(TINY, field)) for field in SETTABLE]
    for settings_ in (
        [],
        same,
        ["learning_rate=5e-4", "betas=[ 0.90,0.98]", "flip=true"],
        ["seed=1", "seed=0"],
    ):
        assert renamed_with_settings(TINY, settings_) is TINY
    assert renamed_with_settings(TINY, ["seed=2"]) == change(TINY, seed=2)
    assert renamed_with_settings(TINY, ["seed=2", "flip=false"]).name == "clip-tiny[flip=false]"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batch_sise=64", "'batch_sise'; did you mean 'batch_size'"),
        ("batch_size", "field=value, got 'batch_size'"),
        ("name=other", "no field of an experiment named 'name'"),
        ("images_per_window=3", "no field of an experiment named 'images_per_window'"),
        ("tower=\udcff", r"got 'tower=\udcff'"),  # bytes of a command line that are no text
        ("tower=a\nb", r"got 'tower=a\nb'"),
        ("batch_size=many", "batch_size=many: Expected `int`"),
        ("learning_rate=Infinity", "learning_rate must be finite, got inf"),
        ("betas=[0.9,", "betas=[0.9,: "),
        (
            "precision=fp8",
            "precision=fp8: Invalid enum value 'fp8' (accepted: auto, fp32, bf16, fp16)",
        ),
        ("crop_scale=[0.9,0.1]", "crop_scale must rise, got (0.9, 0.1)"),
    ],
)
def test_invalid_setting_is_refused_with_a_message(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        renamed_with_settings(TINY, ["seed=3", text])


# Refused at birth

NOT_FINITE = (math.nan, math.inf, -math.inf)


REFUSED: dict[str, tuple[object, ...]] = {
    "tower": ("", 3, None),
    "precision": ("no such value", None),
    "batch_size": (0, 8.0, "8", True),
    "learning_rate": (0.0, "1", True, *NOT_FINITE),
    "jpeg_decoding": ("half", "reduced"),  # "reduced": the pack has no JPEGs
    "cosine_min_learning_rate": (-1e-9, 1.0),  # 1.0 is above the rate that it should fall from
    "ema_decay": (1.0, -0.1, True, *NOT_FINITE),
    "seed": (-1, 2**62),  # a generator would refuse them in the middle of a run
    "warmup_images": (-1, 80_001, 64_001),  # what is left is all cool-down
    "cooldown_share": (0.0, 1.0),
    "betas": ((1.0, 0.98), (0.9,), (math.nan, 0.98)),
    "input_embedding_grid_channels": (0, 8),  # 8: the pack holds images
    "random_image_sizes": ((0, 48), (48, 48), (64, 48)),
    "crop_scale": ((0.9, 0.5), (0.5, 1.5)),
}


@pytest.mark.parametrize("field", REFUSED)
def test_invalid_value_is_refused_at_construction_with_field_and_value(field: str) -> None:
    for value in REFUSED[field]:
        with pytest.raises(ValueError, match=f": {field}[= ]") as error:
            change(TINY, **{field: value})
        assert repr(value) in str(error.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"method": "siglip", "micro_batches": 2},
            "micro_batches must be 1, for siglip compares all images",
        ),
        (
            {"method": "catlip", "micro_batches": 3},
            "micro_batches must divide batch_size (128), got 3",
        ),
        (
            {"method": "siglip", "pooling": "mean_for_classifier"},
            "pooling must be tower or mean, for siglip has one loss, got mean_for_classifier",
        ),
        (
            {"method": "siglip", "clip_loss_precision": "autocast"},
            "clip_loss_precision must be fp32, for siglip's loss has no other",
        ),
        (
            {"method": "siglip", "gathered_features": "both"},
            "gathered_features must be captions, for siglip's loss needs no images of other",
        ),
        (
            {"method": "superclip", "text_features": "random"},
            "text_features must be computed, for superclip reads captions twice",
        ),
    ],
)
def test_settings_that_exclude_each_other_are_refused_with_what_is_accepted(
    changes: dict[str, object], text: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(f": {text}")):
        require_method_accepts(change(TINY, **changes))


def test_run_has_at_least_one_batch_and_contrastive_batches_two_images() -> None:
    with pytest.raises(
        ValueError, match=r"^clip-tiny: images_seen must be a batch or more, got 100$"
    ):
        change(TINY, images_seen=100, warmup_images=0)
    with pytest.raises(ValueError, match="batch_size must be 2 or more at 48 px, for siglip needs"):
        require_method_accepts(change(TINY, method="siglip", batch_size=1))
    with pytest.raises(ValueError, match="batch_size must be 2 or more at 480 px, for clip needs"):
        require_method_accepts(change(TINY, random_image_sizes=(48, 480), batch_size=199))
    assert change(TINY, random_image_sizes=(48, 480), batch_size=200).device_batch_size_at(480) == 2
    require_method_accepts(
        change(TINY, random_image_sizes=(48, 480), batch_size=1, method="catlip")
    )


def test_experiment_of_an_unknown_method_can_be_read_and_not_run() -> None:
    with pytest.raises(ValueError, match="no method named 'clp'; did you mean 'clip'"):
        require_method_accepts(change(TINY, method="clp"))
