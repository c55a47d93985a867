"""The ladder: experiments from a baseline to a target; each differs from the previous one in one cause.

Factors (settings with one value at the start and another at the end) change first, then the rest of the recipe that is
work of a step, then the objective, stage by stage. The last causes therefore measure the objective with all else as at
the end.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bench.experiment.config import (
    FIELDS,
    Experiment,
    change,
    differing_field_values,
    field_names_with_role,
    format_differences,
    get_field,
    look_up,
)
from bench.experiment.settings import with_settings
from bench.interfaces.method import get_method
from bench.records.record_kind import RecordContent

PADDING = "captions' padding"
TEXT_TOWER = "the text tower"
HEAD = "head and loss"
REST = "the recipe's rest"
# Fields that are equal in all experiments of a ladder.
SHARED_FIELDS = ("tower", "text_tower", "data", "caption", "subset")
# Fields that the stages of the objective change.
OBJECTIVE_FIELDS = ("method", "text_padding", "text_features", "head_rows")
LABEL_FIELDS = ("labels", "label_format")  # only labels depend on them
# Work of a step outside its forward and backward: differences are one stage before the objective.
RECIPE_FIELDS = (
    "workers",
    "jpeg_decoding",
    "crop_scale",
    "flip",
    "optimizer",
    "clip_norm",
    "ema_decay",
)
NEVER_FACTORS = (*SHARED_FIELDS, *OBJECTIVE_FIELDS, *field_names_with_role("pace"))
# No work of a forward or backward: each experiment keeps its own.
FIELDS_WITHOUT_WORK = (
    "seed",
    "pixel_normalisation",
    "synset_vocabulary",
    "head_initialisation",
    "teacher",
    "sharding",
    "images",
    "warmup_images",
    "schedule",
    "cooldown_share",
    "learning_rate",
    "min_learning_rate",
    "betas",
    "eps",
    "weight_decay",
)

FieldValues = dict[str, Any]  # by name of the field


class Rung(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One experiment of a ladder, and what it changes."""

    experiment: str
    cause: str = ""  # of the ratio to the rung before; empty for the first
    change: str = ""  # of a factor, its setting before and after


class Ladder(RecordContent, frozen=True, kw_only=True, tag="ladder"):
    """The experiments from a baseline to a target, each of which differs from the previous one in one cause.

    Each round times all rungs.
    """

    rungs: tuple[Rung, ...]
    note: str = ""  # why a cause is not measured

    @property
    def causes(self) -> tuple[str, ...]:
        """The causes in the order of the ladder."""
        return tuple(rung.cause for rung in self.rungs[1:])


def return_ladder(ladder: Ladder) -> Ladder:
    """Return the given ladder: the function of a run whose record holds the plan for reports."""
    return ladder


def plan_ladder(
    baseline: Experiment, target: Experiment, chosen_settings: Sequence[str] = ()
) -> tuple[Ladder, list[Experiment]]:
    """Return the ladder from a baseline to a target experiment, and the experiments of its rungs.

    Factors are the settings in which both differ and that a step's work depends on, and `chosen_settings`, each
    FIELD=VALUE with the value at the beginning. Raises ValueError for a pair without a ladder, and for a setting that
    is no factor.
    """
    differences = differing_field_values([baseline, target])
    shared = {name: values for name, values in differences.items() if name in SHARED_FIELDS}
    if shared:
        raise ValueError(
            f"a ladder has one tower and one data set, these differ in {format_differences(shared)}"
        )
    starts = _differing_factors(differences) | _chosen_factors(baseline, target, chosen_settings)
    objective, note = _objective_stages(baseline, target)
    base = baseline if objective else target
    settings = dict(starts)
    changes = [(field, {field: get_field(target, field)}) for field in starts]
    rest: FieldValues = {}
    for field in differences:
        if field in RECIPE_FIELDS and field not in starts:
            settings[field] = get_field(baseline, field)
            rest[field] = get_field(target, field)
    if rest:
        changes.append((REST, rest))
    causes_of_objective = [cause for cause, _ in objective]
    if HEAD in causes_of_objective:
        settings["text_padding"] = "max_length"
    changes += objective
    if not changes:
        raise ValueError(
            f"{target.name} differs from {baseline.name} in nothing that a step's work depends on"
        )
    experiments = [_with_values(base, settings)]
    rungs = [Rung(experiment=experiments[0].name)]
    for cause, values in changes:
        settings |= values
        experiment = _with_values(base, settings) if values else target
        changed = f"{starts[cause]} -> {values[cause]}" if cause in starts else ""
        experiments.append(experiment)
        rungs.append(Rung(experiment=experiment.name, cause=cause, change=changed))
    timed = [_with_timed_images_of(experiment, target) for experiment in experiments]
    return Ladder(rungs=tuple(rungs), note=note), timed


