"""The ladder: experiments from a baseline to a target; each differs from the previous one in one cause.

Factors (settings with one value at the start and another at the end) change first, then the rest of the recipe that is
work of a step, then the objective, stage by stage. The last causes therefore measure the objective with all else as at
the end.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from bench.experiment.config import (
    FIELDS,
    Experiment,
    FieldDifferences,
    change,
    differing_values_by_field,
    field_names_with_role,
    format_field_differences,
    get_field,
    look_up,
)
from bench.experiment.fields import TextSettings
from bench.experiment.settings import format_settings, renamed_with_settings
from bench.interfaces.method import Method, get_method
from bench.records.record_kind import RecordContent

PADDING = "captions' padding"
TEXT_TOWER = "the text tower"
HEAD = "head and loss"
REST = "the recipe's rest"
# Fields that are equal in all experiments of a ladder.
SHARED_FIELDS = ("tower", "text_tower", "data", "caption_fields", "subset")
# Fields that the stages of the objective change.
OBJECTIVE_FIELDS = ("method", "text_padding", "text_features", "padded_head_rows")
LABEL_FIELDS = ("synset_label_format",)  # only labels depend on them
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
    "synset_head_initialisation",
    "teacher_tower",
    "sharding",
    "images_seen",
    "warmup_images",
    "schedule",
    "cooldown_share",
    "learning_rate",
    "cosine_min_learning_rate",
    "betas",
    "eps",
    "weight_decay",
)

FieldValues = dict[str, Any]  # by name of the field


class LadderStage(NamedTuple):
    """A step of a ladder from one rung to the next."""

    cause: str
    values: FieldValues  # of the fields that change; empty: the next rung is the target


class LadderRung(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One experiment of a ladder, and what it changes."""

    experiment: str
    cause: str = ""  # of the ratio to the rung before; empty for the first
    change: str = ""  # of a factor, its setting before and after


class ExperimentLadder(RecordContent, frozen=True, kw_only=True, tag="ladder"):
    """The experiments from a baseline to a target, each of which differs from the previous one in one cause.

    Each round times all rungs.
    """

    rungs: tuple[LadderRung, ...]
    note: str = ""  # why a cause is not measured


def return_ladder(ladder: ExperimentLadder) -> ExperimentLadder:
    """Return the given ladder: the function of a run whose record holds the ladder for reports."""
    return ladder


def plan_ladder(
    baseline: Experiment, target: Experiment, factor_settings: Sequence[str] = ()
) -> tuple[ExperimentLadder, list[Experiment]]:
    """Return the ladder from a baseline to a target experiment, and the experiments of its rungs.

    Factors are the settings in which both differ and that a step's work depends on, and `factor_settings`, each
    FIELD=VALUE with the value at the beginning. Where a stage drops the text tower, the first rung is the baseline with
    captions padded to the full length. Raises ValueError for a pair without a ladder, and for a setting that
    is no factor.
    """
    differences = differing_values_by_field([baseline, target])
    shared = {name: differences[name] for name in SHARED_FIELDS if name in differences}
    if shared:
        raise ValueError(
            f"a ladder has one tower and one data set, these differ in {format_field_differences(shared)}"
        )
    factors = _select_factors_with_baseline_values(differences)
    factors |= _parse_chosen_factors(factor_settings, target, baseline.method)
    stages = [LadderStage(field, {field: get_field(target, field)}) for field in factors]
    rest_fields = [name for name in differences if name in RECIPE_FIELDS and name not in factors]
    if rest_fields:
        stages.append(LadderStage(REST, {field: get_field(target, field) for field in rest_fields}))
    objective_stages, note = _list_method_change_stages(
        get_method(baseline.method), get_method(target.method), baseline.text
    )
    stages += objective_stages
    if not stages:
        raise ValueError(
            f"{target.name} differs from {baseline.name} in nothing that a step's work depends on"
        )
    base = baseline if objective_stages else target
    values = factors | {field: get_field(baseline, field) for field in rest_fields}
    if any(stage.cause == HEAD for stage in objective_stages):
        values["text_padding"] = "max_length"
    experiments = [renamed_with_settings(base, format_settings(values))]
    rungs = [LadderRung(experiment=experiments[0].name)]
    for cause, changes in stages:
        values |= changes
        experiment = renamed_with_settings(base, format_settings(values)) if changes else target
        experiments.append(experiment)
        changed = f"{factors[cause]} -> {changes[cause]}" if cause in factors else ""
        rungs.append(LadderRung(experiment=experiment.name, cause=cause, change=changed))
    timed = [_with_as_many_timed_images(experiment, target) for experiment in experiments]
    return ExperimentLadder(rungs=tuple(rungs), note=note), timed


