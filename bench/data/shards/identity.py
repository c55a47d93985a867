"""Whether files are still those that they were."""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from bench.config import Experiment
from bench.data.captions.shards import digest_of
from bench.data.shards.shards import shard_paths


def files_digest(files: Iterable[Path]) -> str:
    """Return what changes when one of the files is replaced, or when there are others."""
    return sha256("".join(map(digest_of, files)).encode()).hexdigest()[:16]


def data_digest(experiment: Experiment) -> str:
    """Return what changes when an experiment's images, its list of keys or its teacher's file are replaced."""
    named = [Path(name) for name in (experiment.subset, experiment.teacher) if name is not None]
    return files_digest([*shard_paths(experiment.data), *(path for path in named if path.is_file())])
