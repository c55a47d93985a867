"""Every named experiment: a method at a scale, or a recipe.

The experiments of a comparison are made from one another by `change`, so that they differ only in the method and its
own settings (`MAY_DIFFER` of `bench.experiment.config`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

from bench.experiment.config import Experiment, change, differing_values_by_field, look_up
from bench.experiment.fields import (
    ImageSettings,
    OptimizerSettings,
    RuntimeSettings,
    SampleSettings,
    TargetSettings,
    TextSettings,
    TimingSettings,
    TrainingSettings,
)
from bench.experiment.recipes import DATACOMP_VOCABULARY, RECIPES, clip_vit_b16_in_catlip_recipe
from bench.experiment.settings import renamed_with_settings, strip_bracketed_settings
from bench.experiment.tuned_settings import KEPT_SETTINGS


def clip_tiny() -> Experiment:
    """CLIP with 16 patch tokens, 128 wide, 4 layers: it learns something on one core in two minutes.

    The text tower takes 15 % of the two towers' forward FLOPs at the computed tokens (11 per caption), and every head
    under 7.5 % of the tower's. The text tower's share is 5 % at ViT-B/16 (23 to 25 tokens of web captions): no ratio of
    this scale estimates one of ViT-B/16. A method that reads all patch tokens costs relatively more here, because the
    last block, which otherwise computes the class token alone, is one of four.

    Expected on Twemoji group (linear probe): about 0.44 untrained, 0.50 to 0.55 after 80,000 images.
    """
    return Experiment(
        name="clip-tiny",
        method="clip",
        image=ImageSettings(tower="catlip-bench-tiny", image_size=48),
        text=TextSettings(text_tower="catlip-bench-tiny", context_length=24),
        targets=TargetSettings(teacher_tower="random:catlip-bench-tiny"),
        input=SampleSettings(),
        training=TrainingSettings(batch_size=128, images_seen=80_000, warmup_images=8_000),
        optimizer=OptimizerSettings(learning_rate=5e-4),
        runtime=RuntimeSettings(precision="fp32", compile="off"),
        timing=TimingSettings(untimed_steps=6, timed_windows=5, steps_per_window=4),
    )


def clip_vit_b32() -> Experiment:
    """CLIP's ViT-B/32 at 224 px with open_clip's text tower and the vocabulary sizes of the published runs.

    CatLIP's head has the 24,320 rows of its DataComp release, SuperClass's the tokenizer's 49,408. Rate, crops and
    flips are CLIP's, by the source in `OPEN_CLIP`.
    """
    return Experiment(
        name="clip-vit-b32",
        method="clip",
        image=ImageSettings(tower="ViT-B-32", image_size=224),
        text=TextSettings(text_tower="ViT-B-32", context_length=77, text_padding="auto"),
        targets=TargetSettings(synset_vocabulary=DATACOMP_VOCABULARY, subword_vocabulary="all"),
        input=SampleSettings(pack_caption_lengths="web", crop_scale=(0.9, 1.0), flip=False),
        training=TrainingSettings(batch_size=256, images_seen=12_800_000, warmup_images=500_000),
        optimizer=OptimizerSettings(learning_rate=5e-4),
        runtime=RuntimeSettings(),
        timing=TimingSettings(untimed_steps=10, timed_windows=10, steps_per_window=10),
    )


SCALES: dict[str, Experiment] = {
    "tiny": clip_tiny(),
    "vit-b32": clip_vit_b32(),
    # the size of CatLIP's headline 2.7x
    "vit-b16": change(clip_vit_b32(), name="clip-vit-b16", tower="ViT-B-16", text_tower="ViT-B-16"),
    "vit-l14": change(
        clip_vit_b32(), name="clip-vit-l14", tower="ViT-L-14", text_tower="ViT-L-14", batch_size=128
    ),
}


@dataclass(frozen=True, slots=True)
class TuningOrigin:
    """Who chose the learning rate, crops, flips and initial head of an experiment."""

    # "released" by the method's authors for a scale, "default" of open_clip's program for all ViTs, "searched" here, or
    # "untuned": as of another method or scale.
    state: Literal["released", "default", "searched", "untuned"]
    source: str = ""


@dataclass(frozen=True, slots=True)
class MethodChangesFromClip:
    """The values of fields with which the experiments of a method differ from CLIP's of the same scale."""

    method: str
    fields: Mapping[str, Any] = field(default_factory=dict)  # at every scale
    by_scale: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # further ones
    # By scale; the others are untuned.
    tuning: Mapping[str, TuningOrigin] = field(default_factory=dict)


