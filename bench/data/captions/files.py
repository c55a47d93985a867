"""Files of captions of any format: finding them, and reading them as batches in the file's order.

Memory does not grow with a file's size.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from os.path import commonpath
from pathlib import Path

import pyarrow as pa

from bench.data.captions.batches import CaptionBatch, collect_batches
from bench.data.captions.choice import Texts, parse_caption_choice
from bench.data.captions.reader import CaptionFieldCounts, CaptionReader
from bench.data.columns import KEY_COLUMNS, find_column
from bench.data.parquet_files import MAX_DECODED_BYTES, MAX_EXPANSION, ParquetTable
from bench.data.paths import UNREADABLE, compound_suffix, iterate_files
from bench.data.tables import open_table, read_first_rows
from bench.data.tar_samples import decode_texts, iterate_samples
from bench.data.text_tables import TEXT_SUFFIXES, open_binary
from bench.environment.files import prefix_errors
from bench.experiment.config import look_up

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
GZIP_TEXT_SUFFIXES = tuple(f"{suffix}.gz" for suffix in TEXT_SUFFIXES)
SUFFIXES = (".parquet", *TEXT_SUFFIXES, *GZIP_TEXT_SUFFIXES, *TAR_SUFFIXES)
LABELS_REMEDY = "train computes labels of drawn texts while loading, leave out --labels"


def read_captions(
    path: Path,
    caption: str | None,
    counts: CaptionFieldCounts | None = None,
    *,
    is_single: bool = False,
) -> Iterator[CaptionBatch]:
    """Read the texts of a file by a choice of captions; count them in `counts`.

    With `is_single`, a row with several texts that may be drawn is an error. ValueError names the file and the reason
    why it cannot be read, also if that shows late.
    """
    reader = CaptionReader(parse_caption_choice(caption), counts)
    with prefix_errors(path, UNREADABLE):
        size = path.stat().st_size
        max_bytes = MAX_DECODED_BYTES + MAX_EXPANSION * size
        if size == 0:
            raise ValueError("the file is empty")
        suffix = compound_suffix(path)
        look_up(suffix, dict.fromkeys(SUFFIXES), "format of captions with the suffix")
        read = _read_tar if suffix in TAR_SUFFIXES else _read_table
        batches = read(path, reader, is_single=is_single)
        num_bytes = 0
        for batch in batches:
            num_bytes += batch.keys.nbytes + batch.captions.nbytes
            if num_bytes > max_bytes:
                raise ValueError(
                    f"{size:,} bytes hold over {num_bytes:,} bytes of captions, as no real captions do"
                )
            yield batch


def _read_tar(path: Path, reader: CaptionReader, *, is_single: bool) -> Iterator[CaptionBatch]:
    with open_binary(path) as file:
        samples = iterate_samples(file)
        rows = ((key, reader.read(decode_texts(members))) for key, members in samples)
        selected = _select(rows, reader, is_single=is_single)
        yield from collect_batches(selected)


def _read_table(path: Path, reader: CaptionReader, *, is_single: bool) -> Iterator[CaptionBatch]:
    """Read the captions and the keys; without a key column the key is the row's number, from 0."""
    with open_table(path) as table:
        first_rows = read_first_rows(path, table.texts)
        columns = reader.find_columns(table.columns, table.texts, first_rows)
        key = find_column(table.columns, KEY_COLUMNS)
        names = list(columns)
        if key is not None and key not in columns:
            names.append(key)
        if isinstance(table, ParquetTable) and reader.column and table.has_text(reader.column):
            yield from _read_text_column(table, names, key, reader)
        else:
            rows = _iterate_texts(table.read_rows(names), key, reader)
            selected = _select(rows, reader, is_single=is_single)
            yield from collect_batches(selected)


def _read_text_column(
    table: ParquetTable, names: list[str], key: str | None, reader: CaptionReader
) -> Iterator[CaptionBatch]:
    """Read a column with one caption in each row, without making its texts Python objects."""
    num_read = 0
    for batch in table.read_batches(names):
        keys = pa.array(range(num_read, num_read + len(batch)))
        if key is not None:
            keys = batch[key].combine_chunks()
        captions = batch[reader.column].combine_chunks().cast(pa.binary())
        reader.counts.count(reader.column, len(captions) - captions.null_count)
        yield CaptionBatch(keys.cast(pa.string()), captions)
        num_read += len(batch)


def _iterate_texts(
    rows: Iterable[Mapping[str, object]], key: str | None, reader: CaptionReader
) -> Iterator[tuple[str, Texts]]:
    for number, row in enumerate(rows):
        name = number if key is None else row.get(key, number)
        yield str(name), reader.read(row)


def _select(
    rows: Iterable[tuple[str, Texts]], reader: CaptionReader, *, is_single: bool
) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the keys and the selected texts of rows; ValueError for several texts where one is selected."""
    for key, texts in rows:
        if not is_single:
            yield key, list(chain.from_iterable(texts))
            continue
        options = [text for text, _ in reader.choice.options(texts)]
        if len(options) > 1:
            raise ValueError(
                f"{key} has {len(options)} texts to draw from, and stored labels are of one: {LABELS_REMEDY}"
            )
        yield key, options


@dataclass(frozen=True, slots=True)
class CaptionFile:
    """A file of captions, an input of the labelling."""

    path: Path
    name: str  # path below the common folder of all inputs, with `/`

    @property
    def labels_name(self) -> str:
        """Path of the file of labels, below the folder for labels."""
        suffix = compound_suffix(self.path)
        stem = self.name[: len(self.name) - len(suffix)]
        return f"{stem}.parquet"


def find_caption_files(inputs: Iterable[str], out: Path | None = None) -> list[CaptionFile]:
    """Return the files of names, globs and folders, each once, sorted; ValueError for an input without files.

    If a folder contains `out`, the files in `out` are excluded: they hold labels.
    """
    paths = set[Path]()
    for name in inputs:
        paths.update(_find_paths(name, out))
    if not paths:
        raise ValueError(f"no input given: name files ({', '.join(SUFFIXES)}), globs or folders")
    root = Path(commonpath([path.parent for path in paths]))
    files = [CaptionFile(path, path.relative_to(root).as_posix()) for path in paths]
    return sorted(files, key=lambda file: file.name)


def _find_paths(name: str, out: Path | None) -> list[Path]:
    """Return the files of one input."""
    folder = Path(name).absolute()
    suffixes = SUFFIXES if folder.is_dir() else ("",)
    paths = list(iterate_files(name, suffixes))
    if out is not None:
        labels_folder = out.absolute()
        if folder in labels_folder.parents:
            paths = [path for path in paths if labels_folder not in path.parents]
    if not paths:
        raise ValueError(
            f"{name}: no file of captions found (suffixes that are read: {', '.join(SUFFIXES)})"
        )
    return paths
