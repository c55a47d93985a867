"""Released settings stand beside ours, and are those of the released files and code.

The tests that read the released files and code are skipped where CATLIP_BENCH_CORENET or CATLIP_BENCH_SUPERCLASS names
no checkout.
"""

import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

from bench.__main__ import main
from bench.cli.released_recipes import released_recipe_names, released_settings
from bench.experiment.config import get_field
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.recipes import RECIPES
from bench.experiment.settings import renamed_with_settings
from models import find_open_clip_config

GPUS_PER_NODE = 8
DEFAULT, CODE = " (default)", " (code)"
# The released file of each recipe that has one, in the checkout of CoreNet or of SuperClass.
CORENET_FILES = {
    "clip-vit-b16-datacomp": "projects/clip/clip_vit_base.yaml",
    "clip-vit-h16-datacomp": "projects/range_augment/clip/clip_vit_huge.yaml",
    "catlip-vit-b16-datacomp": "projects/catlip/pretraining/vit_base.yaml",
    "catlip-vit-l16-datacomp": "projects/catlip/pretraining/vit_large.yaml",
    "catlip-vit-h16-datacomp": "projects/catlip/pretraining/vit_huge.yaml",
}
SUPERCLASS_FILES = {
    "superclass-vit-b16-datacomp": "opencls/configs/cls_schedule/cls_vit_b16_s1.28B_bs16k.yaml"
}
FILES = CORENET_FILES | SUPERCLASS_FILES
METHODS = {"multi_modal_image_text": "clip", "classification": "catlip"}
PRECISIONS = {"float16": "fp16", "bfloat16": "bf16", "amp_bfloat16": "bf16"}


def checkout_of(name: str) -> Path:
    variable = "CATLIP_BENCH_SUPERCLASS" if name in SUPERCLASS_FILES else "CATLIP_BENCH_CORENET"
    return Path(os.environ.get(variable) or pytest.skip(f"{variable} names no checkout"))


@cache
def released_text(name: str) -> str:
    return (checkout_of(name) / FILES[name]).read_text(encoding="utf-8")


