"""The settings of a run: a frozen value that holds everything that can change a figure."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import chain
from operator import attrgetter
from statistics import fmean
from typing import Annotated, Any, NamedTuple, TypeVar, get_origin

from msgspec import Meta
from msgspec.structs import fields, replace

from bench.environment.files import prefix_errors
from bench.experiment.fields import (
    OWN_LENGTHS,
    PACK_DATA,
    RANDOM_SUBSET,
    WITHOUT_HELD_OUT_CONCEPTS,
    ImageSettings,
    NonEmptyStr,
    OptimizerSettings,
    Role,
    RuntimeSettings,
    SampleSettings,
    SettingsGroup,
    TargetSettings,
    TextSettings,
    TimingSettings,
    TrainingSettings,
    field_metadata,
)

T = TypeVar("T")
# In a message on names that others chose.
MAX_LISTED_NAMES = 100
MAX_NAME_LENGTH = 200  # characters


class Experiment(SettingsGroup, frozen=True, kw_only=True):
    """The settings of a run; two runs with equal experiments differ only in the machine.

    `precision` and `compile` may be "auto", which means bf16 and compiled on CUDA, fp32 and eager on a CPU
    (bf16 without bf16 units is nine times slower); the circumstances of the record hold the values used.

    Raises ValueError at creation for a value that cannot be run.
    """

    name: Annotated[NonEmptyStr, field_metadata("Unique name of the experiment.")]
    method: Annotated[
        NonEmptyStr,
        field_metadata("Name of a method of `bench.methods`.", "tuned", "model"),
    ]
    seed: Annotated[
        int,
        Meta(ge=0, lt=2**62),
        field_metadata(
            "Seed of the weights, the image order and the augmentation.",
            "tuned",
            "replicate",
        ),
    ] = 0

    image: ImageSettings
    text: TextSettings
    targets: TargetSettings
    input: SampleSettings
    training: TrainingSettings
    optimizer: OptimizerSettings
    runtime: RuntimeSettings
    timing: TimingSettings
    own: dict[str, bool | int | float | str] = {}  # of fields that the method declares, by name

    def __hash__(self) -> int:
        """Hash a value that holds a dict."""
        return hash((self.name, self.method, self.seed, self.image, self.input, self.training))

    def __post_init__(self) -> None:
        """Raise ValueError for a value that cannot be run, naming the field."""
        with prefix_errors(self.name):
            super().__post_init__()
            for reason in chain(
                self._iterate_image_errors(),
                self._iterate_data_errors(),
                self._iterate_training_errors(),
            ):
                raise ValueError(reason)

    def _iterate_image_errors(self) -> Iterator[str]:
        """Yield what is wrong with image sizes and micro-batches."""
        sizes = self.image.random_image_sizes
        parts = self.training.micro_batches
        if list(sizes) != sorted({*sizes}):
            yield f"random_image_sizes must rise, got {sizes}"
        if sizes and parts > 1:
            yield f"micro_batches must be 1 with random_image_sizes, whose batches have no equal parts, got {parts}"
        if self.training.batch_size % parts:
            yield f"micro_batches must divide batch_size ({self.training.batch_size}), got {parts}"

    def _iterate_data_errors(self) -> Iterator[str]:
        """Yield what is wrong with fields that are for the shipped pack alone, or for other data alone."""
        image = self.image
        inputs = self.input
        is_pack = inputs.data == PACK_DATA
        has_images = image.input_embedding_grid_channels is None
        lengths = inputs.pack_caption_lengths
        if not is_pack and lengths != OWN_LENGTHS:
            yield f"pack_caption_lengths={lengths!r} is for the pack alone: leave it out with data={inputs.data}"
        if is_pack and (inputs.caption_fields or inputs.image_column):
            yield "caption_fields and image_column are for other data than the shipped pack: leave them out"
        subset = inputs.subset or ""
        if subset.startswith(RANDOM_SUBSET) and not re.fullmatch(
            rf"{RANDOM_SUBSET}[1-9][0-9]{{0,11}}", subset
        ):
            yield f"subset={subset}: expected a csv file of keys, or {RANDOM_SUBSET}N with N from 1"
        if subset == WITHOUT_HELD_OUT_CONCEPTS and not is_pack:
            yield f"subset={subset} is for the pack alone: leave it out with data={inputs.data}"
        if inputs.jpeg_decoding == "reduced" and (is_pack or not has_images):
            yield "jpeg_decoding must be full without JPEGs in shards (data=SHARDS), got 'reduced'"
        if has_images:
            return
        text = f"input_embedding_grid_channels={image.input_embedding_grid_channels} needs"
        if is_pack:
            yield f"{text} data=SHARDS with .npy members, the shipped pack holds images"
        if image.random_image_sizes or inputs.augmentation != "none":
            yield f"{text} random_image_sizes to be empty and augmentation=none"
        if image.pixel_normalisation != "openai":
            yield f"{text} pixel_normalisation=openai, a grid has no pixels to normalise"

    def _iterate_training_errors(self) -> Iterator[str]:
        """Yield what is wrong with the length of the training, its schedule and its crops."""
        training = self.training
        if training.images_seen < training.batch_size:
            yield f"images_seen must be a batch or more, got {training.images_seen}"
        most_images = training.images_seen
        if training.schedule == "wsd":
            most_images = int(training.images_seen * (1 - training.cooldown_share))
        if training.warmup_images > most_images:
            yield (
                f"warmup_images must be at most {most_images}, the images before any cool-down, "
                f"got {training.warmup_images}"
            )
        if training.cosine_min_learning_rate > self.optimizer.learning_rate:
            yield f"cosine_min_learning_rate is above learning_rate: {training.cosine_min_learning_rate}"
        if self.input.crop_scale[0] > self.input.crop_scale[1]:
            yield f"crop_scale must rise, got {self.input.crop_scale}"

    def device_batch_size_at(self, image_size: int) -> int:
        """Return the number of images per step on one device, if they have `image_size` pixels a side.

        They have about as many pixels as a batch at the experiment's `image_size`.
        Source: apple/corenet, `corenet/data/sampler/utils.py`, `image_batch_pairs`.
        """
        return max(
            1, int(round(self.training.batch_size * self.image.image_size**2 / image_size**2, 2))
        )

    @property
    def mean_device_batch_size(self) -> float:
        """Return the mean number of images per step on one device, over all image sizes."""
        return fmean(map(self.device_batch_size_at, self.image.all_image_sizes))

    @property
    def images_per_device_in_window(self) -> int:
        """Return the number of images per timed window on one device, where all have `image_size`."""
        return self.training.batch_size * self.timing.steps_per_window


class FieldDeclaration(NamedTuple):
    """How a field of experiments is declared."""

    group: str  # field of `Experiment` that holds the field's group; empty: it is a field of `Experiment` itself
    kind: Any  # its type
    default: Any  # NODEFAULT: it has none
    description: str
    roles: tuple[Role, ...]
    tuned_over: tuple[bool | float | str, ...]  # values that `tune` tries
    forms: str  # of its values, if neither its type nor its name says them


def _read_field_declaration(group: str, field: Any) -> FieldDeclaration:
    """Return the declaration of a field of a struct, whose annotation ends with its `field_metadata`."""
    *bounds, metadata = field.type.__metadata__
    kind = Annotated[field.type.__origin__, *bounds] if bounds else field.type.__origin__
    return FieldDeclaration(group, kind, field.default, metadata.description, **metadata.extra)


OWN = "own"  # field of `Experiment` that holds the method's own fields
FIELD_DECLARATIONS = dict[str, FieldDeclaration]()
for _field in fields(Experiment):
    if get_origin(_field.type) is Annotated:
        FIELD_DECLARATIONS[_field.name] = _read_field_declaration("", _field)
    elif _field.name != OWN:  # its type is a SettingsGroup
        FIELD_DECLARATIONS |= {
            field.name: _read_field_declaration(_field.name, field) for field in fields(_field.type)
        }
FIELDS = tuple(FIELD_DECLARATIONS)  # names of the fields that every experiment has

# By method and name, of methods that declare any.
_METHOD_FIELDS: dict[str, dict[str, FieldDeclaration]] = {}


def declare_method_fields(method: str, settings: type[SettingsGroup]) -> None:
    """Let experiments of a method have the fields of `settings`, each with `field_metadata` and a default.

    Raises ValueError for the name of a field that all experiments have.
    """
    for field in fields(settings):
        if field.name in FIELD_DECLARATIONS:
            raise ValueError(f"the method {method} declares {field.name}, which experiments have")
    _METHOD_FIELDS[method] = {
        field.name: _read_field_declaration(OWN, field) for field in fields(settings)
    }


def get_declared_method_fields(method: str) -> Mapping[str, FieldDeclaration]:
    """Return the declarations of a method's own fields by name; none of a method that is not loaded."""
    return _METHOD_FIELDS.get(method, {})