def _select_factors_with_baseline_values(differences: FieldDifferences) -> FieldValues:
    """Return the fields that change the work of a step, with the baseline's values.

    Fields of the recipe and of labels are no factors. Fields that methods declare belong to the objective.
    """
    ignored = (*NEVER_FACTORS, *FIELDS_WITHOUT_WORK, *LABEL_FIELDS, *RECIPE_FIELDS)
    factors = {}
    for field, (start, *_) in differences.items():
        if field in FIELDS and field not in ignored:
            factors[field] = start
    return factors


def _parse_chosen_factors(
    factor_settings: Sequence[str], target: Experiment, baseline_method: str
) -> FieldValues:
    """Return the fields of FIELD=VALUE settings with their values; ValueError for one that is no factor."""
    factors = {}
    possible = {
        name: None
        for name in FIELDS
        if name not in NEVER_FACTORS and name not in FIELDS_WITHOUT_WORK
    }
    for setting in factor_settings:
        field = setting.partition("=")[0]
        look_up(field, possible, "factor")
        if field in LABEL_FIELDS and baseline_method != target.method:
            raise ValueError(f"{field} is a factor between experiments of one method alone")
        factors[field] = get_field(renamed_with_settings(target, [setting]), field)
        if factors[field] == get_field(target, field):
            raise ValueError(
                f"{target.name} has {setting} already: --extra-baseline-settings are values at the beginning"
            )
    return factors


def _list_method_change_stages(
    first: Method, last: Method, text: TextSettings
) -> tuple[list[LadderStage], str]:
    """Return the stages from one method to another, and a note on a cause that is not measured.

    `text` are the baseline's settings. The last stage leads to the target. Equal methods have no stages. Raises
    ValueError if no ladder leads from one method to the other.
    """
    roles = (first.ladder_role, last.ladder_role)
    if first.name == last.name:
        return [], ""
    if roles == ("pair", "pair"):
        return [LadderStage("loss", {})], ""
    if roles == ("classifier", "classifier"):
        return [LadderStage(f"labels, {HEAD}", {})], ""
    if roles != ("pair", "classifier"):
        reason = "a ladder leads from a text tower to none, not back"
        for method in (first, last):
            if method.ladder_role is None:
                reason = f"{method.name} {method.no_ladder_reason}"
        raise ValueError(f"no ladder leads from {first.name} to {last.name}: {reason}")
    from models.text_tower import reason_padding_affects_features

    stages = [LadderStage(TEXT_TOWER, {"text_features": "random"}), LadderStage(HEAD, {})]
    padding_reason = reason_padding_affects_features(text.text_tower)
    if padding_reason:
        return stages, f"{PADDING} is not measured: {padding_reason}"
    padding = "auto" if text.text_padding == "max_length" else text.text_padding
    return [LadderStage(PADDING, {"text_padding": padding}), *stages], ""


def _with_as_many_timed_images(experiment: Experiment, reference: Experiment) -> Experiment:
    """Return the experiment with as many images in warm-up and windows as `reference` has, about.

    It has half as many windows, of twice the images. Every image size is drawn equally often.
    """
    timing = reference.timing
    training = experiment.training
    num_sizes = len(experiment.image.all_image_sizes)
    relative_batch = reference.training.batch_size / training.batch_size / num_sizes
    warmup_passes = max(1, round(timing.untimed_steps * relative_batch))  # of all image sizes
    window_passes = max(1, round(2 * timing.steps_per_window * relative_batch))
    return change(
        experiment,
        images_seen=max(training.images_seen, training.batch_size),
        untimed_steps=max(2, num_sizes * warmup_passes),
        timed_windows=max(2, timing.timed_windows // 2),
        steps_per_window=num_sizes * window_passes,
    )
