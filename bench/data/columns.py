"""Columns of tables: the names known for captions, keys and images, and the types of texts and bytes."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import pyarrow as pa

from bench.experiment.config import join_names, look_up

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
)
KEY_COLUMNS = ("key", "__key__", "uid", "sample_id")
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
BINARY_TYPES = (pa.binary(), pa.large_binary(), pa.binary_view())
TEXT_TYPES = (pa.string(), pa.large_string(), pa.string_view(), *BINARY_TYPES)  # bytes may be text


def find_column(names: Iterable[str], known: Sequence[str]) -> str | None:
    """Return the column with the first of the known names, in any case."""
    name_by_lower = {name.lower(): name for name in names}
    for name in known:
        if name in name_by_lower:
            return name_by_lower[name]
    return None


def find_caption_columns(names: Sequence[str], fields: Iterable[str]) -> list[str]:
    """Return the columns that hold the fields of a choice of captions.

    A field "meta.alt" that is no column is in the column "meta". ValueError lists the columns if one is missing.
    """
    columns = {name: name for name in names}
    matches = dict[str, None]()
    for field in fields:
        name = field
        while name not in columns and "." in name:
            name = name.rpartition(".")[0]
        matches[look_up(name, columns, "column")] = None
    return list(matches)


def require_distinct_columns(names: Sequence[str]) -> list[str]:
    """Return the names of columns; ValueError if two columns have the same one."""
    for name, count in Counter(names).most_common(1):
        if count > 1:
            raise ValueError(f"{count} columns are named {name!r}: rename all but one")
    return list(names)


def text_columns(schema: pa.Schema) -> list[str]:
    """Return the columns of texts or lists of texts."""
    names = []
    for field in schema:
        kind = getattr(field.type, "value_type", field.type)  # of lists and dictionaries
        if kind in TEXT_TYPES and kind not in BINARY_TYPES:
            names.append(field.name)
    return names


def iterate_rows(batch: pa.RecordBatch | pa.Table) -> Iterator[dict[str, object]]:
    """Yield the rows of a batch by column; bytes of texts that are not UTF-8 become U+FFFD."""
    names = batch.schema.names
    columns = [_decode_column(column) for column in batch.columns]
    return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))


def _decode_column(column: pa.Array | pa.ChunkedArray) -> Sequence[object]:
    if column.type not in TEXT_TYPES:
        return cast("Sequence[object]", column.to_pylist())
    texts = column.cast(pa.large_binary()).to_pylist()
    return [None if text is None else text.decode("utf-8", "replace") for text in texts]


def image_byte_columns(schema: pa.Schema) -> list[str]:
    """Return the columns of bytes, or of structs with `bytes`, that may be images."""
    names = []
    for field in schema:
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            if kind.field("bytes").type in BINARY_TYPES:
                names.append(field.name)
        elif kind in BINARY_TYPES and field.name.lower() not in (*CAPTION_COLUMNS, *KEY_COLUMNS):
            names.append(field.name)
    return names


def find_image_column(schema: pa.Schema, name: str | None) -> str:
    """Return the named column of images, else the only one, or one of a known name; else ValueError."""
    columns = image_byte_columns(schema)
    if name is not None:
        return look_up(name, dict(zip(columns, columns, strict=True)), "column of images")
    known = find_column(columns, IMAGE_COLUMNS)
    if known is not None:
        return known
    if len(columns) != 1:
        raise ValueError(
            f"no column named image holds bytes (there are {join_names(schema.names)}): name one with --image"
        )
    return columns[0]
