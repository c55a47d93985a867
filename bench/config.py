"""The settings of a run: a frozen value that holds everything that can change a figure."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from statistics import fmean
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta
from msgspec.structs import fields, force_setattr

from bench.method import find_method

T = TypeVar("T")
MAX_COMPARED_NAMES, MAX_LISTED_NAMES, MAX_NAME_LENGTH = 1000, 100, 200  # in a message on names that others chose

COMPUTED, NLTK, PACK_DATA = "computed", "nltk", "pack"
RANDOM_SUBSET = "random:"
Precision = Literal["auto", "fp32", "bf16", "fp16"]
TextPadding = Literal["bucketed", "packed", "longest", "max_length"]
Attention = Literal["fused", "plain", "fp32_softmax"]
Gather = Literal["captions", "both"]
OptimizerKernel = Literal["fused", "foreach", "for_loop"]
EmaKernel = Literal["foreach", "for_loop"]
LabelFormat = Literal["sparse", "dense"]
Augmentation = Literal["none", "range"]
Sharding = Literal["ddp", "zero2", "fsdp2", "hsdp"]
NonEmptyStr = Annotated[str, Meta(min_length=1)]
PositiveInt = Annotated[int, Meta(ge=1, le=10**12)]
ImageSize = Annotated[int, Meta(ge=1, le=4096)]  # position embeddings grow with its square
ContextLength = Annotated[int, Meta(ge=3, le=4096)]  # the attention mask grows with its square
Channels = Annotated[int, Meta(ge=1, le=2**16)]
PositiveFloat = Annotated[float, Meta(gt=0)]
NonNegativeFloat = Annotated[float, Meta(ge=0)]
BelowOne = Annotated[float, Meta(ge=0, lt=1)]
Fraction = Annotated[float, Meta(gt=0, le=1)]


Role = Literal[
    "tuned",  # may differ between the experiments of one comparison: the method and its own values
    "tuned by authors",  # chosen by a method's authors for a scale
    "by batch",  # changed by `with_batch_size`
    "replicate",  # differs between the trainings of one experiment: the seed, and the file of a vocabulary
    "pace",  # how much a run times
    "budget",  # how long a training is
    "as needed",  # a run of a published recipe sets it as it needs
    "same values",  # changes how the same losses and gradients are computed
    "no time",  # changes no time per image, beside those by batch
    "model",  # of the model and its targets, which libraries and files may refuse
    "tower",  # that some towers refuse
    "objective",  # changed by the stages of a ladder
    "labels",  # of CatLIP's labels alone
    "shared",  # equal in all configurations of a ladder
    "input",  # that a loader of shards reads
    "update",  # that the update after a backward reads
    "recipe",  # work of a step outside its forward and backward
    "no work",  # no work of a forward or backward
]


def about(description: str, *roles: Role) -> Meta:
    """Return the metadata of a field: what it is, and its roles."""
    return Meta(description=description, extra={"roles": roles})


class Experiment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a run; two runs with equal experiments differ only in the machine.

    `precision` and `compile` may be "auto", which means bf16 and compiled on CUDA, fp32 and eager on a CPU
    (bf16 without bf16 units is nine times slower); the circumstances of the record hold the values used.

    Raises ValueError at creation for a value that cannot be run.
    """

    name: Annotated[NonEmptyStr, about("Unique name of the experiment.")]
    method: Annotated[NonEmptyStr, about("Name of a method of `bench.methods`.", "tuned", "model", "objective")]
    seed: Annotated[
        Annotated[int, Meta(ge=0, lt=2**62)],
        about(
            "Seed of the weights, the image order and the augmentation.",
            "tuned",
            "replicate",
            "as needed",
            "no time",
            "no work",
        ),
    ] = 0

    tower: Annotated[
        NonEmptyStr,
        about(
            "Shared image tower: of an open_clip model, a timm model, or CoreNet's `corenet-vit-base`.",
            "tuned by authors",
            "model",
            "shared",
        ),
    ]
    image_size: Annotated[
        ImageSize,
        about(
            "Side of the images in pixels; with `image_sizes` that of `batch_size` and of scoring.",
            "tuned",
            "model",
            "tower",
        ),
    ]
    image_sizes: Annotated[
        tuple[ImageSize, ...],
        about("Sides in pixels; each step draws one. Empty: `image_size` alone.", "model", "tower"),
    ] = ()
    patch_drop: Annotated[
        BelowOne,
        about(
            "Fraction of the patches that a training step drops (FLIP); scoring drops none.", "tuned", "model", "tower"
        ),
    ] = 0.0
    pooling: Annotated[
        Literal["own", "mean", "both"],
        about(
            'Feature of an image: the tower\'s "own" pooling, or the "mean" of its patch tokens after the last '
            "norm. \"both\" is the mean for superclip's classifier, and the tower's own pooling for its "
            "contrastive loss and for scoring.",
            "tuned",
            "model",
            "tower",
        ),
    ] = "own"
    pixel_normalisation: Annotated[
        Literal["openai", "none"],
        about('Normalisation of pixels: open_clip\'s mean and deviation, or "none": they stay in 0 to 1.', "no work"),
    ] = "openai"
    embedding_channels: Annotated[
        Channels | None, about("Channels of stored grids in place of images; None: images.", "model")
    ] = None
    text_tower: Annotated[
        NonEmptyStr, about("open_clip model whose text tower contrastive methods use.", "model", "shared")
    ]
    context_length: Annotated[
        ContextLength, about("Maximum number of tokens per caption, start and end token included.", "tuned", "model")
    ]
    text_padding: Annotated[
        Literal["auto", TextPadding],
        about(
            'Padding of captions: "bucketed" in groups of similar length, "packed" several to a row, '
            '"longest", "max_length" to `context_length`; "auto" is "packed" if compiled, so that all batches '
            'have one shape, else "bucketed".',
            "objective",
        ),
    ] = "bucketed"
    text_features: Annotated[
        Literal["computed", "stored"],
        about(
            'Features of captions: of the text tower, or "stored", which replaces it by random features from '
            "memory, to measure its cost (clip and siglip).",
            "model",
            "objective",
        ),
    ] = "computed"
    simulated_global_batch: Annotated[
        PositiveInt | None,
        about(
            "Number of images per step on all devices of a simulated process group, for a contrastive loss on "
            "one process; nothing is communicated. None: no simulation."
        ),
    ] = None
    gather: Annotated[
        Gather,
        about(
            'Features that CLIP\'s loss gathers from all processes: those of "captions" (4 products of '
            'matrices a step), or "both" images and captions (6 products), as in open_clip and CoreNet. Loss '
            "and gradients are equal.",
            "same values",
        ),
    ] = "captions"

    labels: Annotated[
        NonEmptyStr,
        about(
            'CatLIP\'s labels: "computed", "nltk" with NLTK for each image that is loaded, or a folder made by '
            "`bench label`.",
            "model",
            "labels",
            "input",
            "no work",
        ),
    ] = COMPUTED
    label_format: Annotated[
        LabelFormat,
        about(
            'CatLIP\'s targets: indices, or "dense" rows of int64 as in its released code.',
            "same values",
            "labels",
            "input",
        ),
    ] = "sparse"
    synset_vocabulary: Annotated[
        NonEmptyStr,
        about(
            "Vocabulary of CatLIP: a file of bench/labels/vocabularies, or a path; only the pack is trained "
            'on the shipped ones. "datacomp-synsets" has the 24,320 synsets of CatLIP\'s release, which are '
            "not shipped: nothing trains on them.",
            "replicate",
            "as needed",
            "model",
            "no work",
        ),
    ] = "pack-synsets"
    subword_vocabulary: Annotated[
        NonEmptyStr,
        about(
            'Vocabulary of subwords: a file of bench/labels/vocabularies, or a path; "all" is the tokenizer\'s '
            "own, of 49,408 ids.",
            "replicate",
            "model",
        ),
    ] = "pack-subwords"
    head_rows: Annotated[
        PositiveInt | None,
        about(
            "Number of rows of the classification head; None: one per label.",
            "tuned",
            "as needed",
            "model",
            "objective",
        ),
    ] = None
    head_initialisation: Annotated[
        Literal["uniform", "trunc_normal", "log_odds"],
        about(
            "Initial head of CatLIP: torch's; CoreNet's (\"trunc_normal\"); or torch's weights, and biases that "
            'predict how often each label occurs ("log_odds").',
            "tuned",
            "tuned by authors",
            "no time",
            "no work",
        ),
    ] = "uniform"
    teacher: Annotated[
        NonEmptyStr,
        about(
            "Teacher of distillation: a tower file of `bench train`, or a tower's name for random weights of "
            "equal cost.",
            "model",
            "no work",
        ),
    ] = "ViT-L-14"

    data: Annotated[
        NonEmptyStr,
        about(
            "Training data: the shipped pack, a folder, file or glob of tar shards, or what another data source reads.",
            "as needed",
            "shared",
        ),
    ] = PACK_DATA
    caption_lengths: Annotated[
        NonEmptyStr,
        about(
            'Lengths of the pack\'s captions in tokens: "pack" (their own), "web", or those of a file of '
            'captions. With shards "pack" alone, which leaves the captions as they are.',
            "as needed",
        ),
    ] = PACK_DATA
    subset: Annotated[
        NonEmptyStr | None,
        about('Samples used: a csv of keys, or "random:N" for N drawn at random; None: all.', "shared"),
    ] = None
    workers: Annotated[
        Annotated[int, Meta(ge=0, le=1024)] | Literal["auto"],
        about(
            "Number of processes that load shards for each training process; 0: the training process itself. "
            '"auto": on a GPU all cores but one for each training process, on a CPU 0.',
            "as needed",
            "input",
            "recipe",
            "no work",
        ),
    ] = "auto"
    jpeg_decoding: Annotated[
        Literal["full", "reduced"],
        about(
            'Decoding of JPEGs of shards: "full", or "reduced": at 1/2, 1/4 or 1/8 of the size where the crop '
            "stays as large as it is needed.",
            "input",
            "recipe",
            "no work",
        ),
    ] = "full"
    batch_size: Annotated[
        PositiveInt, about("Number of images of `image_size` per step on one device.", "by batch", "same values")
    ]
    accumulation: Annotated[
        PositiveInt,
        about(
            "Number of micro-batches per batch. It must be 1 for contrastive methods; SuperClass counts per "
            "micro-batch."
        ),
    ] = 1
    crop_scale: Annotated[
        tuple[Fraction, Fraction],
        about(
            "Range of the fraction of the image's area in a random crop.",
            "tuned",
            "tuned by authors",
            "input",
            "recipe",
            "no work",
        ),
    ] = (0.5, 1.0)
    flip: Annotated[
        bool,
        about(
            "Whether images are flipped horizontally at random.",
            "tuned",
            "tuned by authors",
            "input",
            "recipe",
            "no work",
        ),
    ] = True
    augmentation: Annotated[
        Augmentation,
        about(
            'Augmentation beside crops and flips: "range" (RangeAugment) changes brightness, contrast and '
            "noise in learnt ranges, with a loss of its own."
        ),
    ] = "none"

    learning_rate: Annotated[
        PositiveFloat, about("Highest learning rate of AdamW.", "tuned", "tuned by authors", "no time", "no work")
    ]
    betas: Annotated[tuple[BelowOne, BelowOne], about("Decays of AdamW's moments.", "no work")] = (0.9, 0.98)
    eps: Annotated[NonNegativeFloat, about("Constant that AdamW adds to the root of the second moment.", "no work")] = (
        1e-6
    )
    weight_decay: Annotated[
        NonNegativeFloat, about("Weight decay of AdamW on matrices; vectors and scalars have none.", "no work")
    ] = 0.2
    optimizer_kernel: Annotated[
        OptimizerKernel,
        about("AdamW's form in torch; on a GPU torch's default is \"foreach\".", "same values", "update"),
    ] = "fused"
    clip_norm: Annotated[
        PositiveFloat | None, about("Maximum norm of the whole gradient; None: no clipping.", "recipe", "no work")
    ] = 1.0
    log_grad_norm: Annotated[
        bool,
        about(
            "Whether each step computes the gradient's norm again, parameter by parameter, and reads it on "
            "the host, to log it.",
            "same values",
            "update",
        ),
    ] = False
    ema_decay: Annotated[
        BelowOne | None,
        about("Decay per step of the weights' average, which is scored; None: no average.", "recipe", "no work"),
    ] = None
    ema_kernel: Annotated[
        EmaKernel,
        about('Update of that average: of all weights at once, or "for_loop" one by one.', "same values", "update"),
    ] = "foreach"
    precision: Annotated[
        Precision, about('Precision of forward and backward; "auto" is bf16 on a GPU and fp32 on a CPU.')
    ] = "auto"
    contrastive_precision: Annotated[
        Literal["fp32", "autocast"], about('Precision of CLIP\'s loss; "autocast": as `precision`.')
    ] = "fp32"
    residual_precision: Annotated[
        Literal["tower", "autocast"],
        about(
            "Precision of the sums between the image tower's blocks: that of the \"tower\" (fp32 for timm's and "
            "CoreNet's, unless FSDP2 casts them; as `precision` for open_clip's), or \"autocast\": as "
            "`precision`.",
            "model",
            "tower",
        ),
    ] = "tower"
    compile: Annotated[
        Literal["auto", "on", "off", "max-autotune"],
        about(
            'Compilation by torch; "auto" is on on a GPU and off on a CPU. "max-autotune" also times several '
            "kernels for each matrix product and keeps the fastest.",
            "same values",
        ),
    ] = "auto"
    attention: Annotated[
        Attention,
        about(
            'Attention kernel: torch\'s fused one; "plain" for product, softmax, product; or "fp32_softmax", '
            "the same with a softmax in fp32, as in CoreNet.",
            "same values",
        ),
    ] = "fused"
    activation_checkpointing: Annotated[
        bool,
        about(
            "Whether each block's forward is computed again in the backward, to save memory.",
            "same values",
            "model",
            "tower",
        ),
    ] = False
    sharding: Annotated[
        Sharding,
        about(
            'Over several processes, "ddp" replicates the weights, "fsdp2" shards them, "zero2" does so and '
            "keeps the gathered blocks from the forward to the backward (`reshard_after_forward=False`), and "
            '"hsdp" shards them within a node.',
            "same values",
            "no time",
            "no work",
        ),
    ] = "ddp"

    images: Annotated[
        PositiveInt,
        about(
            "Number of training images in the largest budget that all methods share.", "budget", "no time", "no work"
        ),
    ]
    warmup_images: Annotated[
        Annotated[int, Meta(ge=0)], about("Number of training images in the warm-up.", "budget", "no time", "no work")
    ]
    schedule: Annotated[
        Literal["wsd", "cosine"],
        about(
            'Learning rate after a linear warm-up: "wsd" keeps it constant and branches off a linear '
            'cool-down for each budget; "cosine" is a separate run from the start for each budget.',
            "no work",
        ),
    ] = "wsd"
    cooldown_share: Annotated[
        Annotated[float, Meta(gt=0, lt=1)], about("Fraction of a budget's images in the cool-down.", "no work")
    ] = 0.2
    min_learning_rate: Annotated[NonNegativeFloat, about("Learning rate at the end of a cosine.", "no work")] = 0.0

    warmup_steps: Annotated[
        PositiveInt,
        about(
            "Number of steps before the first window, which are recorded and not counted.",
            "by batch",
            "pace",
            "no work",
        ),
    ]
    windows: Annotated[PositiveInt, about("Number of timed windows.", "pace", "no time", "no work")]
    steps_per_window: Annotated[PositiveInt, about("Number of steps in a window.", "by batch", "pace", "no work")]
    injected_slowdown: Annotated[
        NonNegativeFloat,
        about(
            "Sleep after the steps of a window, as a fraction of their time: a known slowdown that a "
            "comparison must find."
        ),
    ] = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError for a value that cannot be run, naming the field."""
        for field in fields(type(self)):
            value = getattr(self, field.name)
            try:
                force_setattr(self, field.name, msgspec.convert(value, field.type))
            except msgspec.ValidationError as error:
                raise ValueError(f"{self.name}: {field.name}={value!r}: {error}") from None
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{self.name}: {field.name} must be finite, got {value}")
        for reason in (*self._method_errors(), *self._data_errors(), *self._training_errors()):
            raise ValueError(f"{self.name}: {reason}")

    def _method_errors(self) -> Iterator[str]:
        if list(self.image_sizes) != sorted({*self.image_sizes}):
            yield f"image_sizes must rise, got {self.image_sizes}"
        largest = max(self.all_image_sizes)
        method = find_method(self.method)  # None: a record's, which can be shown but not run
        if method is not None and method.compares_batch and self.batch_size_for(largest) < 2:  # noqa: PLR2004
            at = f" at {largest} px" if self.image_sizes else ""
            yield f"batch_size must be 2 or more{at}, for {self.method} needs a negative"
        if method is not None and method.compares_batch and self.accumulation > 1:
            yield f"accumulation must be 1, for {self.method} compares all images of a batch, got {self.accumulation}"
        if method is not None:
            yield from method.config_errors(self)
        if self.image_sizes and self.accumulation > 1:
            yield f"accumulation must be 1 with image_sizes, whose batches have no equal parts, got {self.accumulation}"
        if self.batch_size % self.accumulation:
            yield f"accumulation must divide batch_size ({self.batch_size}), got {self.accumulation}"

    def _data_errors(self) -> Iterator[str]:
        if PACK_DATA not in (self.data, self.caption_lengths):
            yield f"caption_lengths={self.caption_lengths!r} is for the pack alone: leave it out with data={self.data}"
        subset = self.subset or ""
        if subset.startswith(RANDOM_SUBSET) and not re.fullmatch(rf"{RANDOM_SUBSET}[1-9][0-9]{{0,11}}", subset):
            yield f"subset={subset}: expected a csv file of keys, or {RANDOM_SUBSET}N with N from 1"
        if self.jpeg_decoding == "reduced" and (self.data == PACK_DATA or self.embedding_channels is not None):
            yield "jpeg_decoding must be full without JPEGs in shards (data=SHARDS), got 'reduced'"
        if self.embedding_channels is None:
            return
        text = f"embedding_channels={self.embedding_channels}"
        if self.data == PACK_DATA:
            yield f"{text} needs data=SHARDS with .npy members, the shipped pack holds images"
        if self.image_sizes:
            yield f"{text} needs image_sizes to be empty, a grid has one size"
        if self.pixel_normalisation != "openai":
            yield f"{text} needs pixel_normalisation=openai, a grid has no pixels to normalise"
        if self.augmentation == "range":
            yield f"{text} needs augmentation=none, RangeAugment changes images"

    def _training_errors(self) -> Iterator[str]:
        if self.images < self.batch_size:
            yield f"images must be a batch or more, got {self.images}"
        falls_from = self.images * (1 - self.cooldown_share) if self.schedule == "wsd" else self.images
        if self.warmup_images > falls_from:
            yield f"warmup_images leaves nothing before the rate falls: {self.warmup_images}"
        if self.min_learning_rate > self.learning_rate:
            yield f"min_learning_rate is above learning_rate: {self.min_learning_rate}"
        if self.crop_scale[0] > self.crop_scale[1]:
            yield f"crop_scale must rise, got {self.crop_scale}"

    @property
    def all_image_sizes(self) -> tuple[int, ...]:
        """Return the sides in pixels that the images of a step may have."""
        return self.image_sizes or (self.image_size,)

    @property
    def reads_captions(self) -> bool:
        """Return whether the method reads captions: it may read stored features or those of a teacher instead."""
        method = find_method(self.method)
        return method is not None and method.reads_captions(self)

    @property
    def random_init_kind(self) -> tuple[str, int, bool, str]:
        """Return what the features of the tower before training depend on, beside the seed."""
        return self.tower, self.image_size, self.pooling == "mean", self.pixel_normalisation

    def batch_size_for(self, image_size: int) -> int:
        """Return the images of a step at a side in pixels: about as many pixels as `batch_size` images of `image_size`.

        Source: apple/corenet, `corenet/data/sampler/utils.py`, `image_batch_pairs`.
        """
        return max(1, int(round(self.batch_size * self.image_size**2 / image_size**2, 2)))

    @property
    def mean_batch_size(self) -> float:
        """Return the mean number of images per step over the sides."""
        return fmean(map(self.batch_size_for, self.all_image_sizes))

    @property
    def images_per_window(self) -> int:
        """Return the images per timed window where all have `image_size`."""
        return self.batch_size * self.steps_per_window


class FieldFacts(NamedTuple):
    """What is known of a field."""

    kind: Any  # its type
    description: str
    roles: tuple[Role, ...]


def _facts(annotated: Any) -> FieldFacts:
    """Split a field's type from what `about` says of it, which comes last."""
    *others, told = annotated.__metadata__
    kind = Annotated[annotated.__origin__, *others] if others else annotated.__origin__
    return FieldFacts(kind, told.description, told.extra["roles"])


