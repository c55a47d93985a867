"""Labels that were stored, for training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from bench.console.console import PROGRAM
from bench.data.captions.shards import digest_of, shards_of
from bench.labels.shard_job import made
from bench.labels.vocabulary import read_vocabulary


@dataclass(frozen=True, slots=True)
class StoredLabels:
    """Lists of columns, a list a caption, in the order of the shards and of the captions in each."""

    folder: Path
    columns: npt.NDArray[np.uint32]  # of all captions
    ends: npt.NDArray[np.int64]  # of each caption's columns; the first is 0

    def lists(self, rows: Sequence[int], captions: int) -> list[list[int]]:
        """Return the lists of some of so many captions; ValueError if there are labels of more or fewer."""
        if len(self.ends) - 1 != captions:
            raise ValueError(f"{self.folder} has labels of {len(self.ends) - 1} captions, there are {captions}")
        return [self.columns[self.ends[row] : self.ends[row + 1]].tolist() for row in rows]


def stored_labels(folder: Path, shards: Sequence[Path], vocabulary: str) -> StoredLabels:
    """Read the labels of shards; ValueError if they were made of other shards or by another vocabulary."""
    columns, counts = [np.zeros(0, np.uint32)], [np.zeros(1, np.int64)]
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
        for chunk in pq.read_table(path, columns=["labels"]).column("labels").chunks:
            columns.append(chunk.flatten().to_numpy())
            counts.append(chunk.value_lengths().to_numpy())
    return StoredLabels(folder, np.concatenate(columns), np.concatenate(counts).cumsum())


def _command(folder: Path, shards: Sequence[Path], vocabulary: str) -> str:
    return f"{PROGRAM} label {shards[0].parent} --vocabulary {vocabulary} --out {folder}"
