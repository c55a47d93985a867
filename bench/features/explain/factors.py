"""The factors of a ladder beside the objective, by name, and the reasons why some are left out."""

from collections.abc import Callable, Sequence

from bench.experiment.config import FIELDS, Experiment, choose, differing_fields, get_field
from bench.experiment.fields import NLTK
from bench.experiment.recipes import multi_scale
from bench.experiment.settings import with_settings
from bench.features.explain.ladder import (
    FIELDS_WITHOUT_WORK,
    LABEL_FIELDS,
    OBJECTIVE_FIELDS,
    PACE_FIELDS,
    SHARED_FIELDS,
    Factor,
    setting_text,
)
from bench.interfaces.method import get_label_method, get_method

PUBLISHED_GLOBAL_BATCH = (
    65_536  # images per step of all GPUs, in CatLIP's and CLIP's released recipes
)
BATCH_DIVISOR = 4  # divisor: 256 images per GPU in CLIP's recipe, 1,024 in CatLIP's
# Factors by name: the field, and its value at the beginning of a ladder, from the experiment at the end.
FACTORS: dict[str, tuple[str, Callable[[Experiment], object]]] = {
    "kernel": (
        "attention",
        lambda first: "fp32_softmax" if first.runtime.attention == "fused" else "fused",
    ),
    "precision": ("precision", lambda _: "fp32"),
    "residual": (
        "residual_precision",
        lambda first: "autocast" if first.runtime.residual_precision == "tower" else "tower",
    ),
    "compile": ("compile", lambda _: "off"),
    "checkpointing": (
        "activation_checkpointing",
        lambda first: not first.runtime.activation_checkpointing,
    ),
    "sampler": ("image_sizes", lambda _: ()),
    "batch": ("batch_size", lambda first: max(1, first.training.batch_size // BATCH_DIVISOR)),
    "global_negatives": ("simulated_global_batch", lambda _: PUBLISHED_GLOBAL_BATCH),
    "gather": (
        "gather",
        lambda first: "both" if first.runtime.gather == "captions" else "captions",
    ),
    "optimizer": (
        "optimizer_kernel",
        lambda first: "foreach" if first.optimizer.optimizer_kernel == "fused" else "fused",
    ),
    "ema": (
        "ema_kernel",
        lambda first: "for_loop" if first.optimizer.ema_kernel == "foreach" else "foreach",
    ),
    "grad_norm": ("log_grad_norm", lambda first: not first.optimizer.log_grad_norm),
    "augmentation": (
        "augmentation",
        lambda first: "range" if first.input.augmentation == "none" else "none",
    ),
    "dense_labels": ("label_format", lambda _: "dense"),
    "nltk_labels": ("labels", lambda _: NLTK),
}
NEVER_FACTORS = (*OBJECTIVE_FIELDS, *SHARED_FIELDS)  # fields that are never factors
NOT_ON_A_CPU = {
    "precision": "on a CPU without bf16 units, bf16 is nine times slower than fp32",
    "compile": "on a CPU compilation takes minutes and gains nothing",
}


def select_factors(
    baseline: Experiment, first: Experiment, chosen: Sequence[str], *, on_gpu: bool
) -> tuple[list[Factor], dict[str, str]]:
    """Return the differing and the chosen settings as factors, and the reasons why others are left out.

    A factor is chosen by name, or as FIELD=VALUE with its value at the beginning; ValueError for unknown ones.
    """
    left_out = {} if on_gpu else dict(NOT_ON_A_CPU)
    factors = _differing_factors(baseline, first)
    for text in dict.fromkeys(chosen):
        field, equals, _ = text.partition("=")
        if equals:
            factor = _factor_by_start(field, text, first)
        else:
            choose(text, FACTORS, "factor (or FIELD=VALUE)")  # refuses unknown names
            factor = _factor_by_name(text, first)
        reason = _reason_left_out(factor, baseline, first, on_gpu=on_gpu)
        if reason:
            left_out[factor.name] = reason
        elif equals or factor.name not in left_out:
            factors.setdefault(factor.field, factor)
            left_out.pop(factor.name, None)
    return list(factors.values()), left_out


def _differing_factors(baseline: Experiment, first: Experiment) -> dict[str, Factor]:
    """Return a factor for each field in which two experiments differ and that a step's work depends on."""
    never = {*NEVER_FACTORS, *FIELDS_WITHOUT_WORK, *_unread_label_fields(first)}
    factors = {}
    for field, (before, after) in differing_fields([baseline, first]).items():
        if (
            field in FIELDS and field not in never
        ):  # other fields are declared by methods and belong to the objective
            factors[field] = _make_factor(field, before, after)
    return factors


def _unread_label_fields(experiment: Experiment) -> set[str]:
    """Return the fields of labels that the experiment's method does not read."""
    method = get_label_method(experiment.method)
    return set(LABEL_FIELDS) - set(method.label_fields if method else ())


def _reason_left_out(
    factor: Factor, baseline: Experiment, first: Experiment, *, on_gpu: bool
) -> str:
    """Return the reason why a chosen factor changes nothing; empty if it changes something."""
    fp32 = ("fp32",) if on_gpu else ("fp32", "auto")
    if factor.field in _unread_label_fields(first):
        return f"{first.method} does not read {factor.field}"
    if factor.field == "gather" and not _gathers_images(baseline):
        return f"{baseline.method} does not gather images"
    if factor.field == "ema_kernel" and baseline.optimizer.ema_decay is None:
        return f"{baseline.name} has no moving average (--set ema_decay=0.9995)"
    if factor.field == "residual_precision" and first.runtime.precision in fp32:
        return f"{first.name} computes in fp32"
    if factor.before == factor.after:
        return f"{first.name} has {factor.after} already"
    return ""


def _gathers_images(experiment: Experiment) -> bool:
    """Return whether the authors' loss of an experiment's method gathers images."""
    communication = get_method(experiment.method).communication
    return communication is not None and communication.gathers_images_as_released


def _make_factor(field: str, before: object, after: object) -> Factor:
    names = {of: name for name, (of, _) in FACTORS.items()}
    return Factor(
        name=names.get(field, field),
        before=setting_text(field, before),
        after=setting_text(field, after),
    )


def _factor_by_name(name: str, first: Experiment) -> Factor:
    """Return a named factor: its value in the last experiment, and its alternative at the beginning."""
    field, before = FACTORS[name]
    after = get_field(first, field)
    if name == "sampler":
        after = after or catlip_sizes(first.image.image_size)
    return _make_factor(field, before(first), after)


def _factor_by_start(field: str, start: str, first: Experiment) -> Factor:
    """Return the factor whose value at the beginning is FIELD=VALUE."""
    changed = with_settings(first, [start])
    choose(
        field,
        dict.fromkeys(name for name in FIELDS if name not in (*NEVER_FACTORS, *PACE_FIELDS)),
        "factor",
    )
    return _make_factor(field, get_field(changed, field), get_field(first, field))


def catlip_sizes(image_size: int) -> tuple[int, ...]:
    """Return the image sizes of CatLIP's released sampler in pixels, scaled from a base of 224."""
    smallest, largest = (round(side * image_size / 224) for side in (128, 320))
    return multi_scale(smallest, largest, scales=25, multiple=16, base=image_size)