def field_names_of(*experiments: Experiment) -> list[str]:
    """Return the names of the fields that any of the experiments has, including fields that their methods declare."""
    names = dict.fromkeys(FIELDS)
    for experiment in experiments:
        names |= dict.fromkeys((*get_declared_method_fields(experiment.method), *experiment.own))
    return list(names)


def dotted_field_name(field: str) -> str:
    """Return the name of a field as GROUP.FIELD, or as FIELD where it has no group."""
    group = FIELD_DECLARATIONS[field].group if field in FIELD_DECLARATIONS else OWN
    return f"{group}.{field}" if group else field


def get_field(experiment: Experiment, field: str) -> Any:
    """Return the value of a field; None for one that another method declares."""
    if field in FIELD_DECLARATIONS:
        return attrgetter(dotted_field_name(field))(experiment)
    facts = get_declared_method_fields(experiment.method).get(field)
    return experiment.own.get(field, None if facts is None else facts.default)


def change(experiment: Experiment, **changes: Any) -> Experiment:
    """Return a copy of the experiment with other values of the named fields, whatever their groups.

    Another `method` drops the fields that the present one declares, so that those of the new one have their defaults.
    Raises ValueError for a value that cannot be run, and for an unknown field.
    """
    method = str(changes.get("method", experiment.method))
    known = {**FIELD_DECLARATIONS, **get_declared_method_fields(method)}
    by_group = dict[str, dict[str, Any]]()
    for name, value in changes.items():
        group = look_up(name, known, "field of an experiment").group
        by_group.setdefault(group, {})[name] = value
    values = by_group.pop("", {})
    values[OWN] = by_group.pop(OWN, {})
    if method == experiment.method:
        values[OWN] = experiment.own | values[OWN]
    try:
        for group, changed in by_group.items():
            values[group] = replace(getattr(experiment, group), **changed)
    except ValueError as error:
        raise ValueError(f"{changes.get('name', experiment.name)}: {error}") from None
    return replace(experiment, **values)


