"""The ladder: experiments from a baseline to a named one, each of which differs from the one before in one cause.

Factors (settings with one value at the start and another at the end) change first, then the rest of the recipe that is
work of a step, then the objective, stage by stage. The last causes therefore measure the objective with all else as at
the end.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from bench.experiment.config import (
    Experiment,
    change,
    differing_fields,
    fields_with,
    format_differences,
    get_field,
)
from bench.experiment.settings import with_settings
from bench.interfaces.method import METHODS, get_label_method, get_method
from bench.records.record_kind import RecordKind

PADDING, TEXT_TOWER, HEAD = "captions' padding", "the text tower", "head and loss"
REST = "the recipe's rest"
PACE_FIELDS = fields_with("pace")
# Stages of a ladder change them.
OBJECTIVE_FIELDS = (
    "method",
    "text_padding",
    "text_features",
    "head_rows",
)
LABEL_FIELDS = ("labels", "label_format")  # only CatLIP's labels depend on them
# Equal in all experiments of a ladder.
SHARED_FIELDS = (
    "tower",
    "text_tower",
    "data",
    "caption",
    "subset",
)
TOWER_FIELDS = (  # some towers refuse values of these
    *("image_size", "image_sizes", "patch_drop", "pooling"),
    *("residual_precision", "activation_checkpointing"),
)
SAMPLE_FIELDS = ("workers", "jpeg_decoding", "crop_scale", "flip")  # a loader of shards reads them
# The update after a backward reads them.
UPDATE_FIELDS = (
    "optimizer_kernel",
    "log_grad_norm",
    "ema_kernel",
)
# Work of a step outside its forward and backward: differences are one stage before the objective.
RECIPE_FIELDS = (*SAMPLE_FIELDS, "clip_norm", "ema_decay")
# No work of a forward or backward: each experiment keeps its own. Fields that the recipe does not have change with the
# method.
FIELDS_WITHOUT_WORK = (
    *RECIPE_FIELDS,
    *(
        "seed",
        "pixel_normalisation",
        "labels",
        "synset_vocabulary",
        "head_initialisation",
        "teacher",
        "sharding",
    ),
    *("images", "warmup_images", "schedule", "cooldown_share"),
    *("learning_rate", "min_learning_rate", "betas", "eps", "weight_decay"),
    *PACE_FIELDS,
)


@dataclass(frozen=True, slots=True)
class Factor:
    """A setting with different values at the start and the end of a ladder."""

    name: str
    before: str  # field=value
    after: str

    @property
    def field(self) -> str:
        """Return the experiment's field that it changes."""
        return self.before.partition("=")[0]


