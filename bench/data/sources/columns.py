"""The columns of tables with images: that of the images by its name and type, and their values."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from bench.config import list_names
from bench.data.captions.batches import CAPTION_COLUMNS, KEY_COLUMNS, find_column

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "gif", "npy", "image_bytes", "bytes", "content")
PATH_COLUMNS = (
    "image",
    "image_path",
    "image_file",
    "img",
    "file_name",
    "filename",
    "filepath",
    "file_path",
    "path",
    "file",
)


def find_image_bytes(schema: pa.Schema) -> tuple[str, ...] | None:
    """Return the path of the column with images: of bytes, or of a struct with `bytes`. None if there is none.

    ValueError for several columns of which no name is known.
    """
    leaves = {}
    for field in schema:
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and _is_binary(kind.field("bytes").type):
            leaves[field.name] = (field.name, "bytes")
        elif _is_binary(kind) and field.name.lower() not in (*CAPTION_COLUMNS, *KEY_COLUMNS):
            leaves[field.name] = (field.name,)
    if found := find_column([*leaves], IMAGE_COLUMNS):
        return leaves[found]
    if len(leaves) > 1:
        raise ValueError(f"the columns {list_names([*leaves])} hold bytes: rename that of the images to image")
    return next(iter(leaves.values()), None)


def iterate_values(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Yield the rows of a batch; bytes of texts that are not UTF-8 are surrogates."""
    return (
        dict(zip(batch.schema.names, row, strict=True)) for row in zip(*map(_to_values, batch.columns), strict=True)
    )


def _to_values(column: pa.Array) -> list[Any]:
    if not (_is_binary(column.type) or pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        values: list[Any] = column.to_pylist()
        return values
    texts = column.cast(pa.large_binary()).to_pylist()
    return [None if text is None else text.decode("utf-8", "surrogateescape") for text in texts]


def _is_binary(kind: pa.DataType) -> bool:
    tests = pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view
    return any(test(kind) for test in tests)
