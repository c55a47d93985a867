"""Labels that were stored, for training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.data.vocabulary import read_vocabulary
from bench.labels.shard_job import made
from bench.labels.shards import digest_of, shards_of


@dataclass(frozen=True, slots=True)
class StoredLabels:
    """Lists of columns, a list a caption, in the order of the shards and of the captions in each."""

    folder: Path
    columns: pa.ChunkedArray

    def lists(self, captions: int) -> list[list[int]]:
        """Return the lists of so many captions; ValueError if there are more or fewer."""
        if len(self.columns) != captions:
            raise ValueError(f"{self.folder} has labels of {len(self.columns)} captions, there are {captions}")
        rows: list[list[int]] = self.columns.to_pylist()
        return rows


def stored_labels(folder: Path, shards: Sequence[Path], vocabulary: str) -> StoredLabels:
    """Read the labels of shards; ValueError if they were made of other shards or by another vocabulary."""
    chunks = []
    wanted = read_vocabulary(vocabulary)
    for shard in shards_of(map(str, shards)):
        path = folder / shard.labels_name
        found = made(path)
        if found is None:
            raise ValueError(f"{path} is no whole file of labels; make it with: {_command(folder, shards, vocabulary)}")
        if (found.origin.rule, found.origin.vocabulary_digest) != (wanted.rule, wanted.digest):
            raise ValueError(f"{path} was made with another vocabulary than {vocabulary}")
        if found.origin.input_digest != digest_of(shard.path):
            raise ValueError(f"{path} was not made of {shard.path}")
        chunks += pq.read_table(path, columns=["labels"]).column("labels").chunks
    return StoredLabels(folder, pa.chunked_array(chunks))


def _command(folder: Path, shards: Sequence[Path], vocabulary: str) -> str:
    return f"python -m bench label {shards[0].parent} --vocabulary {vocabulary} --out {folder}"
