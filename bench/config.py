"""What a run is: a frozen value that holds everything that can change a number."""

import math
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from statistics import fmean
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta
from msgspec.structs import fields, force_setattr, replace

T = TypeVar("T")

MethodName = Literal["clip", "siglip", "catlip", "superclass", "superclip", "distill"]
METHOD_NAMES: tuple[MethodName, ...] = get_args(MethodName)
CONTRASTIVE: tuple[MethodName, ...] = ("clip", "siglip", "superclip")  # each image meets the batch's other captions
COMPUTED, PACK_DATA = "computed", "pack"
Precision = Literal["auto", "fp32", "bf16"]
Switch = Literal["auto", "on", "off"]
TextPadding = Literal["none", "batch", "full"]
TextFeatures = Literal["computed", "stored"]
Attention = Literal["fused", "plain"]
Schedule = Literal["wsd", "cosine"]
Sharding = Literal["ddp", "fsdp2"]
Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]
Rate = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(gt=0, lt=1)]
Decay = Annotated[float, Meta(ge=0, lt=1)]
Part = Annotated[float, Meta(gt=0, le=1)]


class Experiment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two equal experiments are the same run, up to the machine.

    `precision` and `compile` may be "auto", which means bf16 and compiled on CUDA, fp32 and eager on a CPU
    (bf16 without bf16 units is nine times slower); what was used is in the record's circumstances.

    Raises ValueError at birth for a value that cannot be run.
    """

    name: Text
    method: MethodName
    seed: Annotated[int, Meta(ge=0, lt=2**62)] = 0  # of the weights, the order of the images and their augmentation

    # The shared tower, an open_clip model (its image tower is taken) or a timm model.
    tower: Text
    image_size: Count  # of the images in pixels; with `image_sizes` what `batch_size` is for, and towers are scored at
    # Sides in pixels from which each step's are drawn (bench/image_sizes.py); empty: `image_size` alone.
    image_sizes: tuple[Count, ...] = ()
    patch_drop: Decay = 0.0  # share of the patches that a step leaves out (FLIP); scoring sees all
    # Channels of the grids of embeddings, `image_size` a side, that shards hold in place of images; None: images.
    embedding_channels: Count | None = None
    # Only contrastive methods have these: the open_clip model whose text tower is taken.
    text_tower: Text
    context_length: Annotated[int, Meta(ge=3)]  # tokens a caption is cut to, start and end token included
    # How far captions are padded: "none", in groups of like length; "batch", to its longest; "full", to the context.
    text_padding: TextPadding = "none"
    # "stored": there is no text tower, its features are read from memory, made up: for what they save (clip, siglip).
    text_features: TextFeatures = "computed"
    # Images of a step on all devices, whose captions a contrastive loss meets: those that other processes would send
    # are simulated, and nothing is exchanged. None: of the processes that there are.
    simulated_batch: Count | None = None

    # The labels. Vocabularies are files of bench/labels/vocabularies, or paths.
    labels: Text = COMPUTED  # CatLIP's, from the captions as they are loaded; or a folder that `bench label` left
    synset_vocabulary: Text = "pack-synsets"
    subword_vocabulary: Text = "pack-subwords"  # "all": the tokenizer's own 49,408 ids
    head_rows: Count | None = None  # rows of the classification head; None: as many as the vocabulary has labels
    # Only distillation has one: a tower file of `bench train`, or a tower's name, whose untrained weights cost as much
    # and teach nothing.
    teacher: Text = "ViT-L-14"

    # The images and their captions.
    data: Text = PACK_DATA  # the shipped pack; or tar shards: a folder, a file or a glob
    subset: Text | None = None  # of the samples: a csv of their keys; or "random:N", as many at random; None: all
    workers: Annotated[int, Meta(ge=0)] = 0  # processes that load shards ahead; 0: this one, before each step
    batch_size: Count  # images of `image_size` a step, on one device
    # Parts that a batch is computed in, one after the other. Not for contrastive methods; SuperClass counts by part.
    accumulation: Count = 1
    crop_scale: tuple[Part, Part] = (0.5, 1.0)  # share of the picture's area that a random crop keeps
    flip: bool = True

    # The optimizer: AdamW, no decay on vectors and scalars.
    learning_rate: Rate
    betas: tuple[Decay, Decay] = (0.9, 0.98)
    eps: NotNegative = 1e-6
    weight_decay: NotNegative = 0.2
    clip_norm: Rate | None = 1.0  # of the whole gradient
    ema_decay: Decay | None = None  # of a running average of the weights, kept beside them, which is what is scored
    precision: Precision = "auto"
    compile: Switch = "auto"
    attention: Attention = "fused"  # torch's fused kernel, or "plain": product, softmax, product, one after the other
    activation_checkpointing: bool = False  # forward again in the backward, block by block: less memory, more work
    # Of several processes (torchrun): "ddp", each holds all; or "fsdp2", each a part of weights and moments.
    sharding: Sharding = "ddp"

    # Training: linear warm-up, then "wsd": constant, and a linear cool-down branched off at each budget; or "cosine":
    # a run of its own from the start for each budget.
    images: Count  # the largest budget that all methods share
    warmup_images: Annotated[int, Meta(ge=0)]
    schedule: Schedule = "wsd"
    cooldown_share: Share = 0.2  # of a budget's images
    last_learning_rate: NotNegative = 0.0  # where a cosine ends

    # Measuring. Windows are timed, the warm-up is kept and not counted.
    warmup_steps: Count
    windows: Count
    steps_per_window: Count
    # Slept after the steps of a window, and after a backward timed apart, in shares of their time: what must be found.
    planted_delay: NotNegative = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be run, naming the field."""
        for field in fields(type(self)):
            value = getattr(self, field.name)
            try:
                force_setattr(self, field.name, msgspec.convert(value, field.type))
            except msgspec.ValidationError as error:
                raise ValueError(f"{self.name}: {field.name}={value!r}: {error}") from None
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{self.name}: {field.name} must be finite, got {value}")
        for reason in (*self._method_cannot(), *self._data_cannot(), *self._training_cannot()):
            raise ValueError(f"{self.name}: {reason}")

    def _method_cannot(self) -> Iterator[str]:
        if list(self.image_sizes) != sorted({*self.image_sizes}):
            yield f"image_sizes must rise, got {self.image_sizes}"
        largest = max(self.sides)
        if self.method in CONTRASTIVE and self.batch_size_at(largest) < 2:  # noqa: PLR2004
            at = f" at {largest} px" if self.image_sizes else ""
            yield f"batch_size must be 2 or more{at}, for {self.method} needs a negative"
        if self.method in CONTRASTIVE and self.accumulation > 1:
            yield f"accumulation must be 1, for {self.method} compares all images of a batch, got {self.accumulation}"
        if self.method == "superclip" and self.text_features == "stored":
            yield "text_features must be computed, for superclip reads captions twice, got stored"
        if self.image_sizes and self.accumulation > 1:
            yield f"accumulation must be 1 with image_sizes, whose batches have no equal parts, got {self.accumulation}"
        if self.batch_size % self.accumulation:
            yield f"accumulation must divide batch_size ({self.batch_size}), got {self.accumulation}"

    def _data_cannot(self) -> Iterator[str]:
        if self.embedding_channels is None:
            return
        told = f"embedding_channels={self.embedding_channels}"
        if self.data == PACK_DATA:
            yield f"{told} needs data=SHARDS with .npy members, the shipped pack holds pictures"
        if self.image_sizes:
            yield f"{told} needs image_sizes to be empty, a grid has one size"
        if self.method == "distill":
            yield f"{told} is not for distill, whose teacher looks at images"

    def _training_cannot(self) -> Iterator[str]:
        if self.images < self.batch_size:
            yield f"images must be a batch or more, got {self.images}"
        falls_from = self.images * (1 - self.cooldown_share) if self.schedule == "wsd" else self.images
        if self.warmup_images > falls_from:
            yield f"warmup_images leaves nothing before the rate falls: {self.warmup_images}"
        if self.last_learning_rate > self.learning_rate:
            yield f"last_learning_rate is above learning_rate: {self.last_learning_rate}"
        if self.crop_scale[0] > self.crop_scale[1]:
            yield f"crop_scale must rise, got {self.crop_scale}"

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides in pixels that a step's images may have."""
        return self.image_sizes or (self.image_size,)

    def batch_size_at(self, side: int) -> int:
        """Images of a step where they have this side: about as many pixels as `batch_size` of `image_size`.

        Source: apple/corenet, `corenet/data/sampler/utils.py`, `image_batch_pairs`.
        """
        return max(1, int(round(self.batch_size * self.image_size**2 / side**2, 2)))

    @property
    def mean_batch_size(self) -> float:
        """Images of a step, the mean over the sides."""
        return fmean(map(self.batch_size_at, self.sides))

    @property
    def images_per_window(self) -> int:
        """Images in one timed window where all have `image_size`."""
        return self.batch_size * self.steps_per_window