SEARCHED = {
    "tiny": TuningOrigin("searched", "the best of four rates, with an earlier tower or head")
}
# CoreNet trains CLIP at ViT-B/16 with 1e-3, CatLIP's paper (table 6) with 5e-4, as open_clip does.
OPEN_CLIP = TuningOrigin(
    "default",
    "mlfoundations/open_clip at 89fb801, defaults of open_clip_train/params.py and open_clip/transform.py",
)
CATLIP = "apple/corenet at 1aa3acd, projects/catlip/pretraining"
SUPERCLASS = "x-cls/superclass at 90b761f, opencls/configs/cls_schedule"
SUPERCLIP = "hustvl/SuperCLIP at fb59c6d, superclip/configs/SuperCLIP_schedule"
# The tiny scale's learning rate is the best of four, by the same search for every method: the linear probe's accuracy
# on the validation part, mean over the five classification tasks of the pack, one seed, 80,000 images:
# `python -m bench train NAME --set learning_rate=RATE`.
#              2.5e-4   5e-4   1e-3   2e-3
# clip          .462    .484   .458   .450
# siglip        .469    .479   .479   .427
# catlip        .433    .452   .457   .389
# superclass    .439    .456   .469   .446
# clip and siglip were searched with a text tower 64 wide and captions padded to 24 tokens, superclass with the class
# token and a head without layer norm, catlip with biases of the head near 0. The others were not searched: superclip,
# flip and clipa have clip's rate, distill catlip's.
# At the tiny scale a training is too short to learn from biases of 0 that most labels are rare. SigLIP's loss has such
# a prior by itself, and softmaxes need none.
# From `vit-b32` on, rate, crops, flips and initial head are those that a method's authors released for the scale, or
# else for the nearest; a method without any has CLIP's. SigLIP's authors released no file for training from scratch.
# SuperClass and SuperCLIP classify the mean of the patches as released; `superclass-cls` classifies the class token, at
# less cost.
# FLIP (arXiv 2212.00794) trains CLIP on half of the patches, `--set patch_drop=0.75` on a quarter; any method can.
# CLIPA (arXiv 2305.07017) trains it on small images and the first tokens of captions; its second phase, at full size,
# is not included. The teacher has random weights unless a file is named: `--set teacher_tower=FILE`.
METHOD_SETTINGS: dict[str, MethodChangesFromClip] = {
    "clip": MethodChangesFromClip(
        "clip", tuning=SEARCHED | dict.fromkeys(("vit-b32", "vit-b16", "vit-l14"), OPEN_CLIP)
    ),
    "siglip": MethodChangesFromClip("siglip", tuning=SEARCHED),
    "catlip": MethodChangesFromClip(
        "catlip",
        {
            "learning_rate": 1e-3,
            "crop_scale": (0.08, 1.0),
            "flip": True,
            "synset_head_initialisation": "trunc_normal",
        },
        {
            "tiny": {
                "crop_scale": SCALES["tiny"].input.crop_scale,
                "synset_head_initialisation": "log_odds",
            },
            "vit-l14": {"learning_rate": 6e-4},
        },
        SEARCHED
        | {
            "vit-b16": TuningOrigin("released", f"{CATLIP}/vit_base.yaml"),
            "vit-l14": TuningOrigin("released", f"{CATLIP}/vit_large.yaml, of ViT-L/16"),
        },
    ),
    "superclass": MethodChangesFromClip(
        "superclass",
        {"pooling": "mean"},
        {"tiny": {"learning_rate": 1e-3}},
        SEARCHED
        | {
            "vit-b16": TuningOrigin("released", f"{SUPERCLASS}/cls_vit_b16_s1.28B_bs16k.yaml"),
            "vit-l14": TuningOrigin("released", f"{SUPERCLASS}/cls_vit_l14_s1.28B_bs16k.yaml"),
        },
    ),
    "superclass-cls": MethodChangesFromClip(
        "superclass", by_scale={"tiny": {"learning_rate": 1e-3}}, tuning=SEARCHED
    ),
    "superclip": MethodChangesFromClip(
        "superclip",
        {"pooling": "mean_for_classifier", "learning_rate": 1e-3},
        {"tiny": {"learning_rate": 5e-4}},
        {
            "vit-b16": TuningOrigin("released", f"{SUPERCLIP}, of ViT-B/16"),
            "vit-l14": TuningOrigin("released", f"{SUPERCLIP}, of ViT-L/16"),
        },
    ),
    "cap": MethodChangesFromClip(
        "cap", {"pooling": "mean", "learning_rate": 1e-3}, {"tiny": {"decoder_layers": 2}}
    ),
    "distill": MethodChangesFromClip("distill", by_scale={"tiny": {"learning_rate": 1e-3}}),
    "flip": MethodChangesFromClip("clip", {"patch_drop": 0.5}),
    "clipa": MethodChangesFromClip(
        "clip",
        {"context_length": 16},
        {
            "tiny": {"image_size": 24, "context_length": 8},
            "vit-b32": {"image_size": 128},
            "vit-b16": {"image_size": 112},
            "vit-l14": {"image_size": 112},
        },
    ),
}
# The methods by whose loss a text tower learns for a locked image tower.
LockedImageLoss = Literal["clip", "siglip"]
LOCKED_IMAGE_LOSS: LockedImageLoss = "clip"
HEADLINE_METHODS = ("clip", "catlip")  # the methods whose published ratio is the project's question
# What `python -m bench` compares, at the tiny scale.
DEFAULT_METHODS = (
    "clip",
    "siglip",
    "catlip",
    "superclass",
)


