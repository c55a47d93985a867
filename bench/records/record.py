"""Records of runs: JSON documents that are never edited, with raw figures, circumstances and the whole experiment."""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from bench.environment.circumstances import RunCircumstances
from bench.environment.files import (
    PLAIN,
    FormatNumber,
    atomic_write,
    decode_json,
    prefix_errors,
    read_bytes_unless_larger,
    require_format_number,
    to_safe_file_name,
)
from bench.experiment.config import Experiment
from bench.records.method_text import MethodDescription
from bench.records.record_kind import (
    AnyRecordContent,
    ContentKindTag,
    RecordContent,
    UnknownRecordContent,
    kind_tag,
)
from bench.records.scores import AccuracyScore, Count, MetricScore, Share

FORMAT = 5  # raise it when a field changes its name or its meaning
OTHER_FORMAT_REMEDY = "measure again, or read it at the commit that it names"
BYTES_PER_PARAMETER = 16  # of memory: weight, gradient and AdamW's two moments, in fp32
# Characters of a record's file name; a digest, suffixes and names of locks make it longer, to 255 at most.
MAX_STEM_LENGTH = 190
MAX_RECORD_BYTES = 2**27  # a training of a million steps has a record of 22 MB
TOWER_KEY = "model.classification.vit.mode"  # of CoreNet's files: the size of the tower
# What a field of a record can be; reading refuses anything else.
PositiveCount = Annotated[int, msgspec.Meta(ge=1, le=10**18)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Durations = Annotated[
    tuple[Annotated[float, msgspec.Meta(ge=1e-9, le=1e9)], ...], msgspec.Meta(min_length=1)
]
SecondsByPhase = dict[str, Durations]
ReadingByName = dict[str, float]
CountByName = dict[str, Count]
BetterDirection = Literal["higher", "lower"]
# Names in `ReadingByName`.
OWN_BUSY = "process CPU busy percent"
OTHERS_BUSY = "other processes CPU busy percent"
HOST_BUSY = "taken by the host CPU percent"
# A step's phases, in its order.
PHASES = (
    "data",
    "augmentation",
    "image forward",
    "text forward",
    "head and loss",
    "backward",
    "optimizer",
)


class StepFlops(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Floating-point operations (2 a multiply-add) of a step of one process, mean of the timed steps.

    Text is counted at the tokens that are computed.
    """

    image_forward: Count
    text_forward: Count
    forward: Count  # towers, projections, head and loss
    step: PositiveCount  # forward and backward, with what it computes again
    # Part of the forward that no backward follows, also of other frozen encoders.
    teacher_forward: Count = 0


class RunOnSamples(RecordContent, frozen=True, kw_only=True):
    """Base of the contents of runs on a data set; of several processes the counts are rank 0's."""

    skipped: CountByName = {}  # number of samples that could not be used, by what is wrong with them
    # Number of processes that loaded shards; None: the experiment's `workers`.
    loader_workers: Count | None = None
    # names and glosses of frequent labels whose words are mostly adjectives
    adjective_labels: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class Speed(RunOnSamples, frozen=True, kw_only=True, omit_defaults=True, tag="speed"):
    """A timed run: the wall-clock seconds of its windows, with all that explains them.

    The device is idle at both ends of a window. Of several processes the seconds are rank 0's.
    """

    is_timed = True

    round: Count
    warmup_seconds: NonNegative  # with the heating
    window_seconds: Durations
    steps_per_window: PositiveCount | None = None  # None: the experiment's; on a CPU one
    # Number of images in each window of one process; empty: all steps have the experiment's batch_size.
    window_images: tuple[PositiveCount, ...] = ()
    # Core-seconds per second of each window for which other work kept the run from a core: its threads' waits. Where
    # its threads wait for each other, or the kernel reports no waits: the CPU time of other processes while no core was
    # idle. Empty: not reported.
    window_core_waits: tuple[NonNegative, ...] = ()
    # Percentage of each window's time in which heat or hardware slowed the GPU; empty: not read.
    window_throttled_percent: tuple[NonNegative, ...] = ()
    phase_seconds: SecondsByPhase  # of each step, by name of PHASES, from a pass that waits for the device between them
    # Core-seconds per second of each step in that pass, as `window_core_waits`.
    phase_core_waits: tuple[NonNegative, ...] = ()
    # Number of steps to split into phases; further steps make up for disturbed ones.
    planned_phase_steps: PositiveCount | None = None
    # Number of images of each step in that pass; empty: the experiment's batch_size.
    phase_images: tuple[PositiveCount, ...] = ()
    flops: StepFlops
    # Mean number of tokens computed, padding included; None: the method reads no text.
    tokens_per_caption: NonNegative | None
    trained_parameters: Count
    tower_parameters: Count
    peak_flops_per_second: NonNegative | None  # None: not known for this device
    peak_source: str
    # For turning all captions into what the method reads, once.
    target_building_seconds: NonNegative
    num_captions: Count
    # Means over the windows, by name with unit; without readings that were not measured.
    utilisation: ReadingByName
    # Why a reading is missing, or not of the whole time, by its name.
    not_measured: dict[str, str] = {}
    # Share of the windows' time that was spent waiting for batches; None: not measured.
    data_wait_share: Share | None = None
    # Names of the kernels that computed attention; empty: not recorded.
    attention_kernels: tuple[str, ...] = ()
    # The window_seconds of each rank, whose windows begin together; empty: there is one process.
    rank_window_seconds: tuple[Durations, ...] = ()

    @property
    def processes(self) -> int:
        """How many processes the run had."""
        return max(1, len(self.rank_window_seconds))


class Memory(RecordContent, frozen=True, kw_only=True, tag="memory"):
    """Peak memory of a few training steps, in a process that did nothing else.

    Imports and data, which are held before the model is built, are not included. None: this device keeps no such count.
    Reserved bytes are all that CUDA's allocator took.
    """

    steps: Count
    trained_parameters: Count
    # CPU: resident memory, without pages of mapped files.
    peak_rss_bytes: Count | None = None
    peak_allocated_bytes: Count | None = None  # CUDA: tensors
    peak_reserved_bytes: Count | None = None  # CUDA: the allocator's share of the device
    # CUDA: what NVML counts for the process at the end, with context and kernels.
    process_bytes: Count | None = None
    # Bytes of one uncompiled step, counted tensor by tensor: equal in every run. None: the weights are sharded, or the
    # step does not fit uncompiled.
    peak_tensor_bytes: Count | None


class ReleasedRun(RunOnSamples, frozen=True, kw_only=True, tag="released-run"):
    """A timed run of the authors' released training loop with their configuration file: its windows and losses."""

    is_timed = True

    repository: str
    commit: str  # of the checkout, "-dirty" if its files differ; "unknown": it is no git repository
    file: str  # configuration file within the checkout
    file_sha256: str
    # Keys of the file whose values were changed, by dotted names: both values and the reason.
    changed: dict[str, str] = {}
    gpus: PositiveCount  # processes, one a device
    round: Count
    window_images: tuple[PositiveCount, ...]  # processed in each window by one process
    window_seconds: Durations
    losses: tuple[float, ...]  # of every step, warm-up included
    # Of the windows' time that the loop waited for batches; None: not measured.
    data_wait_share: Share | None = None
    # Percentage of readings that say that heat or its hardware slowed the GPU. None: not read.
    throttled_percent: NonNegative | None = None

    @property
    def images_per_second(self) -> float:
        """The images per second of all processes over all windows, which have images of several sizes."""
        return self.gpus * sum(self.window_images) / sum(self.window_seconds)


# Why a tower is cooled down: a budget that is equal for all experiments of its comparison.
EQUAL_IMAGES = "equal images"
EQUAL_SECONDS = "equal device seconds"


class CooledDownTower(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tower that a cool-down gave, and the budgets that it was cooled down for."""

    images: Count  # number seen, trunk included
    # For which comparisons it was branched off, such as EQUAL_IMAGES.
    budgets: tuple[str, ...]
    tower: str  # file name beside the record


class Training(RunOnSamples, frozen=True, kw_only=True, tag="training"):
    """One training: a trunk and the cool-downs branched off it, each of which gives a tower.

    Losses are in nats, one for each step.
    """

    trunk_losses: tuple[float, ...]
    cooldown_losses: tuple[tuple[float, ...], ...]
    branches: tuple[CooledDownTower, ...]
    seconds: NonNegative  # of the whole run, for information: speeds come from speed records
    # Number of updates that were skipped because of an overflow in fp16.
    overflows: Count = 0
    # Number of the data set's samples that were used; None: not counted.
    num_samples: PositiveCount | None = None


class TransferScores(RecordContent, frozen=True, kw_only=True, tag="transfer"):
    """The scores of one feature extractor on transfer tasks."""

    subject: str  # an experiment's name, or "random init", "raw pixels", "HOG and colour"
    images: Count  # number seen in pre-training
    budgets: tuple[str, ...]
    scores: tuple[AccuracyScore, ...]
    metrics: tuple[MetricScore, ...] = ()
    # Number of the task's test images that are in the training data, byte for byte; unset: not compared.
    seen_images: Count | msgspec.UnsetType = msgspec.UNSET


class FigureSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name, unit and direction of a figure that a measurement returns; only figures above 0 have ratios."""

    name: str
    unit: str  # "" for a number without one
    better: BetterDirection | None = None  # which values are better; None: neither


class MeasuredFigures(RecordContent, frozen=True, kw_only=True, tag="figures"):
    """The figures of one measurement of an extension, with all that is needed to show them without the extension."""

    is_timed = True

    measurement: str  # its name
    title: str
    round: Count
    figures: tuple[FigureSpec, ...]
    values: dict[str, Annotated[tuple[float, ...], msgspec.Meta(min_length=1)]]


class Failure(RecordContent, frozen=True, kw_only=True, tag="failure"):
    """Which run failed and why: all that a failed run leaves."""

    what: str  # which run failed, such as "speed"
    reason: str


_BUILT_IN_KINDS = (
    Speed,
    Memory,
    ReleasedRun,
    Training,
    TransferScores,
    MeasuredFigures,
    Failure,
)
# The classes of contents by tag, extensions' included.
RECORD_KINDS: dict[str, type[RecordContent]] = {kind_tag(kind): kind for kind in _BUILT_IN_KINDS}


def register_record_kind(kind: type[RecordContent]) -> None:
    """Add an extension's class of contents to RECORD_KINDS.

    Raises ValueError without a tag of its own that can be in file names.
    """
    if not issubclass(kind, RecordContent) or kind_tag(kind) == kind.__name__:
        raise ValueError(
            f"the kind of record {kind!r} must be a subclass of RecordContent with a tag"
        )
    if kind_tag(kind) in RECORD_KINDS or not re.fullmatch(PLAIN, kind_tag(kind)):
        raise ValueError(f"the kind of record {kind_tag(kind)} needs another tag")
    RECORD_KINDS[kind_tag(kind)] = kind


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one run left, under which circumstances, and of which experiment."""

    format: int = FORMAT
    comparison: str  # name that runs which were started together share
    # None: what was measured was not trained (reference features), or is a link.
    experiment: Experiment | None
    circumstances: RunCircumstances
    measured: AnyRecordContent
    # Of an extension; a method of this program has none.
    method: MethodDescription | msgspec.UnsetType = msgspec.UNSET

    @property
    def experiment_name(self) -> str:
        """The name of the experiment; empty without one."""
        return self.experiment.name if self.experiment is not None else ""


def write_record(record: Record, path: Path) -> None:
    """Write a record atomically as JSON; floats keep every digit.

    Raises ValueError for a figure that is not finite: JSON would turn it into "not measured".
    """
    content = msgspec.json.format(msgspec.json.encode(record), indent=1)
    if decode_record(content, path) != record:
        raise ValueError(f"{path}: a figure is not finite")
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def read_record(path: Path) -> Record:
    """Read one record; ValueError names the file and what is wrong with it."""
    return decode_record(read_bytes_unless_larger(path, MAX_RECORD_BYTES), path)


def read_records(results: Path, comparison: str = "*") -> list[Record]:
    """Read a folder's records (of one comparison), in the order of their file names.

    Raises ValueError for a damaged record of a known kind. A damaged one of an unknown kind is no record.
    """
    return [
        read_record(path)
        for path in list_record_files(results)
        if comparison in ("*", comparison_name_from_filename(path))
    ]


def record_path(results: Path, comparison: str, kind: str, *names: object) -> Path:
    """Return the path of a run's record, COMPARISON.KIND.NAMES.json; a run that is not done has no file there."""
    if not re.fullmatch(PLAIN, comparison):
        raise ValueError(
            f"a comparison is named in letters, digits and =+,_- alone, got {comparison!r}"
        )
    parts = [to_safe_file_name(str(name)) for name in (kind, *names)]
    stem = ".".join([comparison, *parts])
    if len(stem) > MAX_STEM_LENGTH:
        digest = hashlib.sha256(stem.encode()).hexdigest()
        stem = f"{stem[:MAX_STEM_LENGTH]}-{digest[:8]}"
    return results / f"{stem}.json"


def list_comparison_names(results: Path) -> list[str]:
    """Return the names of the comparisons that a folder's files name, oldest first."""
    return sorted({comparison_name_from_filename(path) for path in list_record_files(results)})


def comparison_name_from_filename(path: Path) -> str:
    """Return the name of the comparison, with which the name of a record's file begins."""
    return path.name.split(".", 1)[0]


def kind_tag_from_filename(path: Path) -> str:
    """Return the tag of the kind in the name of a record's file; empty if the file is named otherwise."""
    return path.name.split(".")[1] if path.match("*.*.json") else ""


def is_record_file(path: Path) -> bool:
    """Return whether a file is a record by its name, as `record_path` gives it.

    A file of an unknown kind is one if its content is.
    """
    if kind_tag_from_filename(path) in RECORD_KINDS:
        return True
    try:
        return isinstance(read_record(path).measured, UnknownRecordContent)
    except (ValueError, OSError):
        return False


def list_record_files(results: Path) -> list[Path]:
    """Return the files of a folder that are named as records, in the order of their names."""
    return sorted(filter(is_record_file, results.glob("*.*.json")))


def list_record_files_of_report(results: Path) -> list[Path]:
    """Return the record files that `report` reads: of a folder, and of the folders of trainings one level below."""
    trainings = results.glob("*/*-train.*.json")
    folders = {results, *(path.parent for path in trainings)}
    paths = list[Path]()
    for folder in folders:
        paths += list_record_files(folder)
    return sorted(paths)


def decode_record(content: bytes, path: Path) -> Record:
    """Decode a record's document; ValueError names the file, and what is wrong with it.

    The content of a kind that is not known here is kept undecoded if `path` is named by that kind, else refused.
    """

    def decode_content(_: type, fields: Any) -> AnyRecordContent:
        kind = msgspec.convert(fields, ContentKindTag).kind
        if kind in RECORD_KINDS:
            return msgspec.convert(fields, RECORD_KINDS[kind])
        if kind_tag_from_filename(path) != kind:
            raise ValueError(f"the unknown kind {kind!r} is not that of the file's name")
        return UnknownRecordContent(fields)

    with prefix_errors(f"{path}: not a record"):
        header = decode_json(content, FormatNumber)
    with prefix_errors(path):
        require_format_number(header, FORMAT, OTHER_FORMAT_REMEDY)
        return decode_json(content, Record, decode_content)