class Rung(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An experiment of a ladder."""

    experiment: str
    cause: str = ""  # of the ratio to the rung before; empty for the first
    change: str = ""  # of a factor, its setting before and after
    is_objective: bool = False  # whether the objective changes, and not a setting of the recipe


class ExpectedRatio(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ratio to compare with the measured one: counted, or published."""

    what: str
    ratio: float
    source: str


class Ladder(RecordKind, frozen=True, kw_only=True, tag="ladder"):
    """The plan of an explanation. Each round times all rungs."""

    rungs: tuple[Rung, ...]
    left_out: dict[str, str] = {}  # possible causes that are not measured, with the reason
    references: tuple[ExpectedRatio, ...] = ()

    @property
    def causes(self) -> tuple[str, ...]:
        """The causes in the order of the ladder."""
        return tuple(rung.cause for rung in self.rungs[1:])


def record_ladder(ladder: Ladder) -> Ladder:
    """Return the ladder: a run without a measurement, so that reports read the plan from a record."""
    return ladder


@dataclass(frozen=True, slots=True)
class Stage:
    """An objective with settings, and the cause that leads to it."""

    cause: str
    base: Experiment
    settings: tuple[str, ...] = ()


def stages_between(
    baseline: Experiment,
    first: Experiment,
    padding_reason: str | None = None,
    factors: Sequence[Factor] = (),
) -> list[Stage]:
    """Return the stages from one experiment to another, the first without a cause.

    Differences of the recipe that are no factors change together in one stage, then the objective changes, then factors
    of CatLIP's labels one by one, because no objective before it reads them. `padding_reason` is the reason if captions
    must stay padded. Raises ValueError for a pair without a ladder.
    """
    stages = _objective_stages(baseline, first, padding_reason)
    factor_fields = {factor.field for factor in factors}
    rest = [
        name
        for name in differing_fields([baseline, first])
        if name in RECIPE_FIELDS and name not in factor_fields
    ]
    if rest:
        before = tuple(setting_text(name, get_field(baseline, name)) for name in rest)
        after = tuple(setting_text(name, get_field(first, name)) for name in rest)
        start = stages[0]
        stages = [
            Stage("", start.base, (*start.settings, *before)),
            Stage(REST, start.base, (*start.settings, *after)),
            *(Stage(stage.cause, stage.base, (*stage.settings, *after)) for stage in stages[1:]),
        ]
    return _with_label_stages(
        stages, [factor for factor in factors if factor.field in LABEL_FIELDS]
    )


def _with_label_stages(stages: Sequence[Stage], factors: Sequence[Factor]) -> list[Stage]:
    """Begin with the label settings of the factors' start where labels are read, and add a stage for each factor."""
    with_labels = []
    for stage in stages:
        method = get_label_method(stage.base.method)
        before = [
            factor.before for factor in factors if method and factor.field in method.label_fields
        ]
        with_labels.append(Stage(stage.cause, stage.base, (*stage.settings, *before)))
    for factor in factors:
        last = with_labels[-1]
        with_labels.append(Stage(factor.name, last.base, (*last.settings, factor.after)))
    return with_labels


def setting_text(field: str, value: object) -> str:
    """Write a setting as `with_settings` reads it."""
    return f"{field}={value if isinstance(value, str) else json.dumps(value)}"


def _objective_stages(
    baseline: Experiment, first: Experiment, padding_reason: str | None
) -> list[Stage]:
    """Return the stages of the objective, the first without a cause."""
    differences = differing_fields([baseline, first])
    shared = {name: values for name, values in differences.items() if name in SHARED_FIELDS}
    if shared:
        raise ValueError(
            f"a ladder has one tower and one data set, these differ in {format_differences(shared)}"
        )
    if baseline.method == first.method:
        return [Stage("", first)]
    roles = (get_method(baseline.method).ladder_role, get_method(first.method).ladder_role)
    if roles == ("pair", "pair"):
        return [Stage("", baseline), Stage("loss", first)]
    if roles == ("classifier", "classifier"):
        return [Stage("", baseline), Stage(f"labels, {HEAD}", first)]
    if roles == ("pair", "classifier"):
        padding = (
            "auto" if baseline.text.text_padding == "max_length" else baseline.text.text_padding
        )
        stages = [Stage("", baseline, ("text_padding=max_length",))]
        if not padding_reason:
            stages.append(Stage(PADDING, baseline, (f"text_padding={padding}",)))
        return [*stages, Stage(TEXT_TOWER, baseline, ("text_features=stored",)), Stage(HEAD, first)]
    if roles == ("classifier", "pair"):
        raise ValueError(
            "a ladder leads from a text tower to none: "
            f"explain {baseline.name} --baseline {first.name}, not the reverse"
        )
    without_ladder = get_method(baseline.method if roles[0] is None else first.method)
    with_ladder = [name for name, method in METHODS.items() if method.ladder_role]
    raise ValueError(
        f"no ladder leads from {baseline.method} to {first.method}: {without_ladder.name} "
        f"{without_ladder.no_ladder_reason} and replaces nothing (there are ladders between {', '.join(with_ladder)})"
    )


def needs_padding_stage(baseline: Experiment, first: Experiment) -> bool:
    """Return whether the ladder leads from a pair of towers to a classifier, and so past the captions' padding."""
    roles = [get_method(experiment.method).ladder_role for experiment in (baseline, first)]
    return roles == ["pair", "classifier"]


def build_ladder(
    stages: Sequence[Stage], factors: Sequence[Factor], pace: Experiment
) -> tuple[Ladder, list[Experiment]]:
    """Return a ladder with an experiment for each of its rungs; `pace` sets the number of images of a run.

    Raises ValueError if nothing differs.
    """
    # Label factors are stages.
    factors = [factor for factor in factors if factor.field not in LABEL_FIELDS]
    if not factors and len(stages) == 1:
        raise ValueError(
            f"{stages[0].base.name} differs from the other in nothing that a step's work depends on"
        )
    experiments = []
    rungs = []

    def add(
        stage: Stage, num_changed: int, cause: str, changed: str = "", *, is_objective: bool = False
    ) -> None:
        settings = [factor.after for factor in factors[:num_changed]]
        settings += [factor.before for factor in factors[num_changed:]]
        experiment = _match_timed_images(
            with_settings(stage.base, [*stage.settings, *settings]), pace
        )
        experiments.append(experiment)
        rungs.append(
            Rung(experiment=experiment.name, cause=cause, change=changed, is_objective=is_objective)
        )

    add(stages[0], 0, "")
    for number, factor in enumerate(factors, 1):
        add(stages[0], number, factor.name, f"{factor.before} -> {factor.after.partition('=')[2]}")
    for stage in stages[1:]:
        add(stage, len(factors), stage.cause, is_objective=stage.cause != REST)
    return Ladder(rungs=tuple(rungs)), experiments


def _match_timed_images(experiment: Experiment, pace: Experiment) -> Experiment:
    """Set warm-up and windows to about as many images as those of `pace`, with every image size equally often."""
    sizes = len(experiment.image.all_image_sizes)
    relative_batch = pace.training.batch_size / experiment.training.batch_size / sizes

    def steps(pace_steps: int) -> int:
        return sizes * max(1, round(pace_steps * relative_batch))

    return change(
        experiment,
        images=max(experiment.training.images, experiment.training.batch_size),
        warmup_steps=max(2, steps(pace.timing.warmup_steps)),
        windows=max(2, pace.timing.windows // 2),
        steps_per_window=steps(2 * pace.timing.steps_per_window),
    )
