"""Input files of the labelling, and the file of each one's labels."""

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
    name: str  # path below the common folder of all inputs, with `/`

    @property
    def labels_name(self) -> str:
        """Path of the file of labels, below the folder for labels."""
        return f"{self.name[: len(self.name) - len(suffix_of(self.path))]}.parquet"


def find_caption_files(inputs: Iterable[str], out: Path | None = None) -> list[Shard]:
    """Return the files of names, globs and folders, each once, sorted; ValueError for an input without files.

    If a folder contains `out`, the files in `out` are excluded: they hold labels.
    """
    paths = {path.absolute() for each in inputs for path in _files(each, out)}
    if not paths:
        raise ValueError("no input given: name parquet, csv, tsv, jsonl, txt or tar files, globs or folders")
    root = Path(commonpath([path.parent for path in paths]))
    return sorted((Shard(path, path.relative_to(root).as_posix()) for path in paths), key=lambda shard: shard.name)


def select_part(shards: Sequence[Shard], part: str) -> list[Shard]:
    """Return part "k/n" of the shards, k from 1 to n: every n-th shard."""
    match = re.fullmatch(r"(\d+)/(\d+)", part)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"--shards {part!r}: expected k/n with k from 1 to n")
    return list(shards[int(match[1]) - 1 :: int(match[2])])


def digest_file(path: Path) -> str:
    """Return a hash of a file's size and of 64 KiB at its beginning, middle and end.

    An edit outside these that keeps the size is not detected.
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
        raise ValueError(f"{name}: no file of captions found (suffixes that are read: {', '.join(READERS)})")
    return found


def _is_captions(path: Path) -> bool:
    return path.is_file() and suffix_of(path) in READERS and not path.name.startswith(".")
