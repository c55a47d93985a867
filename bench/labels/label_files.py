"""Files of labels: one per shard, written atomically batch by batch, and read for training."""

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bench.console.console import PROGRAM
from bench.data.captions.batches import CaptionBatch
from bench.data.captions.choice import parse_caption_choice
from bench.data.captions.files import LABELS_REMEDY, find_caption_files, read_captions
from bench.data.captions.reader import CaptionFieldCounts
from bench.data.paths import digest_file_excerpts
from bench.environment.files import atomic_write, require_regular
from bench.labels.labeller import LABEL_LISTS, Tally, get_labeller, get_rule, vocabulary_of_tally
from bench.labels.vocabulary import Vocabulary, read_vocabulary

FORMAT = 1  # of the labels; raise it when the same captions give another file
SCHEMA = pa.schema(
    [pa.field("key", pa.string(), nullable=False), pa.field("labels", LABEL_LISTS, nullable=False)]
)
METADATA_KEY = b"catlip-bench.labels"


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Inputs of a file of labels: files of equal origins are equal."""

    format: int
    input_digest: str
    rule: str
    vocabulary_digest: str
    caption: str | None  # the choice of captions


class LabelFileInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Metadata of a file of labels."""

    origin: Origin
    captions: int
    empty: int  # captions without a label
    labels: int
    flaws: dict[str, int]  # rows without a caption or with a repaired one, by flaw
    field_counts: CaptionFieldCounts  # texts that the shard has, by field
    vocabulary: str  # path of the vocabulary


@dataclass(frozen=True, slots=True)
class LabelJob:
    """One shard to label, or to count if there is no vocabulary."""

    source: Path
    rule: str
    caption: str | None  # the choice of captions
    vocabulary: str | None = None
    target: Path | None = None

    @property
    def size(self) -> int:
        """Bytes of the input."""
        return self.source.stat().st_size

    def origin(self) -> Origin:
        """Return what a file of labels depends on; reads parts of the inputs."""
        return Origin(
            format=FORMAT,
            input_digest=digest_file_excerpts(self.source),
            rule=self.rule,
            vocabulary_digest=read_vocabulary(self.vocabulary).digest if self.vocabulary else "",
            caption=self.caption,
        )


LabelledBatch = tuple[CaptionBatch, pa.ListArray, Tally]
LabelFunction = Callable[[LabelJob, Iterator[CaptionBatch]], Iterator[LabelledBatch]]
ReportProgress = Callable[[int, int], None]  # captions and bytes of the input since the last call


def label_serially(job: LabelJob, batches: Iterator[CaptionBatch]) -> Iterator[LabelledBatch]:
    """Label batches in this process."""
    label = get_labeller(job.rule, job.vocabulary)
    for batch in batches:
        labels, tally = label(batch)
        yield batch, labels, tally


def run_job(
    job: LabelJob,
    report: ReportProgress = lambda _captions, _bytes: None,
    label: LabelFunction = label_serially,
) -> Tally:
    """Label the only caption of each sample of a shard, or count the labels of all.

    ValueError says why it cannot be read, and no output remains.
    """
    total = Tally()
    captions = read_captions(
        job.source, job.caption, total.field_counts, is_single=job.target is not None
    )
    rows = _accumulate(label(job, captions), total, report)
    if job.target is None:
        for _ in rows:
            pass
        return total
    origin = job.origin()
    with (
        atomic_write(job.target) as temporary,
        pq.ParquetWriter(
            temporary, SCHEMA, compression="zstd", use_dictionary=["labels.list.element"]
        ) as writer,
    ):
        for batch in rows:
            writer.write_batch(batch, row_group_size=len(batch))
        info = LabelFileInfo(
            origin=origin,
            captions=total.captions,
            empty=total.empty,
            labels=total.labels,
            flaws=dict(sorted(total.flaws.items())),
            field_counts=total.field_counts,
            vocabulary=job.vocabulary or "",
        )
        writer.add_key_value_metadata({METADATA_KEY: msgspec.json.encode(info)})
    return total


def count_file_labels(files: Iterable[Path], rule: str, caption: str | None = None) -> Vocabulary:
    """Count the labels of files of captions, one after the other; ValueError or OSError for one that cannot be read."""
    total = Tally()
    for file in files:
        total.add(run_job(LabelJob(file, rule, caption)))
    total.field_counts.require(parse_caption_choice(caption))
    return vocabulary_of_tally(get_rule(rule), total)


