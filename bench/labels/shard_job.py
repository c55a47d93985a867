"""One shard to its file of labels, batch by batch, written atomically."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from bench.data.captions.batches import CaptionBatch
from bench.data.captions.files import digest_file, read_captions
from bench.environment.files import atomic_write
from bench.labels.labeller import LISTS, Tally, labeller
from bench.labels.vocabulary import read_vocabulary

FORMAT = 1  # of the labels; raise it when the same captions give another file
SCHEMA = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("labels", LISTS, nullable=False)])
META = b"catlip-bench.labels"


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Inputs of a file of labels: files of equal origins are equal."""

    format: int = FORMAT
    input_digest: str
    rule: str
    vocabulary_digest: str
    column: str | None


class LabelFileInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Metadata of a file of labels."""

    origin: Origin
    captions: int
    empty: int
    labels: int
    flaws: dict[str, int]


@dataclass(frozen=True, slots=True)
class LabelJob:
    """One shard to label, or to count if there is no vocabulary."""

    source: Path
    rule: str
    column: str | None
    vocabulary: str | None = None
    target: Path | None = None

    @property
    def size(self) -> int:
        """Bytes of the input."""
        return self.source.stat().st_size

    def origin(self) -> Origin:
        digest = read_vocabulary(self.vocabulary).digest if self.vocabulary else ""
        return Origin(
            input_digest=digest_file(self.source), rule=self.rule, vocabulary_digest=digest, column=self.column
        )


Labelled = tuple[CaptionBatch, pa.ListArray, Tally]
LabelFunction = Callable[[LabelJob, Iterator[CaptionBatch]], Iterator[Labelled]]
Report = Callable[[int, int], None]  # captions and bytes of the input since the last call


def label_serially(job: LabelJob, batches: Iterator[CaptionBatch]) -> Iterator[Labelled]:
    """Label batches in this process."""
    label = labeller(job.rule, job.vocabulary)
    return ((batch, *label(batch)) for batch in batches)


def run_job(
    job: LabelJob, report: Report = lambda _captions, _bytes: None, label: LabelFunction = label_serially
) -> Tally:
    """Label a shard, or count its labels; ValueError says why it cannot be read, and no output remains."""
    total = Tally()
    rows = _add_up(label(job, read_captions(job.source, job.column)), total, report)
    if job.target is None:
        deque(rows, maxlen=0)
        return total
    origin = job.origin()
    with (
        atomic_write(job.target) as temporary,
        pq.ParquetWriter(temporary, SCHEMA, compression="zstd", use_dictionary=["labels.list.element"]) as writer,
    ):
        for batch in rows:
            writer.write_batch(batch, row_group_size=len(batch))
        flaws = dict(sorted(total.flaws.items()))
        found = LabelFileInfo(
            origin=origin, captions=total.captions, empty=total.empty, labels=total.labels, flaws=flaws
        )
        writer.add_key_value_metadata({META: msgspec.json.encode(found)})
    return total


def _add_up(labelled: Iterator[Labelled], total: Tally, report: Report) -> Iterator[pa.RecordBatch]:
    """Yield rows of labels; add their tallies to `total` and report the progress."""
    reported = 0
    for batch, labels, tally in labelled:
        if len(labels):
            yield pa.RecordBatch.from_arrays([batch.keys.fill_null(""), labels], schema=SCHEMA)
        total.add(tally)
        report(tally.captions, batch.bytes_read - reported)
        reported = batch.bytes_read


def read_label_file_info(target: Path) -> LabelFileInfo | None:
    """Return the metadata of a file of labels; None if there is no complete one."""
    try:
        metadata = pq.read_metadata(target).metadata
        return msgspec.json.decode(metadata[META], type=LabelFileInfo)
    except (OSError, ValueError, TypeError, KeyError, msgspec.DecodeError):
        return None


def tally_of(made: LabelFileInfo) -> Tally:
    """Return a file's tally, without the counts of each label."""
    return Tally(made.captions, made.empty, made.labels, Counter(made.flaws))
