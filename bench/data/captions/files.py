"""Files of captions of any format: finding them, and reading them as batches in the file's order.

Memory does not grow with a file's size.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from bench.data.captions.batches import collect_caption_batches
from bench.data.captions.choice import parse_caption_choice
from bench.data.captions.reader import CaptionFieldCounts, CaptionReader
from bench.data.parquet_files import MAX_DECODED_BYTES, MAX_EXPANSION, SequentialParquetReader
from bench.data.paths import UNREADABLE, iterate_files
from bench.data.tables import open_table, read_first_rows
from bench.data.tar_samples import decode_texts_and_json_objects, index_tar_samples
from bench.data.text_tables import TEXT_SUFFIXES
from bench.environment.files import prefix_errors
from bench.experiment.config import look_up

SUFFIXES = (".parquet", ".tar", *TEXT_SUFFIXES)


def read_caption_batches(
    path: Path, caption_option: str | None, counts: CaptionFieldCounts | None = None
) -> Iterator[pa.BinaryArray]:
    """Read the texts that the option `--caption-fields` chooses from a file; count them in `counts`.

    A row without a caption is null. Bytes of Parquet files are not validated as UTF-8. ValueError names the file and
    the reason why it cannot be read, also if that shows late.
    """
    reader = CaptionReader(parse_caption_choice(caption_option), counts)
    with prefix_errors(path, UNREADABLE):
        size = path.stat().st_size
        max_bytes = MAX_DECODED_BYTES + MAX_EXPANSION * size
        if size == 0:
            raise ValueError("the file is empty")
        suffix = path.suffix.lower()
        look_up(suffix, dict.fromkeys(SUFFIXES), "format of captions with the suffix")
        read = _read_tar_captions if suffix == ".tar" else _read_table_captions
        num_bytes = 0
        for batch in read(path, reader):
            num_bytes += batch.nbytes
            if num_bytes > max_bytes:
                raise ValueError(
                    f"{size:,} bytes hold over {num_bytes:,} bytes of captions, as no real captions do"
                )
            yield batch


def _read_tar_captions(path: Path, reader: CaptionReader) -> Iterator[pa.BinaryArray]:
    with path.open("rb") as file:
        suffixes = reader.suffixes_to_read
        samples = index_tar_samples(file, suffixes)
        values = (decode_texts_and_json_objects(members, suffixes) for _, members in samples)
        texts = map(reader.read, values)
        yield from collect_caption_batches(texts)


def _read_table_captions(path: Path, reader: CaptionReader) -> Iterator[pa.BinaryArray]:
    with open_table(path) as table:
        first_rows = read_first_rows(path, table.text_columns)
        columns = reader.find_needed_columns(table.columns, table.text_columns, first_rows)
        if (
            isinstance(table, SequentialParquetReader)
            and reader.column
            and table.has_one_text_per_row(reader.column)
        ):
            yield from _read_caption_column(table, reader)
        else:
            texts = map(reader.read, table.read_rows(columns))
            yield from collect_caption_batches(texts)


def _read_caption_column(
    table: SequentialParquetReader, reader: CaptionReader
) -> Iterator[pa.BinaryArray]:
    """Read a column with one caption in each row, without making its texts Python objects."""
    for batch in table.read_batches([reader.column]):
        captions = batch[reader.column].combine_chunks().cast(pa.binary())
        reader.counts.add_samples_with_text(reader.column, len(captions) - captions.null_count)
        yield captions


def find_caption_files(path_or_glob: str) -> list[Path]:
    """Return the files of a name, a glob or a folder, sorted; ValueError if there are none, or a compressed one."""
    suffixes = SUFFIXES if Path(path_or_glob).is_dir() else ("",)
    paths = sorted(iterate_files(path_or_glob, (*suffixes, ".gz")))
    for path in paths:
        if path.suffix.lower() == ".gz":
            raise ValueError(f"{path} is compressed: unpack it with gunzip")
    if not paths:
        raise ValueError(
            f"{path_or_glob}: no file of captions found (suffixes that are read: {', '.join(SUFFIXES)})"
        )
    return paths