class Keeping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a training leaves on its way."""

    folder: str  # of its checkpoints
    minutes: float  # from one to the next
    taken_up: str = ""  # the checkpoint to go on from
    tensorboard: str = ""  # folder of event files


# What the experiments of one comparison may differ in, beside their names: the method, and what its own search found.
MAY_DIFFER = ("method", "head_rows", "patch_drop", "image_size", "context_length", "learning_rate", "seed")
WITH_BATCH_SIZE = ("batch_size", "steps_per_window", "warmup_steps")  # what `at_batch_size` changes
AT_LARGEST_BATCH = (*MAY_DIFFER, *WITH_BATCH_SIZE)
FIELDS = {field.name: field.type for field in fields(Experiment)}


def differing_fields(experiments: Iterable[Experiment]) -> dict[str, tuple[Any, ...]]:
    """Return the fields in which experiments differ, `name` aside, each with its distinct values."""
    rows = list(experiments)
    values = {field: tuple(dict.fromkeys(getattr(row, field) for row in rows)) for field in FIELDS if field != "name"}
    return {field: distinct for field, distinct in values.items() if len(distinct) > 1}


def require_one_comparison(experiments: Iterable[Experiment], may_differ: Iterable[str] = MAY_DIFFER) -> None:
    """Raise ValueError listing the fields in which experiments of a comparison differ and may not."""
    allowed = {*may_differ}
    extra = {field: values for field, values in differing_fields(experiments).items() if field not in allowed}
    if extra:
        raise ValueError(
            f"these experiments cannot be compared, they differ in {told(extra)} (recipes as they are: --published)"
        )


def told(differences: Mapping[str, tuple[Any, ...]]) -> str:
    """Put differences in words: each field with its values."""
    return "; ".join(f"{field}: {' / '.join(map(str, values))}" for field, values in differences.items())


def with_settings(experiment: Experiment, settings: Iterable[str]) -> Experiment:
    """Return the experiment with `field=value` settings applied; its name tells those that change something.

    Lists are written as JSON, `null` is None. Raises ValueError naming what was given, what there is and what was
    likely meant.
    """
    texts: dict[str, str] = {}
    changed: dict[str, Any] = {}
    for setting in settings:
        field, equals, text = setting.partition("=")
        if not equals or not setting.isprintable():
            raise ValueError(f"a setting is field=value, got {setting!r}")
        kind = choose(field, {name: kind for name, kind in FIELDS.items() if name != "name"}, "field of an experiment")
        try:
            value = _read(text, kind)
            changed[field], texts[field] = msgspec.convert(value, kind, strict=False), text
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError(f"--set {setting}: {error}") from None
    changed = {field: value for field, value in changed.items() if value != getattr(experiment, field)}
    if not changed:
        return experiment
    name = f"{experiment.name}[{','.join(f'{field}={texts[field]}' for field in sorted(changed))}]"
    return replace(experiment, name=name, **changed)


def at_batch_size(experiment: Experiment, size: int) -> Experiment:
    """Return the experiment at another batch size; warm-up and windows take about as many images as before.

    They stay whole numbers of times that every image size is drawn.
    """
    if size == experiment.batch_size:
        return experiment
    sizes = len(experiment.sides)
    warmup = experiment.warmup_steps * experiment.batch_size
    return replace(
        experiment,
        name=f"{experiment.name}[batch_size={size}]",
        batch_size=size,
        images=max(experiment.images, size),
        warmup_steps=max(2, sizes * math.ceil(warmup / size / sizes)),
        steps_per_window=sizes * max(1, round(experiment.images_per_window / size / sizes)),
    )


def _read(text: str, kind: Any) -> Any:
    """Return a text as it stands, a list as one, and a number as JSON writes it, where .5 is 0.5."""
    if kind == Text:
        return text
    if kind == Text | None:
        return None if text == "null" else text
    if text.startswith("["):
        return msgspec.json.decode(text)
    return f"0{text}" if text.startswith(".") else text


def choose(name: str, options: Mapping[str, T], what: str) -> T:
    """Return `options[name]`; ValueError says what could have been meant."""
    if name in options:
        return options[name]
    near = get_close_matches(name, options, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"no {what} named {name!r}{hint} (there are {', '.join(sorted(options))})")
