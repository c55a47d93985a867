"""Files of labels: one per shard, written atomically batch by batch, and read for training."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bench.console.console import PROGRAM
from bench.data.captions.choice import parse_caption_choice
from bench.data.captions.files import LABELS_REMEDY, find_caption_files, read_captions
from bench.data.paths import digest_file_excerpts
from bench.environment.files import atomic_write, require_regular_file
from bench.labels.label_rule import LABEL_LISTS
from bench.labels.labeller import Tally, get_labeller, get_rule, vocabulary_of_tally
from bench.labels.vocabulary import Vocabulary, read_vocabulary

SCHEMA = pa.schema(
    [pa.field("key", pa.string(), nullable=False), pa.field("labels", LABEL_LISTS, nullable=False)]
)
METADATA_KEY = b"catlip-bench.labels"


class LabelOrigin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Inputs of a file of labels, which its metadata holds: files of equal origins are equal."""

    input_digest: str
    vocabulary_digest: str  # of its rule and its labels
    caption: str | None  # the choice of captions


@dataclass(frozen=True, slots=True)
class LabelJob:
    """One shard to label, or to count if there is no vocabulary."""

    source: Path
    rule: str
    caption: str | None  # the choice of captions
    vocabulary: str = ""
    target: Path | None = None

    @property
    def size(self) -> int:
        """Bytes of the input."""
        return self.source.stat().st_size

    def origin(self) -> LabelOrigin:
        """Return what a file of labels depends on; reads parts of the inputs."""
        return LabelOrigin(
            input_digest=digest_file_excerpts(self.source),
            vocabulary_digest=read_vocabulary(self.vocabulary).digest,
            caption=self.caption,
        )


def run_job(job: LabelJob) -> Tally:
    """Label the only caption of each sample of a shard, or count the labels of all.

    ValueError says why it cannot be read, and no output remains.
    """
    total = Tally()
    batches = _label_batches(job, total)
    if job.target is None:
        for _ in batches:
            pass
        return total
    origin = job.origin()
    with (
        atomic_write(job.target) as temporary,
        pq.ParquetWriter(
            temporary, SCHEMA, compression="zstd", use_dictionary=["labels.list.element"]
        ) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch, row_group_size=len(batch))
        writer.add_key_value_metadata({METADATA_KEY: msgspec.json.encode(origin)})
    return total


def _label_batches(job: LabelJob, total: Tally) -> Iterator[pa.RecordBatch]:
    """Yield rows of labels, and add their counts to `total`."""
    labeller = get_labeller(job.rule, job.vocabulary)
    is_single = job.target is not None
    captions = read_captions(job.source, job.caption, total.field_counts, is_single=is_single)
    for batch in captions:
        labels, tally = labeller(batch.captions)
        tally.repaired += batch.num_replaced
        total.add(tally)
        if len(labels):
            yield pa.RecordBatch.from_arrays([batch.keys.fill_null(""), labels], schema=SCHEMA)


def count_file_labels(files: Iterable[Path], rule: str, caption: str | None = None) -> Vocabulary:
    """Count the labels of files of captions, one after the other; ValueError or OSError for one that cannot be read."""
    total = Tally()
    for file in files:
        total.add(run_job(LabelJob(file, rule, caption)))
    total.field_counts.require(parse_caption_choice(caption))
    return vocabulary_of_tally(get_rule(rule), total)


def read_label_origin(target: Path) -> LabelOrigin | None:
    """Return the inputs of a file of labels; None if the file does not exist or is of another kind."""
    try:
        metadata = pq.read_metadata(require_regular_file(target)).metadata
        return msgspec.json.decode(metadata[METADATA_KEY], type=LabelOrigin)
    except (OSError, ValueError, TypeError, KeyError, msgspec.DecodeError):
        return None


def is_labelled(job: LabelJob) -> bool:
    """Return whether the file of labels of a job exists; ValueError for a file of anything else under its name."""
    assert job.target is not None
    if not job.target.exists():
        return False
    if read_label_origin(job.target) != job.origin():
        raise ValueError(
            f"{job.target} holds no labels of {job.source} by this vocabulary and --caption: choose another --out"
        )
    return True


@dataclass(frozen=True, slots=True)
class StoredLabels:
    """Columns of each caption, in the order of the shards and of their captions."""

    folder: Path
    columns: npt.NDArray[np.uint32]  # columns of all captions, concatenated
    # [captions + 1]: caption i has columns[offsets[i] : offsets[i + 1]].
    offsets: npt.NDArray[np.int64]

    def select(self, rows: Sequence[int], num_captions: int) -> list[list[int]]:
        """Return the columns of the given rows; ValueError unless the files hold labels of `num_captions` captions."""
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
        if not is_labelled(LabelJob(shard.path, rule, caption, vocabulary, path)):
            command = f"{PROGRAM} label SHARDS --vocabulary {vocabulary} --out {folder}"
            raise ValueError(f"{path} is not there; create it with: {command}")
        paths.append(path)
    return paths


def load_stored_labels(
    folder: Path, shards: Sequence[Path], vocabulary: str, caption: str | None
) -> StoredLabels:
    """Read the labels of shards; ValueError as `find_label_files`."""
    columns = [np.zeros(0, np.uint32)]
    counts = [np.zeros(1, np.int64)]
    for path in find_label_files(folder, shards, vocabulary, caption):
        labels = pq.read_table(path, columns=["labels"]).column("labels")
        for chunk in labels.chunks:
            columns.append(chunk.flatten().to_numpy())
            counts.append(chunk.value_lengths().to_numpy())
    offsets = np.concatenate(counts).cumsum()
    return StoredLabels(folder, np.concatenate(columns), offsets)
