"""Experiments with other settings, as a command line or a search of batch sizes gives them."""

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, get_args

import msgspec

from bench.experiment.config import (
    FIELD_DECLARATIONS,
    Experiment,
    FieldDeclaration,
    change,
    get_declared_method_fields,
    get_field,
    look_up,
)
from bench.experiment.fields import (
    OWN_LENGTHS,
    PACK_DATA,
    NonEmptyStr,
    TimingSettings,
    TrainingSettings,
)

MIN_STEPS = 4  # of a warm-up and of a window at another batch size


def renamed_with_settings(experiment: Experiment, settings: Iterable[str]) -> Experiment:
    """Return the experiment with `field=value` settings applied; its new name lists those that change a value.

    Another batch size changes warm-up and windows, unless these are set as well. The name has each value as JSON writes
    it, so that equal experiments have equal names. It does not list the seed, so that trainings with several seeds are
    of one experiment. Lists are JSON, and `null` is None. Raises ValueError for an unknown field or a bad value.
    """
    settings = list(settings)
    method = experiment.method
    for setting in settings:
        if setting.startswith("method="):
            method = setting.removeprefix("method=")
    known = {**FIELD_DECLARATIONS, **get_declared_method_fields(method)}
    known.pop("name")
    values = dict(_parse_field_equals_value(setting, known) for setting in settings)
    named = values.keys() - {"seed"}
    # Only the pack's captions can be cut to other lengths.
    if values.get("data", PACK_DATA) != PACK_DATA:
        values.setdefault("pack_caption_lengths", OWN_LENGTHS)
    batch_size = values.get("batch_size", experiment.training.batch_size)
    changes: dict[str, Any] = {}
    if batch_size != experiment.training.batch_size:
        num_sizes = len(experiment.image.all_image_sizes)
        changes = _fields_at_batch_size(
            batch_size, num_sizes, experiment.training, experiment.timing
        )
    shown = {}
    for field, value in sorted(values.items()):
        before = get_field(experiment, field)
        # A value counts if it differs from the experiment's, or from the one that the batch size sets.
        if value == before and value == changes.get(field, before):
            continue
        changes[field] = value
        if field in named:
            shown[field] = value
    if not changes:
        return experiment
    name = experiment.name
    if shown:
        name = f"{name}[{','.join(format_settings(shown))}]"
    return change(experiment, name=name, **changes)


def format_settings(values: Mapping[str, Any]) -> list[str]:
    """Return values of fields as FIELD=VALUE settings, as `renamed_with_settings` reads them."""
    settings = []
    for field, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value)
        settings.append(f"{field}={text}")
    return settings


def _parse_field_equals_value(
    setting: str, known_fields: Mapping[str, FieldDeclaration]
) -> tuple[str, Any]:
    """Return the field of a setting and its converted value; ValueError says what is accepted."""
    field, equals, text = setting.partition("=")
    if not equals or not setting.isprintable():
        raise ValueError(f"a setting is field=value, got {setting!r}")
    kind = look_up(field, known_fields, "field of an experiment").kind
    try:
        return field, msgspec.convert(_prepare_text_for_msgspec(text, kind), kind, strict=False)
    except (msgspec.DecodeError, RecursionError) as error:
        names = [name for name in get_args(kind) if isinstance(name, str)]
        accepted = f" (accepted: {', '.join(names)})" if names else ""
        raise ValueError(f"--set {setting}: {error}{accepted}") from None


def _fields_at_batch_size(
    batch_size: int, num_sizes: int, training: TrainingSettings, timing: TimingSettings
) -> dict[str, int]:
    """Return batch size, images, and the warm-up and window steps of the timing, at another batch size.

    Warm-up and windows have about as many images, and at least four steps, because fewer would time the launch of the
    first and the wait for the last. They draw each of the `num_sizes` image sizes equally often.
    """
    min_passes = math.ceil(MIN_STEPS / num_sizes)  # passes over all image sizes
    warmup_images = timing.untimed_steps * training.batch_size
    warmup_passes = math.ceil(warmup_images / batch_size / num_sizes)
    window_images = timing.steps_per_window * training.batch_size
    window_passes = round(window_images / batch_size / num_sizes)
    return {
        "batch_size": batch_size,
        "images_seen": max(training.images_seen, batch_size),  # at least one batch
        "untimed_steps": num_sizes * max(min_passes, warmup_passes),
        "steps_per_window": num_sizes * max(min_passes, window_passes),
    }


def _prepare_text_for_msgspec(text: str, kind: Any) -> Any:
    """Return the text, or the JSON list in it, in a form that `msgspec.convert` turns into `kind`."""
    if kind == NonEmptyStr:
        return text
    if kind == NonEmptyStr | None:
        return None if text == "null" else text
    if text.startswith("["):
        return msgspec.json.decode(text)
    return f"0{text}" if text.startswith(".") else text


def shared_settings_in_brackets(experiment_names: Collection[str]) -> str:
    """Return the "[FIELD=VALUE,...]" that all names of experiments end with; empty if they do not end alike."""
    endings = {name.removeprefix(strip_bracketed_settings(name)) for name in experiment_names}
    return endings.pop() if len(endings) == 1 else ""


def strip_bracketed_settings(experiment_name: str) -> str:
    """Return the name of an experiment without the [FIELD=VALUE,...] at its end."""
    return re.split(r"(?<=[\w\]])\[(?=\w+=)", experiment_name, maxsplit=1)[0]
