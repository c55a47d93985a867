"""Digests that identify the files of an experiment."""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from bench.config import Experiment
from bench.data.captions.shards import digest_file
from bench.data.shards.shards import find_shards


def files_digest(files: Iterable[Path]) -> str:
    """Return a digest that changes if a file is replaced, added or removed."""
    return sha256("".join(map(digest_file, files)).encode()).hexdigest()[:16]


def data_digest(experiment: Experiment) -> str:
    """Return a digest of an experiment's shards, its list of keys and its teacher's file."""
    named = [Path(name) for name in (experiment.subset, experiment.teacher) if name is not None]
    return files_digest([*find_shards(experiment.data), *(path for path in named if path.is_file())])
