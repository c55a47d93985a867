"""Files of captions of any format: finding them, and reading them as batches in the file's order.

Memory does not grow with a file's size.
"""

import csv
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from os.path import commonpath
from pathlib import Path
from typing import Literal

from bench.data.captions import batches
from bench.data.captions.batches import CaptionBatch
from bench.data.captions.choice import CaptionChoice, Texts, parse_caption_choice
from bench.data.captions.fields import CaptionFieldCounts, CaptionFieldReader
from bench.data.captions.parquet import MAX_DECODED_BYTES, MAX_EXPANSION, read_parquet
from bench.data.captions.tars import TarCaptionReader
from bench.data.paths import compound_suffix, expand_path_or_glob
from bench.environment.files import prefix_errors
from bench.experiment.config import choose

PARSERS: dict[str, batches.Parse] = {
    ".csv": batches.parse_csv,
    ".tsv": partial(batches.parse_csv, delimiter="\t"),
    ".jsonl": batches.parse_json_lines,
    ".ndjson": batches.parse_json_lines,
    ".txt": batches.parse_plain_text,
}
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
SUFFIXES = (".parquet", *(name + gz for gz in ("", ".gz") for name in PARSERS), *TAR_SUFFIXES)
# Of a row's texts: all, the only one, or one drawn by the row's number.
Selection = Literal["all", "one", "drawn"]
LABELS_REMEDY = "train computes labels of drawn texts while loading, leave out --labels"
UNREADABLE = (ValueError, OSError, EOFError, tarfile.TarError, zlib.error, csv.Error)


def read_captions(
    path: Path,
    caption: str | None,
    selection: Selection = "all",
    found: CaptionFieldCounts | None = None,
) -> Iterator[CaptionBatch]:
    """Read the selected texts of a file by a choice of captions; count them in `found`.

    ValueError names the file and the reason why it cannot be read, also if that shows late.
    """
    choice = parse_caption_choice(caption)
    with prefix_errors(path, UNREADABLE):
        size = path.stat().st_size
        if size == 0:
            raise ValueError("the file is empty")
        suffix = compound_suffix(path)
        choose(suffix, dict.fromkeys(SUFFIXES), "format of captions with the suffix")
        tar_reader = TarCaptionReader(choice, found)
        reader = tar_reader if suffix in TAR_SUFFIXES else CaptionFieldReader(choice, found)

        def read(key: str, values: Mapping[str, object], row: int) -> tuple[Sequence[str], str]:
            texts, flaw = reader.read(values)
            return _select(choice, selection, texts, key, row), flaw

        if suffix == ".parquet":
            rows = read_parquet(path, reader, read)
        else:
            parse = (
                tar_reader.parse if suffix in TAR_SUFFIXES else PARSERS[suffix.removesuffix(".gz")]
            )
            rows = batches.read_rows(path, choice.names, read, parse)
        decoded = 0
        for batch in rows:
            decoded += batch.keys.nbytes + batch.captions.nbytes
            if decoded > MAX_DECODED_BYTES + MAX_EXPANSION * size:
                raise ValueError(
                    f"{size:,} bytes hold over {decoded:,} bytes of captions, as no real captions do"
                )
            yield batch
        reader.require_any()


def _select(
    choice: CaptionChoice, selection: Selection, texts: Texts, key: str, row: int
) -> list[str]:
    """Return the selected texts of a row; ValueError for several where one is selected."""
    if selection == "all":
        return [*chain.from_iterable(texts)]
    if selection == "drawn":
        return [choice.draw(texts, 0, row, 0)] if any(texts) else []
    options = choice.options(texts)
    if len(options) > 1:
        raise ValueError(
            f"{key} has {len(options)} texts to draw from, and stored labels are of one: {LABELS_REMEDY}"
        )
    return [text for text, _ in options]


@dataclass(frozen=True, slots=True)
class CaptionFile:
    """A file of captions, an input of the labelling."""

    path: Path
    name: str  # path below the common folder of all inputs, with `/`

    @property
    def labels_name(self) -> str:
        """Path of the file of labels, below the folder for labels."""
        return f"{self.name[: len(self.name) - len(compound_suffix(self.path))]}.parquet"


def find_caption_files(inputs: Iterable[str], out: Path | None = None) -> list[CaptionFile]:
    """Return the files of names, globs and folders, each once, sorted; ValueError for an input without files.

    If a folder contains `out`, the files in `out` are excluded: they hold labels.
    """
    paths = {path for name in inputs for path in _find_paths(name, out)}
    if not paths:
        raise ValueError(
            "no input given: name parquet, csv, tsv, jsonl, txt or tar files, globs or folders"
        )
    root = Path(commonpath([path.parent for path in paths]))
    return sorted(
        (CaptionFile(path, path.relative_to(root).as_posix()) for path in paths),
        key=lambda file: file.name,
    )


def _find_paths(name: str, out: Path | None) -> list[Path]:
    """Return the files of one input."""
    paths = expand_path_or_glob(name)
    folder = Path(name).absolute()
    if folder.is_dir():
        paths = [path for path in paths if compound_suffix(path) in SUFFIXES]
        if out is not None and folder in out.absolute().parents:
            paths = [path for path in paths if out.absolute() not in path.parents]
    if not paths:
        raise ValueError(
            f"{name}: no file of captions found (suffixes that are read: {', '.join(SUFFIXES)})"
        )
    return paths


def select_part(files: Sequence[CaptionFile], part: str) -> list[CaptionFile]:
    """Return part "k/n" of the files, k from 1 to n: every n-th file."""
    match = re.fullmatch(r"([1-9][0-9]{0,9})/([1-9][0-9]{0,9})", part)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"--shards {part!r}: expected k/n with k from 1 to n")
    return list(files[int(match[1]) - 1 :: int(match[2])])