FIELD_FACTS = {field.name: _facts(field.type) for field in fields(Experiment)}
FIELDS = {name: facts.kind for name, facts in FIELD_FACTS.items()}


def fields_with(*roles: Role) -> tuple[str, ...]:
    """Return the fields that have any of the roles."""
    return tuple(name for name, facts in FIELD_FACTS.items() if {*roles} & {*facts.roles})


MAY_DIFFER = fields_with("tuned")
BATCH_SIZE_FIELDS = fields_with("by batch")
MAY_DIFFER_AT_LARGEST_BATCH = fields_with("tuned", "by batch")
REPLICATE_FIELDS = fields_with("replicate")
# Records are grouped into rows without the fields of replicates, and those that only trainings or only timed runs read.
FIELDS_IGNORED_IN_ROWS = ("workers", *fields_with("replicate", "budget", "pace"))


def differing_fields(experiments: Iterable[Experiment]) -> dict[str, tuple[Any, ...]]:
    """Return the fields in which experiments differ, `name` aside, each with its distinct values."""
    rows = list(experiments)
    values = {field: tuple(dict.fromkeys(getattr(row, field) for row in rows)) for field in FIELDS if field != "name"}
    return {field: distinct for field, distinct in values.items() if len(distinct) > 1}


def are_replicates(one: Experiment, other: Experiment) -> bool:
    """Return whether two trainings differ in nothing but names, seeds and the files of their vocabularies."""
    return {*differing_fields([one, other])} <= {*REPLICATE_FIELDS}


