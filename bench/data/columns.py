"""Columns of tables: the names known for captions, keys and images, and the types of texts and bytes."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa

from bench.experiment.config import join_first_names_shortened, look_up

CAPTION_COLUMNS = (
    "caption",
    "captions",
    "text",
    "texts",
    "txt",
    "alt",
    "alt_text",
    "title",
    "description",
    "conversations",
    "comment",
    "prompt",
)
KEY_COLUMNS = ("key", "__key__", "uid", "sample_id")
TEXT_COLUMNS = {*CAPTION_COLUMNS, *KEY_COLUMNS}
IMAGE_COLUMNS = (  # of encoded images
    "image",
    "img",
    "jpg",
    "jpeg",
    "png",
    "webp",
    "gif",
    "npy",
    "image_bytes",
    "bytes",
    "content",
)
PATH_COLUMNS = (  # of image files
    "image",
    "image_path",
    "image_file",
    "image_name",
    "img",
    "file_name",
    "filename",
    "filepath",
    "file_path",
    "path",
    "file",
)
CAPTION_SUFFIXES = ("txt", "json", *CAPTION_COLUMNS)
IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif")
IMAGE_ENDINGS = tuple(f".{suffix}" for suffix in IMAGE_SUFFIXES)
EMBEDDING_SUFFIXES = ("npy",)
SampleValues = Mapping[str, object]  # of a sample by column, or by suffix of its tar members

BINARY_TYPES = (pa.binary(), pa.large_binary(), pa.binary_view())
TEXT_TYPES = (pa.string(), pa.large_string(), pa.string_view(), *BINARY_TYPES)  # bytes may be text


def find_first_known_column(column_names: Iterable[str], known_names: Sequence[str]) -> str | None:
    """Return the column that has the first of the known names, in any case; None if none has one."""
    name_by_lower = {name.lower(): name for name in column_names}
    for name in known_names:
        if name in name_by_lower:
            return name_by_lower[name]
    return None


def part_after_last_dot(name: str) -> str:
    """Return the last part of a compound suffix or of a field in an object."""
    return name.rpartition(".")[2]


def find_columns_of_caption_fields(column_names: Sequence[str], fields: Iterable[str]) -> list[str]:
    """Return the columns that hold the fields of a choice of captions.

    A field "meta.alt" that is no column is in the column "meta". ValueError lists the columns if one is missing.
    """
    columns_of_fields = dict[str, None]()
    for field in fields:
        column = field
        while column not in column_names and "." in column:
            column, _, _ = column.rpartition(".")
        look_up(column, dict.fromkeys(column_names), "column")
        columns_of_fields[column] = None
    return list(columns_of_fields)


def require_distinct_columns(column_names: Sequence[str]) -> list[str]:
    """Return the names of columns; ValueError if two columns have the same one."""
    for name, count in Counter(column_names).most_common(1):
        if count > 1:
            raise ValueError(f"{count} columns are named {name!r}: rename all but one")
    return list(column_names)


def text_columns(schema: pa.Schema) -> list[str]:
    """Return the columns of texts or lists of texts."""
    names = []
    for field in schema:
        kind = getattr(field.type, "value_type", field.type)  # of lists and dictionaries
        if kind in TEXT_TYPES and kind not in BINARY_TYPES:
            names.append(field.name)
    return names


def iterate_rows_as_dicts(batch: pa.RecordBatch | pa.Table) -> Iterator[dict[str, object]]:
    """Yield each row of a batch as a dict of its values by column.

    Bytes of texts that are not UTF-8 become U+FFFD.
    """
    names = batch.schema.names
    columns = map(_to_python_values_with_bytes_as_text, batch.columns)
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))


def _to_python_values_with_bytes_as_text(column: pa.Array | pa.ChunkedArray) -> list[object]:
    """Return the values of a column, bytes as texts."""
    if column.type not in TEXT_TYPES:
        return list[object](column.to_pylist())
    contents = column.cast(pa.large_binary()).to_pylist()
    return [None if content is None else content.decode("utf-8", "replace") for content in contents]


def image_byte_columns(schema: pa.Schema) -> list[str]:
    """Return the columns of bytes, or of structs with `bytes`, that may be images."""
    names = []
    for field in schema:
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            if kind.field("bytes").type in BINARY_TYPES:
                names.append(field.name)
        elif kind in BINARY_TYPES and field.name.lower() not in TEXT_COLUMNS:
            names.append(field.name)
    return names


def find_image_byte_column(schema: pa.Schema, requested_column: str | None) -> str:
    """Return the named column of images, else the only one, or one of a known name; else ValueError."""
    columns = image_byte_columns(schema)
    if requested_column is not None:
        look_up(requested_column, dict.fromkeys(columns), "column of images")
        return requested_column
    known = find_first_known_column(columns, IMAGE_COLUMNS)
    if known is not None:
        return known
    if len(columns) != 1:
        raise ValueError(
            f"no column named image holds bytes (there are {join_first_names_shortened(schema.names)}): name one with "
            "--image-column"
        )
    return columns[0]