def _differing_factors(differences: Mapping[str, tuple[Any, ...]]) -> FieldValues:
    """Return the values at the beginning of the fields that change the work of a step.

    Fields that methods declare belong to the objective.
    """
    ignored = (*NEVER_FACTORS, *FIELDS_WITHOUT_WORK, *LABEL_FIELDS, *RECIPE_FIELDS)
    starts = {}
    for field, (start, *_) in differences.items():
        if field in FIELDS and field not in ignored:
            starts[field] = start
    return starts


def _chosen_factors(
    baseline: Experiment, target: Experiment, chosen_settings: Sequence[str]
) -> FieldValues:
    """Return the values at the beginning that FIELD=VALUE settings give."""
    starts = {}
    possible = {name: None for name in FIELDS if name not in NEVER_FACTORS}
    for setting in chosen_settings:
        field = setting.partition("=")[0]
        look_up(field, possible, "factor")
        if field in LABEL_FIELDS and baseline.method != target.method:
            raise ValueError(f"{field} is a factor between experiments of one method alone")
        starts[field] = get_field(with_settings(target, [setting]), field)
        if starts[field] == get_field(target, field):
            raise ValueError(
                f"{target.name} has {setting} already: --factors are values at the beginning"
            )
    return starts


def _objective_stages(
    baseline: Experiment, target: Experiment
) -> tuple[list[tuple[str, FieldValues]], str]:
    """Return the causes of the objective with the settings that they change, and a note on a cause left out.

    The last cause, without settings, changes to the target itself. Equal methods have no such stages.
    """
    first = get_method(baseline.method)
    last = get_method(target.method)
    roles = (first.ladder_role, last.ladder_role)
    if baseline.method == target.method:
        return [], ""
    if roles == ("pair", "pair"):
        return [("loss", {})], ""
    if roles == ("classifier", "classifier"):
        return [(f"labels, {HEAD}", {})], ""
    if roles != ("pair", "classifier"):
        reason = "a ladder leads from a text tower to none, not back"
        for method in (first, last):
            if method.ladder_role is None:
                reason = f"{method.name} {method.no_ladder_reason}"
        raise ValueError(f"no ladder leads from {baseline.method} to {target.method}: {reason}")
    from models.text_tower import why_padding_is_needed

    stages: list[tuple[str, FieldValues]] = [(TEXT_TOWER, {"text_features": "stored"}), (HEAD, {})]
    padding_reason = why_padding_is_needed(baseline.text.text_tower)
    if padding_reason:
        return stages, f"{PADDING} is not measured: {padding_reason}"
    padding = baseline.text.text_padding
    if padding == "max_length":
        padding = "auto"
    return [(PADDING, {"text_padding": padding}), *stages], ""


def _with_values(experiment: Experiment, values: FieldValues) -> Experiment:
    """Return the experiment with other values of fields, which its name lists."""
    settings = []
    for field, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value)
        settings.append(f"{field}={text}")
    return with_settings(experiment, settings)


def _with_timed_images_of(experiment: Experiment, reference: Experiment) -> Experiment:
    """Return the experiment with about as many images in warm-up and windows as the reference has.

    Every image size is drawn equally often.
    """
    num_sizes = len(experiment.image.all_image_sizes)
    relative_batch = reference.training.batch_size / experiment.training.batch_size / num_sizes
    warmup_steps = num_sizes * max(1, round(reference.timing.warmup_steps * relative_batch))
    window_steps = num_sizes * max(1, round(2 * reference.timing.steps_per_window * relative_batch))
    return change(
        experiment,
        images=max(experiment.training.images, experiment.training.batch_size),
        warmup_steps=max(2, warmup_steps),
        windows=max(2, reference.timing.windows // 2),
        steps_per_window=window_steps,
    )