def field_names_with_role(*roles: Role) -> tuple[str, ...]:
    """Return the names of the fields that have any of the roles."""
    return tuple(name for name, facts in FIELD_DECLARATIONS.items() if {*roles} & {*facts.roles})


MAY_DIFFER = field_names_with_role("tuned")
# Records are grouped into rows without the fields of replicates, and those that only trainings or only timed runs read.
FIELDS_IGNORED_IN_ROWS = ("workers", *field_names_with_role("replicate", "budget", "pace"))


# The distinct values of each field in which experiments differ.
FieldDifferences = dict[str, tuple[Any, ...]]


def differing_values_by_field(experiments: Iterable[Experiment]) -> FieldDifferences:
    """Return the distinct values of each field in which experiments differ, except `name`."""
    experiments = list(experiments)
    values = {}
    for field in field_names_of(*experiments):
        distinct = tuple(dict.fromkeys(get_field(experiment, field) for experiment in experiments))
        if field != "name" and len(distinct) > 1:
            values[field] = distinct
    return values


def unexpected_differences(
    experiments: Iterable[Experiment], may_differ: Iterable[str]
) -> FieldDifferences:
    """Return `differing_values_by_field` of the fields that must not differ; fields that methods declare always may."""
    bound = {*FIELDS} - {*may_differ}
    return {
        field: values
        for field, values in differing_values_by_field(experiments).items()
        if field in bound
    }


def require_comparable_experiments(
    experiments: Iterable[Experiment], may_differ: Iterable[str] = MAY_DIFFER
) -> None:
    """Raise ValueError listing the fields in which experiments of a comparison differ and may not."""
    extra = unexpected_differences(experiments, may_differ)
    if extra:
        raise ValueError(
            f"these experiments cannot be compared, they differ in {format_field_differences(extra)} "
            "(recipes as they are: --allow-differences)"
        )


def format_field_differences(differences: FieldDifferences) -> str:
    """Return the differing fields with their values as text: "flip: True / False; ..."."""
    return "; ".join(
        f"{field}: {' / '.join(map(str, values))}" for field, values in differences.items()
    )


def look_up(name: str, options: Mapping[str, T], noun: str) -> T:
    """Return `options[name]`; ValueError names the `noun` and the nearest name."""
    if name in options:
        return options[name]
    near = get_close_matches(name, options, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"no {noun} named {name!r}{hint} (there are {join_first_names_shortened(sorted(options))})"
    )


def join_first_names_shortened(names: Sequence[str]) -> str:
    """Join names with commas, each cut after 200 characters; ", ..." stands for more than 100."""
    more = ", ..." if len(names) > MAX_LISTED_NAMES else ""
    return ", ".join(name[:MAX_NAME_LENGTH] for name in names[:MAX_LISTED_NAMES]) + more