def require_comparable_experiments(experiments: Iterable[Experiment], may_differ: Iterable[str] = MAY_DIFFER) -> None:
    """Raise ValueError listing the fields in which experiments of a comparison differ and may not."""
    allowed = {*may_differ}
    extra = {field: values for field, values in differing_fields(experiments).items() if field not in allowed}
    if extra:
        raise ValueError(
            f"these experiments cannot be compared, they differ in {format_differences(extra)} "
            "(recipes as they are: --allow-differences)"
        )


def format_differences(differences: Mapping[str, tuple[Any, ...]]) -> str:
    """Format differences: each field with its values."""
    return "; ".join(f"{field}: {' / '.join(map(str, values))}" for field, values in differences.items())


def choose(name: str, options: Mapping[str, T], what: str) -> T:
    """Return `options[name]`; ValueError suggests the nearest name."""
    if name in options:
        return options[name]
    near = get_close_matches(name, [*options][:MAX_COMPARED_NAMES], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"no {what} named {name!r}{hint} (there are {list_names(sorted(options))})")


def list_names(names: Sequence[str]) -> str:
    """Join names with commas: the first of very many, and the beginnings of very long ones."""
    more = f" and {len(names) - MAX_LISTED_NAMES:,} more" if len(names) > MAX_LISTED_NAMES else ""
    return ", ".join(name[:MAX_NAME_LENGTH] for name in names[:MAX_LISTED_NAMES]) + more
