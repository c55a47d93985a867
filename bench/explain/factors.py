"""What a ladder can toggle beside the objective, by name; what cannot be shown has a reason."""

from collections.abc import Sequence

from bench.config import FIELDS, Experiment, choose, differing_fields, with_settings
from bench.image_sizes import multi_scale
from bench.ladder import NO_WORK, OBJECTIVE, PACE, SHARED, Factor, setting

PUBLISHED_BATCH = 65_536  # images of a step on all GPUs, in CatLIP's and CLIP's released recipes alike
SMALLER_BATCH = 4  # times: 256 images a GPU in CLIP's recipe, 1,024 in CatLIP's
NAMES = {
    "kernel": "attention",
    "precision": "precision",
    "compile": "compile",
    "checkpointing": "activation_checkpointing",
    "sampler": "image_sizes",
    "batch": "batch_size",
    "columns": "simulated_batch",
}
NOT_ON_A_CPU = {
    "precision": "bf16 without units for it is nine times slower than fp32 on a CPU",
    "compile": "it takes minutes on a CPU and gains nothing",
}


def factors_of(
    against: Experiment, first: Experiment, chosen: Sequence[str], *, on_gpu: bool
) -> tuple[list[Factor], dict[str, str]]:
    """Return the settings in which two experiments differ, and those chosen, as factors; and why others are left out.

    A factor is chosen by name, or as FIELD=VALUE: what the field is where the ladder begins. ValueError for names and
    values that there are not.
    """
    fields = [field for field in differing_fields([against, first]) if field not in (*OBJECTIVE, *SHARED, *NO_WORK)]
    by_field = {field: _factor(field, getattr(against, field), getattr(first, field)) for field in fields}
    left_out = {} if on_gpu else dict(NOT_ON_A_CPU)
    for one in dict.fromkeys(chosen):
        field, equals, _ = one.partition("=")
        field = field if equals else choose(one, NAMES, "factor (or FIELD=VALUE)")
        factor = _given(one, first) if equals else _named(one, first)
        if factor.before == factor.after:
            left_out[factor.name] = f"{first.name} itself has {factor.after}"
        elif equals or factor.name not in left_out:
            by_field.setdefault(field, factor)
            left_out.pop(factor.name, None)
    return list(by_field.values()), left_out


def _factor(field: str, before: object, after: object) -> Factor:
    names = {of: name for name, of in NAMES.items()}
    return Factor(name=names.get(field, field), before=setting(field, before), after=setting(field, after))


def _named(name: str, first: Experiment) -> Factor:
    """Return a factor by what it is in the experiment at the end, and what else it could have been."""
    before = {
        "kernel": "plain" if first.attention == "fused" else "fused",
        "precision": "fp32",
        "compile": "off",
        "checkpointing": not first.activation_checkpointing,
        "sampler": (),
        "batch": max(1, first.batch_size // SMALLER_BATCH),
        "columns": PUBLISHED_BATCH,
    }
    own = getattr(first, NAMES[name])
    return _factor(NAMES[name], before[name], own or catlip_sizes(first.image_size) if name == "sampler" else own)


def _given(told: str, first: Experiment) -> Factor:
    """Return the factor that begins as FIELD=VALUE says."""
    field = told.partition("=")[0]
    changed = with_settings(first, [told])
    choose(field, dict.fromkeys(name for name in FIELDS if name not in (*OBJECTIVE, *SHARED, *PACE)), "factor")
    return _factor(field, getattr(changed, field), getattr(first, field))


def catlip_sizes(image_size: int) -> tuple[int, ...]:
    """Return the sides in pixels of CatLIP's released sampler, scaled to another image size than 224."""
    least, most = (round(side * image_size / 224) for side in (128, 320))
    return multi_scale(least, most, scales=25, multiple=16, base=image_size)
