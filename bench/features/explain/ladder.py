"""The ladder: a sequence of experiments, each of which differs from the previous one in one cause of their ratio.

It leads from one experiment, with captions padded as usual, to another. Factors (settings with one value at the start
and another at the end) change first, then the rest of the recipe that is work of a step, then the objective, stage by
stage. The last stages therefore measure the objective with all else as at the end. In a full factorial design, every
combination of factors has every stage.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import msgspec

from bench.experiment.config import Experiment, change, differing_fields, fields_with, format_differences, get_field
from bench.experiment.settings import with_settings
from bench.interfaces.method import METHODS, get_label_method, get_method
from bench.records.record_kind import RecordKind

PADDING, TEXT_TOWER, HEAD = "captions' padding", "the text tower", "head and loss"
REST = "the recipe's rest"
WAITING = "waiting for data"  # a cause without a configuration of its own: what steps of shards wait for their batches
PACE_FIELDS = fields_with("pace")
OBJECTIVE_FIELDS = ("method", "text_padding", "text_features", "head_rows")  # stages of a ladder change them
LABEL_FIELDS = ("labels", "label_format")  # only CatLIP's labels depend on them
SHARED_FIELDS = ("tower", "text_tower", "data", "caption", "subset")  # equal in all configurations of a ladder
TOWER_FIELDS = (  # some towers refuse values of these
    *("image_size", "image_sizes", "patch_drop", "pooling"),
    *("residual_precision", "activation_checkpointing"),
)
SAMPLE_FIELDS = ("workers", "jpeg_decoding", "crop_scale", "flip")
INPUT_FIELDS = (*LABEL_FIELDS, *SAMPLE_FIELDS)  # a loader of shards reads them
UPDATE_FIELDS = ("optimizer_kernel", "log_grad_norm", "ema_kernel")  # the update after a backward reads them
# Work of a step outside its forward and backward: differences are one stage before the objective.
RECIPE_FIELDS = (*SAMPLE_FIELDS, "clip_norm", "ema_decay")
# No work of a forward or backward: each experiment keeps its own. Fields that the recipe does not have change with the
# method.
FIELDS_WITHOUT_WORK = (
    *RECIPE_FIELDS,
    *("seed", "pixel_normalisation", "labels", "synset_vocabulary", "head_initialisation", "teacher", "sharding"),
    *("images", "warmup_images", "schedule", "cooldown_share"),
    *("learning_rate", "min_learning_rate", "betas", "eps", "weight_decay"),
    *PACE_FIELDS,
)
MAX_FACTORS = 4  # factors; with a text tower that is 64 configurations
Coordinates = tuple[int, frozenset[str]]  # stages before a configuration, and its changed factors


class Factor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A setting with different values at the start and the end of the ladder."""

    name: str
    before: str  # field=value
    after: str

    @property
    def field(self) -> str:
        """Return the experiment's field that it changes."""
        return self.before.partition("=")[0]


class Configuration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An experiment of a ladder, identified by the changes before it."""

    experiment: str
    stage: int  # number of stages before it
    after: tuple[str, ...]  # changed factors

    @property
    def coordinates(self) -> Coordinates:
        """Return its stage and changed factors."""
        return self.stage, frozenset(self.after)


class ExpectedRatio(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ratio to compare with the measured one: counted, or published."""

    what: str
    ratio: float
    source: str


