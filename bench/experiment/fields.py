"""The fields of an experiment, in groups: each with its type, description, roles and default."""

import math
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta
from msgspec.structs import fields, force_setattr

PACK_DATA = "shipped-pack"
OWN_LENGTHS = "own"
RANDOM_SUBSET = "random:"
RANDOM_TEACHER = "random:"
WITHOUT_HELD_OUT_CONCEPTS = "without-held-out-concepts"
Precision = Literal["auto", "fp32", "bf16", "fp16"]
TextPadding = Literal["length_groups", "packed_rows", "longest", "max_length"]
Attention = Literal["fused", "plain", "fp32_softmax"]
GatheredFeatures = Literal["captions", "both"]
OptimizerKernel = Literal["fused", "foreach", "for_loop"]
EmaKernel = Literal["foreach", "for_loop"]
LabelFormat = Literal["sparse", "dense"]
Augmentation = Literal["none", "range"]
Sharding = Literal["ddp", "fsdp2_no_reshard", "fsdp2", "hsdp"]
NonEmptyStr = Annotated[str, Meta(min_length=1)]
PositiveInt = Annotated[int, Meta(ge=1, le=10**12)]
ImageSize = Annotated[int, Meta(ge=1, le=4096)]  # position embeddings grow with its square
ContextLength = Annotated[int, Meta(ge=3, le=4096)]  # the attention mask grows with its square
Channels = Annotated[int, Meta(ge=1, le=2**16)]
PositiveFloat = Annotated[float, Meta(gt=0)]
NonNegativeFloat = Annotated[float, Meta(ge=0)]
FractionBelowOne = Annotated[float, Meta(ge=0, lt=1)]
Fraction = Annotated[float, Meta(gt=0, le=1)]


Role = Literal[
    "tuned",  # may differ between the experiments of one comparison: the method and its own values
    "by batch",  # changed with the batch size
    "replicate",  # differs between the trainings of one experiment: the seed, and the file of a vocabulary
    "pace",  # how much a run times
    "budget",  # how long a training is
    "model",  # of the model and its targets, which libraries and files may refuse
]


def field_metadata(
    description: str,
    *roles: Role,
    tuned_over: tuple[bool | float | str, ...] = (),
    forms: str = "",
) -> Meta:
    """Return the metadata of a field for its type annotation: a sentence that says what it is, and its roles.

    Of a field that a method declares, `tune` tries the values in `tuned_over`; without any it keeps the experiment's.
    `forms` are those of its values, for `list --fields`, if its type does not say them.
    """
    return Meta(
        description=description, extra={"roles": roles, "tuned_over": tuned_over, "forms": forms}
    )


class SettingsGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base class of an experiment and of the groups of its fields. Raises ValueError for a value of the wrong kind."""

    def __post_init__(self) -> None:
        """Convert and check every value, naming the field."""
        for field in fields(type(self)):
            value = getattr(self, field.name)
            try:
                force_setattr(self, field.name, msgspec.convert(value, field.type))
            except msgspec.ValidationError as error:
                raise ValueError(f"{field.name}={value!r}: {error}") from None
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{field.name} must be finite, got {value}")


class RandomInitKey(NamedTuple):
    """What the features of an untrained tower depend on, apart from the seed."""

    tower: str
    image_size: int  # side in pixels
    has_mean_pooling: bool
    pixel_normalisation: str


class ImageSettings(SettingsGroup, frozen=True, kw_only=True):
    """The image tower, and the images that it takes."""

    tower: Annotated[
        NonEmptyStr,
        field_metadata(
            "Shared image tower: of an open_clip model, a timm model, or CoreNet's `corenet-vit-base`.",
            "model",
            forms="an open_clip or timm model",
        ),
    ]
    image_size: Annotated[
        ImageSize,
        field_metadata(
            "Side of the images in pixels; with `random_image_sizes` that in scoring, for which `batch_size` counts.",
            "tuned",
            "model",
        ),
    ]
    random_image_sizes: Annotated[
        tuple[ImageSize, ...],
        field_metadata("Sides in pixels; each step draws one. Empty: `image_size` alone.", "model"),
    ] = ()
    patch_drop: Annotated[
        FractionBelowOne,
        field_metadata(
            "Fraction of the patches that a training step drops (FLIP); scoring drops none.",
            "tuned",
            "model",
        ),
    ] = 0.0
    pooling: Annotated[
        Literal["tower", "mean", "mean_for_classifier"],
        field_metadata(
            'Feature of an image: that of the "tower" as published, or the "mean" of its patch tokens after the last '
            'norm. "mean_for_classifier": superclip\'s classifier has the mean, its contrastive loss and scoring the '
            "class token.",
            "tuned",
            "model",
        ),
    ] = "tower"
    pixel_normalisation: Annotated[
        Literal["openai", "none"],
        field_metadata(
            'Normalisation of pixels: open_clip\'s mean and deviation, or "none": they stay in 0 to 1.',
        ),
    ] = "openai"
    input_embedding_grid_channels: Annotated[
        Channels | None,
        field_metadata(
            "Channels of stored grids of embeddings, read in place of images; None: images.",
            "model",
        ),
    ] = None

    @property
    def all_image_sizes(self) -> tuple[int, ...]:
        """Return the sides in pixels of which each step draws one."""
        return self.random_image_sizes or (self.image_size,)

    @property
    def random_init_key(self) -> RandomInitKey:
        """Return what decides the features of the untrained tower, apart from the seed."""
        return RandomInitKey(
            self.tower, self.image_size, self.pooling == "mean", self.pixel_normalisation
        )


class TextSettings(SettingsGroup, frozen=True, kw_only=True):
    """The text tower of contrastive methods, the decoder of captioners, and their captions."""

    text_tower: Annotated[
        NonEmptyStr,
        field_metadata(
            "open_clip model whose text tower contrastive methods use.",
            "model",
            forms="an open_clip model",
        ),
    ]
    context_length: Annotated[
        ContextLength,
        field_metadata(
            "Maximum number of tokens per caption, and of SuperClass's labels; start and end token included.",
            "tuned",
            "model",
        ),
    ]
    text_padding: Annotated[
        Literal["auto", TextPadding],
        field_metadata(
            'Padding of captions: "length_groups" in groups of similar length, "packed_rows" several to a row, '
            '"longest", "max_length" to `context_length`; "auto" is "packed_rows" if compiled, so that all batches '
            'have one shape, else "length_groups".',
        ),
    ] = "length_groups"
    text_features: Annotated[
        Literal["computed", "random"],
        field_metadata(
            'Features of captions: computed by the text tower, or "random" ones from memory, without a text tower, '
            "to measure its cost (clip and siglip).",
            "model",
        ),
    ] = "computed"
    decoder_layers: Annotated[
        int,
        Meta(ge=2, le=1024),
        field_metadata("Number of blocks of cap's text decoder.", "tuned", "model"),
    ] = 6
    parallel_caption_share: Annotated[
        float,
        Meta(ge=0, le=1),
        field_metadata(
            "Fraction of the captions whose tokens cap predicts from the image alone (0.75 for CapPa), in place of the "
            "image and the tokens before.",
            "tuned",
            "model",
        ),
    ] = 0.0


class TargetSettings(SettingsGroup, frozen=True, kw_only=True):
    """What methods that classify or distil learn from, and their head."""

    synset_label_format: Annotated[
        LabelFormat,
        field_metadata(
            'CatLIP\'s targets: indices, or "dense" rows of int64 as in its released code.',
        ),
    ] = "sparse"
    synset_vocabulary: Annotated[
        NonEmptyStr,
        field_metadata(
            "Vocabulary of CatLIP: a file of bench/labels/vocabularies, or a path; only the pack is trained "
            'on the shipped ones. "datacomp-synsets" has the 24,320 synsets of CatLIP\'s release, which are '
            "not shipped: nothing trains on them.",
            "replicate",
            "model",
            forms="shipped-synsets, FILE",
        ),
    ] = "shipped-synsets"
    subword_vocabulary: Annotated[
        NonEmptyStr,
        field_metadata(
            'Vocabulary of subwords: a file of bench/labels/vocabularies, or a path; "all" is the tokenizer\'s '
            "own, of 49,408 ids.",
            "replicate",
            "model",
            forms="shipped-subwords, all, FILE",
        ),
    ] = "shipped-subwords"
    padded_head_rows: Annotated[
        PositiveInt | None,
        field_metadata(
            "Number of rows of the classification head, at least one per label; None: one per label.",
            "tuned",
            "model",
        ),
    ] = None
    synset_head_initialisation: Annotated[
        Literal["uniform", "trunc_normal", "log_odds"],
        field_metadata(
            "Initial head of CatLIP: torch's; CoreNet's (\"trunc_normal\"); or torch's weights, and biases that "
            'predict how often each label occurs ("log_odds").',
            "tuned",
        ),
    ] = "uniform"
    teacher_tower: Annotated[
        NonEmptyStr,
        field_metadata(
            'Teacher of distillation: a tower file of `bench train`, or "random:NAME", a tower with random weights, '
            "which has the same cost and teaches nothing.",
            "model",
            forms=f"TOWER-FILE, {RANDOM_TEACHER}MODEL",
        ),
    ] = f"{RANDOM_TEACHER}ViT-L-14"


class SampleSettings(SettingsGroup, frozen=True, kw_only=True):
    """Which samples a training reads, and how they are loaded and augmented."""

    data: Annotated[
        NonEmptyStr,
        field_metadata(
            "Training data: the shipped pack, or a folder, file or glob of captioned images (docs/data.md).",
            forms=f"{PACK_DATA}, PATH",
        ),
    ] = PACK_DATA
    pack_caption_lengths: Annotated[
        Literal["own", "web"],
        field_metadata(
            'Lengths of captions in tokens: their "own", or, for the pack alone, those of "web" captions.',
        ),
    ] = "own"
    caption_fields: Annotated[
        NonEmptyStr | None,
        field_metadata(
            'Column or field that holds the captions; of several ("txt:0.5;json.llava:0.5"), one is drawn for each '
            "image and epoch with the given probability. None: found by its name.",
            forms="FIELD[:PROBABILITY];...",
        ),
    ] = None
    image_column: Annotated[
        NonEmptyStr | None,
        field_metadata(
            "Column of a table that holds the images or their paths; in tars and folders the suffix of images. "
            "None: found by its name or content.",
            forms="COLUMN, SUFFIX",
        ),
    ] = None
    subset: Annotated[
        NonEmptyStr | None,
        field_metadata(
            'Samples used: a csv of keys, "random:N" for N drawn at random, or "without-held-out-concepts" of '
            "the pack; None: all.",
            forms=f"FILE.csv, {RANDOM_SUBSET}N, {WITHOUT_HELD_OUT_CONCEPTS}",
        ),
    ] = None
    workers: Annotated[
        Annotated[int, Meta(ge=0, le=1024)] | Literal["auto"],
        field_metadata(
            "Number of processes that load shards for each training process; 0: the training process itself. "
            '"auto": on a GPU all cores but one for each training process, on a CPU 0.',
            forms="auto, N",
        ),
    ] = "auto"
    jpeg_decoding: Annotated[
        Literal["full", "reduced"],
        field_metadata(
            'Decoding of JPEGs of shards: "full", or "reduced": at 1/2, 1/4 or 1/8 of the size where the crop '
            "stays as large as it is needed.",
        ),
    ] = "full"
    crop_scale: Annotated[
        tuple[Fraction, Fraction],
        field_metadata(
            "Range of the fraction of the image's area in a random crop.",
            "tuned",
        ),
    ] = (0.5, 1.0)
    flip: Annotated[
        bool,
        field_metadata(
            "Whether images are flipped horizontally at random.",
            "tuned",
        ),
    ] = True
    augmentation: Annotated[
        Augmentation,
        field_metadata(
            'Augmentation beside crops and flips: "range" (RangeAugment) changes brightness, contrast and '
            "noise in learnt ranges, with a loss of its own."
        ),
    ] = "none"


class TrainingSettings(SettingsGroup, frozen=True, kw_only=True):
    """The batch, and the length of a training."""

    batch_size: Annotated[
        PositiveInt,
        field_metadata(
            "Number of images per step on one device, at `image_size`.",
            "by batch",
        ),
    ]
    micro_batches: Annotated[
        PositiveInt,
        field_metadata(
            "Number of micro-batches into which a batch is split. It must be 1 for contrastive methods and cap; "
            "SuperClass counts how often labels occur in each micro-batch."
        ),
    ] = 1
    images_seen: Annotated[
        PositiveInt,
        field_metadata(
            "Length of the training: number of images seen on all devices, repetitions included.",
            "budget",
        ),
    ]
    warmup_images: Annotated[
        int,
        Meta(ge=0),
        field_metadata(
            "Number of these images in the warm-up of the learning rate.", "tuned", "budget"
        ),
    ]
    schedule: Annotated[
        NonEmptyStr,
        field_metadata(
            'Learning rate after a linear warm-up: "wsd" keeps it constant and branches off a linear '
            'cool-down for each budget; "cosine" is a separate run from the start for each budget; or the '
            "schedule of an extension.",
            forms="wsd, cosine, or an extension's",
        ),
    ] = "wsd"
    cooldown_share: Annotated[
        float,
        Meta(gt=0, lt=1),
        field_metadata('Fraction of the images in the cool-down of "wsd".'),
    ] = 0.2
    cosine_min_learning_rate: Annotated[
        NonNegativeFloat, field_metadata('Learning rate at the end of the schedule "cosine".')
    ] = 0.0


class OptimizerSettings(SettingsGroup, frozen=True, kw_only=True):
    """Fields of the optimizer, of gradient clipping, and of the moving average of the weights."""

    optimizer: Annotated[
        NonEmptyStr,
        field_metadata(
            'Optimizer: "adamw"; "muon", which updates the matrices in the towers\' blocks by Muon and all '
            "else by AdamW; or one of an extension.",
            forms="adamw, muon, or an extension's",
        ),
    ] = "adamw"
    learning_rate: Annotated[
        PositiveFloat,
        field_metadata("Highest learning rate.", "tuned"),
    ]
    betas: Annotated[
        tuple[FractionBelowOne, FractionBelowOne], field_metadata("Decays of AdamW's moments.")
    ] = (
        0.9,
        0.98,
    )
    eps: Annotated[
        NonNegativeFloat,
        field_metadata("Constant that AdamW adds to the root of the second moment."),
    ] = 1e-6
    weight_decay: Annotated[
        NonNegativeFloat,
        field_metadata("Weight decay of matrices; vectors and scalars have none.", "tuned"),
    ] = 0.2
    optimizer_kernel: Annotated[
        OptimizerKernel,
        field_metadata(
            'Kernel of AdamW: "fused", "foreach" (torch\'s default on a GPU) or "for_loop", one parameter at a time.',
        ),
    ] = "fused"
    clip_norm: Annotated[
        PositiveFloat | None,
        field_metadata("Maximum norm of the whole gradient; None: no clipping."),
    ] = 1.0
    log_recomputed_grad_norm: Annotated[
        bool,
        field_metadata(
            "Whether each step computes the gradient's norm again, parameter by parameter, and reads it on "
            "the host, to log it.",
        ),
    ] = False
    ema_decay: Annotated[
        FractionBelowOne | None,
        field_metadata(
            "Decay per step of the weights' average, which is scored; None: no average."
        ),
    ] = None
    ema_kernel: Annotated[
        EmaKernel,
        field_metadata(
            'Update of the weights\' average: of all weights at once, or "for_loop" one by one.',
        ),
    ] = "foreach"


class RuntimeSettings(SettingsGroup, frozen=True, kw_only=True):
    """How the same model is computed: precision, compilation, kernels and sharding."""

    precision: Annotated[
        Precision,
        field_metadata(
            'Precision of forward and backward; "auto" is bf16 on a GPU and fp32 on a CPU.'
        ),
    ] = "auto"
    clip_loss_precision: Annotated[
        Literal["fp32", "autocast"],
        field_metadata('Precision of the products in CLIP\'s loss; "autocast": as `precision`.'),
    ] = "fp32"
    compile: Annotated[
        Literal["auto", "on", "off", "max-autotune"],
        field_metadata(
            'Compilation by torch; "auto" is on on a GPU and off on a CPU. "max-autotune" also times several '
            "kernels for each matrix product and keeps the fastest.",
        ),
    ] = "auto"
    attention: Annotated[
        Attention,
        field_metadata(
            'Attention kernel: torch\'s fused one; "plain" for product, softmax, product; or "fp32_softmax", '
            "the same with a softmax in fp32, as in CoreNet.",
        ),
    ] = "fused"
    activation_checkpointing: Annotated[
        bool,
        field_metadata(
            "Whether each block's forward is computed again in the backward, to save memory.",
            "model",
        ),
    ] = False
    sharding: Annotated[
        Sharding,
        field_metadata(
            'Over several processes, "ddp" replicates the weights, "fsdp2" shards them, "fsdp2_no_reshard" does so '
            "and keeps the gathered blocks from the forward to the backward (`reshard_after_forward=False`), and "
            '"hsdp" shards them within a node and replicates them over nodes.',
        ),
    ] = "ddp"
    gathered_features: Annotated[
        GatheredFeatures,
        field_metadata(
            'Features that CLIP\'s loss gathers from all processes: those of "captions" (4 products of '
            'matrices a step), or "both" images and captions (6 products), as in open_clip and CoreNet. Loss '
            "and gradients are equal.",
        ),
    ] = "captions"
    simulated_global_batch: Annotated[
        PositiveInt | None,
        field_metadata(
            "Number of images per step on all devices of a simulated process group, for a contrastive loss on "
            "one process; nothing is communicated. None: no simulation."
        ),
    ] = None


class TimingSettings(SettingsGroup, frozen=True, kw_only=True):
    """The numbers of steps and windows of a timed run."""

    untimed_steps: Annotated[
        PositiveInt,
        field_metadata(
            "Number of steps before the first window, whose times are recorded and not counted.",
            "by batch",
            "pace",
        ),
    ]
    timed_windows: Annotated[
        PositiveInt, field_metadata("Number of timed windows of a run.", "pace")
    ]
    steps_per_window: Annotated[
        PositiveInt,
        field_metadata(
            "Number of steps in a window; on a CPU each of them is a window of its own.",
            "by batch",
            "pace",
        ),
    ]
    injected_slowdown: Annotated[
        NonNegativeFloat,
        field_metadata(
            "Sleep after the steps of a window, as a fraction of their time: a known slowdown that a "
            "comparison must find."
        ),
    ] = 0.0
