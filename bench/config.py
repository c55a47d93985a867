"""The settings of a run: a frozen value that holds everything that can change a figure."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from statistics import fmean
from typing import Annotated, Any, Literal, TypeVar

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


class Experiment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a run; two runs with equal experiments differ only in the machine.

    `precision` and `compile` may be "auto", which means bf16 and compiled on CUDA, fp32 and eager on a CPU
    (bf16 without bf16 units is nine times slower); the circumstances of the record hold the values used.

    Raises ValueError at creation for a value that cannot be run.
    """

    name: NonEmptyStr  # Unique name of the experiment.
    method: NonEmptyStr  # Name of a method of `bench.methods`.
    seed: Annotated[int, Meta(ge=0, lt=2**62)] = 0  # Seed of the weights, the image order and the augmentation.

    tower: NonEmptyStr  # Shared image tower: of an open_clip model, a timm model, or CoreNet's `corenet-vit-base`.
    image_size: ImageSize  # Side of the images in pixels; with `image_sizes` that of `batch_size` and of scoring.
    image_sizes: tuple[ImageSize, ...] = ()  # Sides in pixels; each step draws one. Empty: `image_size` alone.
    patch_drop: BelowOne = 0.0  # Fraction of the patches that a training step drops (FLIP); scoring drops none.
    # Feature of an image: the tower's "own" pooling, or the "mean" of its patch tokens after the last norm. "both" is
    # the mean for superclip's classifier, and the tower's own pooling for its contrastive loss and for scoring.
    pooling: Literal["own", "mean", "both"] = "own"
    pixel_normalisation: Literal["openai", "none"] = "openai"  # "none": pixels stay in 0 to 1.
    embedding_channels: Channels | None = None  # Channels of stored grids in place of images; None: images.
    text_tower: NonEmptyStr  # Open_clip model whose text tower contrastive methods use.
    context_length: ContextLength  # Maximum number of tokens per caption, start and end token included.
    # Padding of captions: "bucketed" in groups of similar length, "packed" several to a row, "longest", "max_length" to
    # `context_length`; "auto" is "packed" if compiled, so that all batches have one shape, else "bucketed".
    text_padding: Literal["auto", TextPadding] = "bucketed"
    # "stored" replaces the text tower by random features from memory, to measure its cost (clip and siglip).
    text_features: Literal["computed", "stored"] = "computed"
    # Number of images per step on all devices of a simulated process group, for a contrastive loss on one process;
    # nothing is communicated. None: no simulation.
    simulated_global_batch: PositiveInt | None = None
    # Features that CLIP's loss gathers from all processes: those of "captions" (4 products of matrices a step), or
    # "both" images and captions (6 products), as in open_clip and CoreNet. Loss and gradients are equal.
    gather: Gather = "captions"

    # Vocabularies are files of bench/labels/vocabularies, or paths. Only the pack is trained on the shipped ones.
    # CatLIP's labels: "computed", "nltk" with NLTK for each image that is loaded, or a folder made by `bench label`.
    labels: NonEmptyStr = COMPUTED
    label_format: LabelFormat = "sparse"  # CatLIP's targets: indices, or "dense" rows of int64 as in its released code.
    # "datacomp-synsets": the 24,320 synsets of CatLIP's release, which are not shipped, so that nothing trains on them.
    synset_vocabulary: NonEmptyStr = "pack-synsets"
    subword_vocabulary: NonEmptyStr = "pack-subwords"  # "all" is the tokenizer's own vocabulary of 49,408 ids.
    head_rows: PositiveInt | None = None  # Number of rows of the classification head; None: one per label.
    # Of CatLIP's head: torch's; CoreNet's; or torch's weights, and biases that predict how often each label occurs.
    head_initialisation: Literal["uniform", "trunc_normal", "log_odds"] = "uniform"
    # Teacher of distillation: a tower file of `bench train`, or a tower's name for random weights of equal cost.
    teacher: NonEmptyStr = "ViT-L-14"

    data: NonEmptyStr = PACK_DATA  # Training data: the shipped pack, or a folder, file or glob of tar shards.
    # Lengths of the pack's captions in tokens: "pack" (their own), "web", or those of a file of captions. With shards
    # "pack" alone, which leaves the captions as they are.
    caption_lengths: NonEmptyStr = PACK_DATA
    subset: NonEmptyStr | None = None  # Samples used: a csv of keys, or "random:N" for N drawn at random; None: all.
    # Number of processes that load shards for each training process; 0: the training process itself. "auto": on a GPU
    # as many as its cores allow and its images/s need (bench/environment/cores.py), on a CPU 0.
    workers: Annotated[int, Meta(ge=0, le=1024)] | Literal["auto"] = "auto"
    # "reduced" decodes a JPEG of shards at 1/2, 1/4 or 1/8 of its size where the crop stays as large as it is needed.
    jpeg_decoding: Literal["full", "reduced"] = "full"
    batch_size: PositiveInt  # Number of images of `image_size` per step on one device.
    # Number of micro-batches per batch. It must be 1 for contrastive methods; SuperClass counts per micro-batch.
    accumulation: PositiveInt = 1
    crop_scale: tuple[Fraction, Fraction] = (0.5, 1.0)  # Range of the fraction of the image's area in a random crop.
    flip: bool = True  # Images are flipped horizontally at random.
    # "range" (RangeAugment) changes brightness, contrast and noise in learnt ranges, with a loss of its own.
    augmentation: Augmentation = "none"

    # The optimizer is AdamW without weight decay on vectors and scalars.
    learning_rate: PositiveFloat
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.98)
    eps: NonNegativeFloat = 1e-6
    weight_decay: NonNegativeFloat = 0.2
    optimizer_kernel: OptimizerKernel = "fused"  # AdamW's form in torch; on a GPU torch's default is "foreach".
    clip_norm: PositiveFloat | None = 1.0  # Maximum norm of the whole gradient; None: no clipping.
    # Each step computes the gradient's norm again, parameter by parameter, and reads it on the host, to log it.
    log_grad_norm: bool = False
    ema_decay: BelowOne | None = None  # Decay per step of the weights' average, which is scored; None: no average.
    ema_kernel: EmaKernel = "foreach"  # Update of that average: of all weights at once, or "for_loop" one by one.
    precision: Precision = "auto"
    contrastive_precision: Literal["fp32", "autocast"] = "fp32"  # Of CLIP's loss; "autocast": as `precision`.
    # Precision of the sums between the image tower's blocks: that of the "tower" (fp32 for timm's and CoreNet's, unless
    # FSDP2 casts them; as `precision` for open_clip's), or "autocast": as `precision`.
    residual_precision: Literal["tower", "autocast"] = "tower"
    # "max-autotune" also times several kernels for each matrix product and keeps the fastest.
    compile: Literal["auto", "on", "off", "max-autotune"] = "auto"
    # Attention kernel: torch's fused one; "plain" for product, softmax, product; or "fp32_softmax", the same with a
    # softmax in fp32, as in CoreNet.
    attention: Attention = "fused"
    activation_checkpointing: bool = False  # Recompute each block's forward in the backward to save memory.
    # Over several processes, "ddp" replicates the weights, "fsdp2" shards them, "zero2" does so and keeps the gathered
    # blocks from the forward to the backward (`reshard_after_forward=False`), and "hsdp" shards them within a node.
    sharding: Sharding = "ddp"

    # After a linear warm-up, "wsd" keeps the rate constant and branches off a linear cool-down for each budget;
    # "cosine" is a separate run from the start for each budget.
    images: PositiveInt  # Number of training images in the largest budget that all methods share.
    warmup_images: Annotated[int, Meta(ge=0)]  # Number of training images in the warm-up.
    schedule: Literal["wsd", "cosine"] = "wsd"
    cooldown_share: Annotated[float, Meta(gt=0, lt=1)] = 0.2  # Fraction of a budget's images in the cool-down.
    min_learning_rate: NonNegativeFloat = 0.0  # Learning rate at the end of a cosine.

    # Timed runs record their warm-up and exclude it from the figures.
    warmup_steps: PositiveInt  # Number of steps before the first window.
    windows: PositiveInt  # Number of timed windows.
    steps_per_window: PositiveInt
    # Sleep after the steps of a window, as a fraction of their time: a known slowdown that a comparison must find.
    injected_slowdown: NonNegativeFloat = 0.0

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


# Fields in which the experiments of one comparison may differ, beside their names: the method and its tuned values.
MAY_DIFFER = (
    *("method", "head_rows", "head_initialisation", "pooling", "patch_drop", "image_size", "context_length"),
    *("learning_rate", "crop_scale", "flip", "seed"),
)
BATCH_SIZE_FIELDS = ("batch_size", "steps_per_window", "warmup_steps")  # what `with_batch_size` changes
MAY_DIFFER_AT_LARGEST_BATCH = (*MAY_DIFFER, *BATCH_SIZE_FIELDS)
# Fields of replicates, the trainings of one experiment: the seed, and the file of a vocabulary that each may count.
REPLICATE_FIELDS = ("seed", "synset_vocabulary", "subword_vocabulary")
# Fields ignored where records are grouped into rows: those of replicates, and those that only trainings or only timed
# runs read.
FIELDS_IGNORED_IN_ROWS = (
    *REPLICATE_FIELDS,
    "images",
    "warmup_images",
    "workers",
    "warmup_steps",
    "windows",
    "steps_per_window",
)
FIELDS = {field.name: field.type for field in fields(Experiment)}


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