def _make_experiment(name_prefix: str, scale: str) -> Experiment:
    """Return the experiment PREFIX-SCALE of `METHOD_SETTINGS[name_prefix]`, with the settings that `tune` chose."""
    name = f"{name_prefix}-{scale}"
    settings = METHOD_SETTINGS[name_prefix]
    changes = {**settings.fields, **settings.by_scale.get(scale, {})}
    experiment = change(SCALES[scale], name=name, method=settings.method, **changes)
    tuned = KEPT_SETTINGS[name].settings if name in KEPT_SETTINGS else []
    return change(renamed_with_settings(experiment, tuned), name=name)


EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        *(_make_experiment(name, scale) for scale, name in product(SCALES, METHOD_SETTINGS)),
        *(recipe() for recipe in RECIPES),
    )
}


def add_experiments(name_prefix: str, settings: MethodChangesFromClip) -> list[Experiment]:
    """Add the experiments PREFIX-SCALE of a method at every scale, and return them; ValueError for a used prefix."""
    if name_prefix in METHOD_SETTINGS:
        raise ValueError(f"there are experiments {name_prefix}-{next(iter(SCALES))}, ... already")
    for scale in (*settings.by_scale, *settings.tuning):
        look_up(scale, SCALES, "scale")
    METHOD_SETTINGS[name_prefix] = settings
    added = [_make_experiment(name_prefix, scale) for scale in SCALES]
    EXPERIMENTS.update({experiment.name: experiment for experiment in added})
    return added


# Authors choose these for a scale.
TUNED_FIELDS = ("tower", "synset_head_initialisation", "crop_scale", "flip", "learning_rate")
UNTUNED = TuningOrigin("untuned")
TUNED_RECIPES = {recipe().name for recipe in RECIPES} - {clip_vit_b16_in_catlip_recipe().name}


def find_tuning_origin(experiment: Experiment) -> TuningOrigin:
    """Return who chose the learning rate, crops, flips and initial head; an experiment with others is untuned."""
    name = strip_bracketed_settings(experiment.name)
    named = EXPERIMENTS.get(name)
    if named is None:
        return UNTUNED
    differing = differing_values_by_field([named, experiment]).keys()
    if {*TUNED_FIELDS, "optimizer"} & differing:
        return UNTUNED
    if name in TUNED_RECIPES:
        return TuningOrigin("released", "a published recipe")
    if name in KEPT_SETTINGS:
        return TuningOrigin("searched", KEPT_SETTINGS[name].source)
    for scale in SCALES:
        settings = METHOD_SETTINGS.get(name.removesuffix(f"-{scale}"))
        if settings is not None and name.endswith(f"-{scale}"):
            return settings.tuning.get(scale, UNTUNED)
    return UNTUNED


def get_experiment(name: str) -> Experiment:
    """Return a named experiment; ValueError suggests the nearest name."""
    return look_up(name, EXPERIMENTS, "experiment")