def flattened(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a YAML file by dotted names; an empty one is ""."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from flattened(one, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list) and isinstance(value[0], dict):
        for at, one in enumerate(value):
            yield from flattened(one, f"{prefix}[{at}]")
    else:
        yield prefix, "" if value is None else value


@cache
def corenet_options(name: str) -> Mapping[str, Any]:
    """Return the options of a released file with all defaults, by the released parser."""
    pytest.importorskip("bench.features.reference.corenet").make_corenet_importable(
        checkout_of(name)
    )
    from corenet.options.opts import get_training_arguments

    return vars(
        get_training_arguments(args=["--common.config-file", str(checkout_of(name) / FILES[name])])
    )


@pytest.mark.parametrize("name", released_recipe_names())
def test_released_settings_are_equal_or_different_with_a_reason(name: str) -> None:
    """A setting of ours is the recipe's, also where it differs; what is equal without a setting says where."""
    for key, setting in released_settings(name).items():
        assert (
            not setting.ours
            or renamed_with_settings(EXPERIMENTS[name], [setting.ours]) == EXPERIMENTS[name]
        ), key
        assert setting.reason or (setting.ours and setting.state == "equal"), key
        assert bool(setting.where) >= key.endswith(CODE), key


def test_every_recipe_but_the_controlled_pair_has_released_settings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {recipe().name for recipe in RECIPES}
    assert {*released_recipe_names()} == {
        name for name in names if not name.endswith("-controlled")
    }
    assert {*FILES} == {name for name in released_recipe_names() if not name.endswith("-cc3m")}
    assert main(["list", "--authors-settings", "catlip-vit-b16-datacomp"]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n{key} " in printed for key in released_settings("catlip-vit-b16-datacomp"))
    assert main(["list", "--authors-settings", "clip-tiny"]) == 2
    assert "no released recipe named 'clip-tiny' (there are " in capsys.readouterr().err


@pytest.mark.parametrize("name", FILES)
def test_released_settings_are_all_those_of_the_file(name: str) -> None:
    in_file = dict(flattened(yaml.safe_load(released_text(name))))
    for key, value in in_file.items():
        # For PyYAML, 5e-4 is no number.
        if isinstance(value, str) and re.fullmatch(r"\d+e-?\d+", value):
            in_file[key] = float(value)
    released = {
        key: one.released
        for key, one in released_settings(name).items()
        if not key.endswith((DEFAULT, CODE))
    }
    assert released == {key: value for key, value in in_file.items() if not key.startswith("_")}


@pytest.mark.parametrize("name", FILES)
def test_the_released_code_holds_the_fragment_that_a_setting_names(name: str) -> None:
    located = {
        key: setting.where for key, setting in released_settings(name).items() if setting.where
    }
    assert located
    for key, where in located.items():
        file, _, fragment = where.partition(": ")
        code = " ".join((checkout_of(name) / file).read_text(encoding="utf-8").split())
        assert (fragment.removeprefix("not ") in code) != fragment.startswith("not "), key


def corenet_fields(name: str) -> dict[str, Any]:
    """Return the fields of an experiment that follow from a released file of CoreNet and the comment on its GPUs."""
    options = corenet_options(name)
    from corenet.data.sampler.utils import image_batch_pairs

    nodes = re.search(r"(\d+) nodes", released_text(name), re.IGNORECASE)
    assert nodes
    sampler = {
        key.removeprefix("sampler.vbs.").replace("_width", "_w").replace("_height", "_h"): value
        for key, value in options.items()
        if re.match(r"sampler\.vbs\.(min_|max_)?crop_size_", key)
    }
    batches = image_batch_pairs(
        **sampler,
        batch_size_gpu0=options["dataset.train_batch_size0"],
        max_scales=options["sampler.vbs.max_n_scales"],
        check_scale_div_factor=options["sampler.vbs.check_scale"],
    )
    images_per_step = int(nodes[1]) * GPUS_PER_NODE * fmean(batch for _, _, batch in batches)
    eps = options["optim.adamw.eps"]
    crops = "image_augmentation.random_resized_crop.scale"
    return {
        "method": METHODS[options["dataset.category"]],
        "tower": f"corenet-vit-{options['model.classification.vit.mode']}",
        "image_size": options["sampler.vbs.crop_size_width"],
        "random_image_sizes": tuple(height for height, _, _ in batches),
        "batch_size": options["dataset.train_batch_size0"],
        "micro_batches": options["common.accum_freq"],
        "crop_scale": tuple(options[crops]),
        "flip": options["image_augmentation.random_horizontal_flip.enable"],
        "augmentation": {"distribution": "range"}[options["model.learn_augmentation.mode"]],
        "learning_rate": options["scheduler.cosine.max_lr"],
        "cosine_min_learning_rate": options["scheduler.cosine.min_lr"],
        "schedule": options["scheduler.name"],
        "betas": (options["optim.adamw.beta1"], options["optim.adamw.beta2"]),
        "eps": options["optim.eps"] if eps is None else eps,
        "weight_decay": options["optim.weight_decay"],
        "clip_norm": options["common.grad_clip"],
        "ema_decay": 1 - options["ema.momentum"],
        "precision": PRECISIONS[options["common.mixed_precision_dtype"]],
        "attention": "fused"
        if options["model.classification.vit.use_flash_attention"]
        else "fp32_softmax",
        "activation_checkpointing": options["model.activation_checkpointing"],
        "images_seen": round(options["scheduler.max_iterations"] * images_per_step),
        "warmup_images": round(options["scheduler.warmup_iterations"] * images_per_step),
    }


@pytest.mark.parametrize("name", CORENET_FILES)
def test_the_experiment_follows_from_the_file_of_corenet(name: str) -> None:
    """The sampler's sizes and batches are those of the released function."""
    experiment = EXPERIMENTS[name]
    fields = corenet_fields(name)
    assert {field: get_field(experiment, field) for field in fields} == fields
    options = corenet_options(name)
    for key, setting in released_settings(name).items():
        if key.endswith(DEFAULT):
            value = options[key.removesuffix(DEFAULT)]
            expected = "none" if value is None else [*value] if isinstance(value, tuple) else value
            assert setting.released == expected, key
    if experiment.method == "catlip":
        assert experiment.targets.synset_head_initialisation == options["model.layer.linear_init"]
        return
    config = find_open_clip_config(experiment.text.text_tower)
    assert config is not None
    assert experiment.text.context_length == options["dataset.multi_modal_img_text.context_length"]
    assert config["embed_dim"] == options["model.multi_modal_image_text.clip.projection_dim"]
    assert config["text_cfg"] == {
        "context_length": options["model.text.context_length"],
        "vocab_size": options["model.text.vocab_size"],
        "width": options["model.text.transformer.model_dim"],
        "layers": options["model.text.transformer.n_transformer_layers"],
        "heads": options["model.text.transformer.n_heads_per_layer"],
    }


@pytest.mark.parametrize("name", SUPERCLASS_FILES)
def test_the_experiment_follows_from_the_file_of_superclass(name: str) -> None:
    fields = superclass_fields(yaml.safe_load(released_text(name)))
    assert {field: get_field(EXPERIMENTS[name], field) for field in fields} == fields


def superclass_fields(file: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "tower": file["model"].removeprefix("CLS-"),
        "image_size": file["force_image_size"],
        "seed": file["seed"],
        "learning_rate": float(file["lr"]),
        "betas": (file["beta1"], file["beta2"]),
        "eps": file["eps"],
        "precision": PRECISIONS[file["precision"]],
        "activation_checkpointing": file["grad_checkpointing"],
        "images_seen": file["epochs"] * file["train_num_samples"],
        "warmup_images": file["warmup"] * file["global_batch_size"],
    }