class Ladder(RecordKind, frozen=True, kw_only=True, tag="ladder"):
    """The plan of an explanation. Even rounds run all configurations, odd rounds the two ends."""

    causes: tuple[str, ...]  # of each stage: the rest of the recipe, then the objective's
    factors: tuple[Factor, ...]  # in the order of their change
    configurations: tuple[Configuration, ...]  # those of the chain in its order, then the others
    left_out: dict[str, str] = {}  # possible causes that are not measured, with the reason
    references: tuple[ExpectedRatio, ...] = ()

    @property
    def chain(self) -> tuple[Coordinates, ...]:
        """Return the configurations from start to end, each one cause after the previous one."""
        return build_chain(len(self.causes), [factor.name for factor in self.factors])

    @property
    def steps(self) -> tuple[str, ...]:
        """Return the cause between each configuration of the chain and the next."""
        return (*(factor.name for factor in self.factors), *self.causes)

    @property
    def is_factorial(self) -> bool:
        """Whether the design is a full factorial one, with more than one order of factors."""
        return bool(self.factors) and len(self.configurations) == (len(self.causes) + 1) * 2 ** len(self.factors)


@dataclass(frozen=True, slots=True)
class Stage:
    """An objective, and the change that leads to it."""

    cause: str
    base: Experiment
    settings: tuple[str, ...] = ()


def stages_between(
    baseline: Experiment, first: Experiment, padding_reason: str | None = None, factors: Sequence[Factor] = ()
) -> list[Stage]:
    """Return the stages from one experiment to another, the first without a cause.

    Differences of the recipe that are no factors change together in one stage, then the objective changes, then factors
    of CatLIP's labels one by one: no objective before it reads them.
    `padding_reason` is the reason if captions must stay padded. Raises ValueError for a pair without a ladder.
    """
    begin, *others = _objective_stages(baseline, first, padding_reason)
    taken = {factor.field for factor in factors}
    rest = [name for name in differing_fields([baseline, first]) if name in RECIPE_FIELDS and name not in taken]
    stages = [begin, *others]
    if rest:
        before, after = (tuple(setting_text(name, get_field(one, name)) for name in rest) for one in (baseline, first))
        stages = [
            Stage("", begin.base, (*begin.settings, *before)),
            Stage(REST, begin.base, (*begin.settings, *after)),
            *(Stage(stage.cause, stage.base, (*stage.settings, *after)) for stage in others),
        ]
    return _with_label_stages(stages, [factor for factor in factors if factor.field in LABEL_FIELDS])


def _with_label_stages(stages: Sequence[Stage], factors: Sequence[Factor]) -> list[Stage]:
    """Begin with the labels of the factors' beginning where they are read, and add a stage for each change."""
    found = list[Stage]()
    for stage in stages:
        method = get_label_method(stage.base.method)
        before = [factor.before for factor in factors if method and factor.field in method.label_fields]
        found.append(Stage(stage.cause, stage.base, (*stage.settings, *before)))
    for factor in factors:
        found.append(Stage(factor.name, found[-1].base, (*found[-1].settings, factor.after)))
    return found


def setting_text(field: str, value: object) -> str:
    """Write a setting as `with_settings` reads it."""
    return f"{field}={value if isinstance(value, str) else json.dumps(value)}"


def _objective_stages(baseline: Experiment, first: Experiment, padding_reason: str | None) -> list[Stage]:
    ends = [get_method(one.method) for one in (baseline, first)]
    differing = {name: two for name, two in differing_fields([baseline, first]).items() if name in SHARED_FIELDS}
    if differing:
        raise ValueError(f"a ladder has one tower and one data set, these differ in {format_differences(differing)}")
    if baseline.method == first.method:
        return [Stage("", first)]
    objectives = ends[0].ladder_role, ends[1].ladder_role
    if objectives == ("pair", "pair"):
        return [Stage("", baseline), Stage("loss", first)]
    if objectives == ("classifier", "classifier"):
        return [Stage("", baseline), Stage(f"labels, {HEAD}", first)]
    if objectives == ("pair", "classifier"):
        padding = "auto" if baseline.text.text_padding == "max_length" else baseline.text.text_padding
        cut = [] if padding_reason else [Stage(PADDING, baseline, (f"text_padding={padding}",))]
        stored = Stage(TEXT_TOWER, baseline, ("text_features=stored",))
        return [Stage("", baseline, ("text_padding=max_length",)), *cut, stored, Stage(HEAD, first)]
    if objectives == ("classifier", "pair"):
        raise ValueError(
            "a ladder leads from a text tower to none: "
            f"explain {baseline.name} --baseline {first.name}, not the reverse"
        )
    other = next(method for method in ends if method.ladder_role is None)
    raise ValueError(
        f"no ladder leads from {baseline.method} to {first.method}: {other.name} {other.no_ladder_reason} and replaces "
        f"nothing (there are ladders between {', '.join(name for name, one in METHODS.items() if one.ladder_role)})"
    )