def _accumulate(
    labelled: Iterator[LabelledBatch], total: Tally, report: ReportProgress
) -> Iterator[pa.RecordBatch]:
    """Yield rows of labels; add their tallies to `total` and report the progress."""
    reported_bytes = 0
    for batch, labels, tally in labelled:
        if len(labels):
            yield pa.RecordBatch.from_arrays([batch.keys.fill_null(""), labels], schema=SCHEMA)
        total.add(tally)
        report(tally.captions, batch.bytes_read - reported_bytes)
        reported_bytes = batch.bytes_read


def read_label_file_info(target: Path) -> LabelFileInfo | None:
    """Return the metadata of a file of labels; None if there is no complete one."""
    try:
        metadata = pq.read_metadata(require_regular(target)).metadata
        return msgspec.json.decode(metadata[METADATA_KEY], type=LabelFileInfo)
    except (OSError, ValueError, TypeError, KeyError, msgspec.DecodeError):
        return None


def is_table_without_labels(path: Path) -> bool:
    """Return whether a file is a readable parquet table that holds no labels."""
    try:
        return METADATA_KEY not in (pq.read_metadata(path).metadata or {})
    except (OSError, ValueError):
        return False


@dataclass(frozen=True, slots=True)
class StoredLabels:
    """Columns of each caption, in the order of the shards and of their captions."""

    folder: Path
    columns: npt.NDArray[np.uint32]  # columns of all captions, concatenated
    # [captions + 1]: caption i has columns[offsets[i] : offsets[i + 1]].
    offsets: npt.NDArray[np.int64]

    def select(self, rows: Sequence[int], num_captions: int) -> list[list[int]]:
        """Return the columns of the given rows; ValueError unless the files hold labels of so many captions."""
        num_stored = len(self.offsets) - 1
        if num_stored != num_captions:
            raise ValueError(
                f"{self.folder} has labels of {num_stored} captions, there are {num_captions}"
            )
        return [self.columns[self.offsets[row] : self.offsets[row + 1]].tolist() for row in rows]


def require_single_caption_field(caption: str | None) -> None:
    """Raise ValueError for a choice that draws captions of several fields: a file holds the labels of one."""
    if parse_caption_choice(caption).is_drawn:
        raise ValueError(
            f"stored labels are of one caption of each sample, and {caption} draws it: {LABELS_REMEDY}"
        )


def find_label_files(
    folder: Path, shards: Sequence[Path], vocabulary: str, caption: str | None
) -> list[Path]:
    """Return the label files of shards.

    ValueError if they were made from other shards, of other captions, or with another vocabulary.
    """
    require_single_caption_field(caption)
    rule = read_vocabulary(vocabulary).rule
    paths = []
    for shard in find_caption_files(map(str, shards)):
        path = folder / shard.labels_name
        info = read_label_file_info(path)
        if info is None:
            inputs = shards[0] if len(shards) == 1 else shards[0].parent
            option = f" --caption {shlex.quote(caption)}" if caption else ""
            command = f"{PROGRAM} label {inputs} --vocabulary {vocabulary}{option} --out {folder}"
            raise ValueError(f"{path} is no complete file of labels; create it with: {command}")
        job = LabelJob(shard.path, rule, caption, vocabulary)
        difference = _describe_difference(info, job)
        if difference:
            raise ValueError(f"{path} {difference}: label the shards again")
        paths.append(path)
    return paths


def _describe_difference(info: LabelFileInfo, job: LabelJob) -> str:
    """Say in what the inputs of a file of labels differ from a job's; empty if they are equal."""
    made = info.origin
    wanted = job.origin()
    if (made.rule, made.vocabulary_digest) != (wanted.rule, wanted.vocabulary_digest):
        made_with = f"was made with the vocabulary {info.vocabulary}, not with {job.vocabulary}"
        return f"{made_with} (add --vocabulary {info.vocabulary})"
    if made.format != wanted.format:
        return f"has format {made.format}, this version reads format {wanted.format}"
    if made.caption != wanted.caption:
        return f"was made with --caption {made.caption or 'none'}, not {wanted.caption or 'none'}"
    if made.input_digest != wanted.input_digest:
        return f"was not created from {job.source}"
    return ""


def load_stored_labels(
    folder: Path, shards: Sequence[Path], vocabulary: str, caption: str | None
) -> StoredLabels:
    """Read the labels of shards; ValueError as `find_label_files`."""
    columns = [np.zeros(0, np.uint32)]
    counts = [np.zeros(1, np.int64)]
    for path in find_label_files(folder, shards, vocabulary, caption):
        for chunk in pq.read_table(path, columns=["labels"]).column("labels").chunks:
            columns.append(chunk.flatten().to_numpy())
            counts.append(chunk.value_lengths().to_numpy())
    return StoredLabels(folder, np.concatenate(columns), np.concatenate(counts).cumsum())
