"""Experiments with other settings, as a command line or a search of batch sizes gives them."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args

import msgspec

from bench.experiment.config import (
    FIELD_FACTS,
    Experiment,
    FieldFacts,
    change,
    choose,
    fields_of_method,
    get_field,
)
from bench.experiment.fields import PACK_DATA, NonEmptyStr

FEWEST_STEPS = 4  # of a warm-up and of a window at another batch size


def with_settings(experiment: Experiment, settings: Iterable[str]) -> Experiment:
    """Return the experiment with `field=value` settings applied; its name lists those that change a value.

    Another batch size changes warm-up and windows as `with_batch_size` does, unless they are given, too. The name does
    not list the seed, so that trainings with several seeds are of one experiment. Lists are written as JSON, `null` is
    None. Raises ValueError with the given setting, the fields that exist and the nearest one.
    """
    settings = list(settings)
    method = experiment.method
    for setting in settings:
        if setting.startswith("method="):
            method = setting.removeprefix("method=")
    known = {**FIELD_FACTS, **fields_of_method(method)}
    known.pop("name")
    texts = dict[str, str]()
    values = dict[str, Any]()
    for setting in settings:
        field, text, value = _parse_setting(setting, known)
        texts[field] = text
        values[field] = value
    if values.get("data", PACK_DATA) != PACK_DATA:  # other data's captions have their own lengths
        values.setdefault("caption_lengths", PACK_DATA)
    batch_size = values.get("batch_size", experiment.training.batch_size)
    changes: dict[str, Any] = _fields_at_batch_size(experiment, batch_size)
    names = []
    for field, value in sorted(values.items()):
        before = get_field(experiment, field)
        if value == before == changes.get(field, before):
            continue
        changes[field] = value
        if field in texts and field != "seed":
            names.append(f"{field}={texts[field]}")
    if not changes:
        return experiment
    name = f"{experiment.name}[{','.join(names)}]" if names else experiment.name
    return change(experiment, name=name, **changes)


def _parse_setting(setting: str, known: Mapping[str, FieldFacts]) -> tuple[str, str, Any]:
    """Return the field of a setting, its text and its value; ValueError says what is accepted."""
    field, equals, text = setting.partition("=")
    if not equals or not setting.isprintable():
        raise ValueError(f"a setting is field=value, got {setting!r}")
    kind = choose(field, known, "field of an experiment").kind
    try:
        return field, text, msgspec.convert(_normalise_setting(text, kind), kind, strict=False)
    except (msgspec.DecodeError, RecursionError) as error:
        names = [name for name in get_args(kind) if isinstance(name, str)]
        accepted = f" (accepted: {', '.join(names)})" if names else ""
        raise ValueError(f"--set {setting}: {error}{accepted}") from None


def split_name(name: str) -> tuple[str, list[list[str]]]:
    """Return an experiment's name without its settings, and its groups of settings FIELD=VALUE."""
    base, *groups = re.split(r"(?<=[\w\]])\[(?=\w+=)", name)
    return base, [re.split(r",(?=\w+=)", group.removesuffix("]")) for group in groups]


def with_batch_size(experiment: Experiment, size: int) -> Experiment:
    """Return the experiment at another batch size, with about as many images in its warm-up and windows.

    Both have at least four steps, because fewer would time the launch of the first and the wait for the last. Warm-up
    and windows draw every image size equally often.
    """
    if size == experiment.training.batch_size:
        return experiment
    name = f"{experiment.name}[batch_size={size}]"
    return change(experiment, name=name, **_fields_at_batch_size(experiment, size))


def _fields_at_batch_size(experiment: Experiment, size: int) -> dict[str, int]:
    """Return the fields that another batch size changes; none at the experiment's own."""
    if size == experiment.training.batch_size:
        return {}
    num_sizes = len(experiment.image.all_image_sizes)
    fewest = math.ceil(FEWEST_STEPS / num_sizes)
    warmup_images = experiment.timing.warmup_steps * experiment.training.batch_size
    warmup = math.ceil(warmup_images / size / num_sizes)
    window = round(experiment.images_per_window / size / num_sizes)
    return {
        "batch_size": size,
        "images": max(experiment.training.images, size),
        "warmup_steps": num_sizes * max(fewest, warmup),
        "steps_per_window": num_sizes * max(fewest, window),
    }


def _normalise_setting(text: str, kind: Any) -> Any:
    """Return a text unchanged, a JSON list decoded, and a number as JSON writes it (.5 becomes 0.5)."""
    if kind == NonEmptyStr:
        return text
    if kind == NonEmptyStr | None:
        return None if text == "null" else text
    if text.startswith("["):
        return msgspec.json.decode(text)
    return f"0{text}" if text.startswith(".") else text


def strip_settings(experiment: str) -> str:
    """Return an experiment's name without its settings."""
    return split_name(experiment)[0]
