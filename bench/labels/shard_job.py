"""One shard to its file of labels, batch by batch: written whole or not at all, and not written again."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from bench.data.captions.batches import Batch
from bench.data.captions.captions import read_captions
from bench.data.captions.shards import digest_of
from bench.environment.files import written_whole
from bench.labels.labeller import LISTS, Tally, labeller
from bench.labels.vocabulary import read_vocabulary

FORMAT = 1  # of the labels; raise it when the same captions give another file
SCHEMA = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("labels", LISTS, nullable=False)])
META = b"catlip-bench.labels"

Labelled = tuple[Batch, pa.ListArray, Tally]
Label = Callable[[Iterator[Batch]], Iterator[Labelled]]
Report = Callable[[int, int], None]  # captions and bytes of the input, since the last report


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What labels were made of: labels of equal origins are equal."""

    format: int = FORMAT
    input_digest: str
    rule: str
    vocabulary_digest: str
    column: str | None


class Made(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file of labels says of itself."""

    origin: Origin
    captions: int
    empty: int
    labels: int
    flaws: dict[str, int]


@dataclass(frozen=True, slots=True)
class Job:
    """One shard to label, or to count where there is no vocabulary."""

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
        """Return what its labels are made of."""
        digest = read_vocabulary(self.vocabulary).digest if self.vocabulary else ""
        return Origin(input_digest=digest_of(self.source), rule=self.rule, vocabulary_digest=digest, column=self.column)


def run_job(job: Job, label: Label, report: Report) -> Tally:
    """Label a shard, or count its labels; ValueError says why it cannot be read, and leaves nothing."""
    total = Tally()
    rows = _added(label(read_captions(job.source, job.column)), total, report)
    if job.target is None:
        deque(rows, maxlen=0)
        return total
    origin = job.origin()
    with written_whole(job.target) as temporary, _writer(temporary) as writer:
        for batch in rows:
            writer.write_batch(batch, row_group_size=len(batch))
        writer.add_key_value_metadata({META: msgspec.json.encode(_made(origin, total))})
    return total


def _added(labelled: Iterator[Labelled], total: Tally, report: Report) -> Iterator[pa.RecordBatch]:
    """Yield rows of labels; add up and report as they come."""
    reported = 0
    for batch, labels, tally in labelled:
        if len(labels):
            yield pa.RecordBatch.from_arrays([batch.keys.fill_null(""), labels], schema=SCHEMA)
        total.add(tally)
        report(tally.captions, batch.bytes_read - reported)
        reported = batch.bytes_read


def _made(origin: Origin, total: Tally) -> Made:
    flaws = dict(sorted(total.flaws.items()))
    return Made(origin=origin, captions=total.captions, empty=total.empty, labels=total.labels, flaws=flaws)


def made(target: Path) -> Made | None:
    """Return what a file of labels says of itself; None where it is not there or no whole file of labels."""
    try:
        metadata = pq.read_metadata(target).metadata
        return msgspec.json.decode(metadata[META], type=Made)
    except (OSError, ValueError, TypeError, KeyError, msgspec.DecodeError):
        return None


def tally_of(made: Made) -> Tally:
    """Return what was labelled, without the counts of each label."""
    return Tally(made.captions, made.empty, made.labels, Counter(made.flaws))


def one_by_one(job: Job) -> Label:
    """Return the way to label in this process."""
    label = labeller(job.rule, job.vocabulary)
    return lambda batches: ((batch, *label(batch)) for batch in batches)


def _writer(path: Path) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, SCHEMA, compression="zstd", use_dictionary=["labels.list.element"])