def needs_padding_stage(baseline: Experiment, first: Experiment) -> bool:
    """Return whether the ladder leads from a pair of towers to a classifier, and so past the captions' padding."""
    return [get_method(one.method).ladder_role for one in (baseline, first)] == ["pair", "classifier"]


def build_chain(num_causes: int, factors: Sequence[str]) -> tuple[Coordinates, ...]:
    """Return the configurations of the chain: factors change one by one, then the objective stage by stage."""
    toggled = [(0, frozenset(factors[:count])) for count in range(len(factors) + 1)]
    return (*toggled, *((stage, frozenset(factors)) for stage in range(1, num_causes + 1)))


def all_configurations(num_causes: int, factors: Sequence[str]) -> tuple[Coordinates, ...]:
    """Return every stage under every combination of factors, those of the chain first."""
    subsets = [frozenset(subset) for count in range(len(factors) + 1) for subset in combinations(factors, count)]
    every = [(stage, subset) for subset in subsets for stage in range(num_causes + 1)]
    return tuple(dict.fromkeys([*build_chain(num_causes, factors), *every]))


def build_ladder(
    stages: Sequence[Stage], factors: Sequence[Factor], *, factorial: bool, pace: Experiment
) -> tuple[Ladder, list[Experiment]]:
    """Return a ladder with an experiment for each of its configurations; `pace` sets the number of images of a run.

    Raises ValueError if nothing differs, or if too many factors are combined.
    """
    factors = [factor for factor in factors if factor.field not in LABEL_FIELDS]  # they are stages
    names, causes = [factor.name for factor in factors], [stage.cause for stage in stages[1:]]
    if not names and not causes:
        raise ValueError(f"{stages[0].base.name} differs from the other in nothing that a step's work depends on")
    if factorial and len(names) > MAX_FACTORS:
        raise ValueError(f"at most {MAX_FACTORS} factors are combined, got {', '.join(names)}")
    experiments, configurations = list[Experiment](), list[Configuration]()
    for number, changed in (all_configurations if factorial else build_chain)(len(causes), names):
        stage = stages[number]
        settings = [factor.after if factor.name in changed else factor.before for factor in factors]
        experiment = _match_timed_images(with_settings(stage.base, [*stage.settings, *settings]), pace)
        experiments.append(experiment)
        after = tuple(name for name in names if name in changed)
        configurations.append(Configuration(experiment=experiment.name, stage=number, after=after))
    return Ladder(causes=tuple(causes), factors=tuple(factors), configurations=tuple(configurations)), experiments


def _match_timed_images(configuration: Experiment, pace: Experiment) -> Experiment:
    """Set warm-up and windows to about as many images as those of `pace`, with every image size equally often.

    Windows are half as many and twice as long: the pass over the phases is as long as one of them.
    """
    sizes = len(configuration.image.all_image_sizes)

    def steps(pace_steps: int) -> int:
        return sizes * max(1, round(pace_steps * pace.training.batch_size / configuration.training.batch_size / sizes))

    return change(
        configuration,
        images=max(configuration.training.images, configuration.training.batch_size),
        warmup_steps=max(2, steps(pace.timing.warmup_steps)),
        windows=max(2, pace.timing.windows // 2),
        steps_per_window=steps(2 * pace.timing.steps_per_window),
    )


def record_ladder(ladder: Ladder) -> Ladder:
    """Return the ladder, as the run that records it before the other runs."""
    return ladder
