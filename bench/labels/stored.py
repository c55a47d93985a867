"""Labels stored in files, for training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from bench.console.console import PROGRAM
from bench.data.captions.files import digest_file, find_caption_files
from bench.labels.shard_job import read_label_file_info
from bench.labels.vocabulary import read_vocabulary


@dataclass(frozen=True, slots=True)
class StoredLabels:
    """Columns of each caption, in the order of the shards and of their captions."""

    folder: Path
    columns: npt.NDArray[np.uint32]  # those of all captions, concatenated
    ends: npt.NDArray[np.int64]  # offsets [captions + 1] into `columns`

    def lists(self, rows: Sequence[int], captions: int) -> list[list[int]]:
        """Return the columns of the given rows; ValueError unless the files hold labels of `captions` captions."""
        if len(self.ends) - 1 != captions:
            raise ValueError(f"{self.folder} has labels of {len(self.ends) - 1} captions, there are {captions}")
        return [self.columns[self.ends[row] : self.ends[row + 1]].tolist() for row in rows]


def stored_labels(folder: Path, shards: Sequence[Path], vocabulary: str) -> StoredLabels:
    """Read the labels of shards; ValueError if they were computed from other shards or with another vocabulary."""
    columns, counts = [np.zeros(0, np.uint32)], [np.zeros(1, np.int64)]
    wanted = read_vocabulary(vocabulary)
    for shard in find_caption_files(map(str, shards)):
        path = folder / shard.labels_name
        found = read_label_file_info(path)
        if found is None:
            command = f"{PROGRAM} label {shards[0].parent} --vocabulary {vocabulary} --out {folder}"
            raise ValueError(f"{path} is no complete file of labels; create it with: {command}")
        if (found.origin.rule, found.origin.vocabulary_digest) != (wanted.rule, wanted.digest):
            raise ValueError(f"{path} was created with a vocabulary other than {vocabulary}: label the shards again")
        if found.origin.input_digest != digest_file(shard.path):
            raise ValueError(f"{path} was not created from {shard.path}: label the shards again")
        for chunk in pq.read_table(path, columns=["labels"]).column("labels").chunks:
            columns.append(chunk.flatten().to_numpy())
            counts.append(chunk.value_lengths().to_numpy())
    return StoredLabels(folder, np.concatenate(columns), np.concatenate(counts).cumsum())
