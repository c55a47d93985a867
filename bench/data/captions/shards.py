"""Which files are labelled, and where each one's labels go."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from hashlib import sha256
from os.path import commonpath
from pathlib import Path

from bench.data.captions.captions import READERS, suffix_of

SAMPLE = 2**16  # bytes


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of captions."""

    path: Path
    name: str  # below the folder that all inputs share, with `/`

    @property
    def labels_name(self) -> str:
        """Where its labels lie below the folder for labels."""
        return f"{self.name[: len(self.name) - len(suffix_of(self.path))]}.parquet"


def shards_of(inputs: Iterable[str], out: Path | None = None) -> list[Shard]:
    """Return the files that names, globs and folders stand for, each once, sorted; ValueError where one has none.

    Of a folder that holds `out`, what lies there is left out: labels are no captions.
    """
    paths = {path.absolute() for each in inputs for path in _files(each, out)}
    if not paths:
        raise ValueError("name the files to label: parquet, csv, tsv, jsonl, txt or tar, globs or folders")
    root = Path(commonpath([path.parent for path in paths]))
    return sorted((Shard(path, path.relative_to(root).as_posix()) for path in paths), key=lambda shard: shard.name)


def part_of(shards: Sequence[Shard], part: str) -> list[Shard]:
    """Return part "k/n" of the shards, k from 1 to n: every n-th."""
    match = re.fullmatch(r"(\d+)/(\d+)", part)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"--shards is k/n with k from 1 to n, got {part!r}")
    return list(shards[int(match[1]) - 1 :: int(match[2])])


def digest_of(path: Path) -> str:
    """Return a hash of a file's size and of its beginning, middle and end: what changes when a file is replaced.

    An edit that keeps the size and lies between these three is not seen.
    """
    size = path.stat().st_size
    digest = sha256(str(size).encode())
    with path.open("rb") as file:
        for place in (0, (size - SAMPLE) // 2, size - SAMPLE):
            file.seek(max(0, place))
            digest.update(file.read(SAMPLE))
    return digest.hexdigest()[:16]


def _files(name: str, out: Path | None) -> list[Path]:
    if Path(name).is_file():
        return [Path(name)]
    if Path(name).is_dir():
        found = [path for path in Path(name).absolute().rglob("*") if _is_captions(path)]
        if out is not None and Path(name).absolute() in out.absolute().parents:
            found = [path for path in found if out.absolute() not in path.parents]
    elif has_magic(name):
        found = [path for path in map(Path, glob(name, recursive=True)) if path.is_file()]  # noqa: PTH207 - a person's
    else:
        raise ValueError(f"no file, folder or glob {name!r}")
    if not found:
        raise ValueError(f"{name}: no file of captions there (suffixes that are read: {', '.join(READERS)})")
    return found


def _is_captions(path: Path) -> bool:
    return path.is_file() and suffix_of(path) in READERS and not path.name.startswith(".")
