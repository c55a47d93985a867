"""The columns of tables with images: that of the images, by its name and type."""

import pyarrow as pa

from bench.data.captions.batches import (
    BINARY_TYPES,
    CAPTION_COLUMNS,
    KEY_COLUMNS,
    TEXT_TYPES,
    find_column,
)
from bench.experiment.config import list_names

IMAGE_COLUMNS = (
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


def image_byte_columns(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Return the columns of bytes, or of structs with `bytes`, that may be images: their paths by their names."""
    columns = dict[str, tuple[str, ...]]()
    for field in schema:
        kind = field.type
        if (
            pa.types.is_struct(kind)
            and kind.get_field_index("bytes") >= 0
            and kind.field("bytes").type in BINARY_TYPES
        ):
            columns[field.name] = (field.name, "bytes")
        elif kind in BINARY_TYPES and field.name.lower() not in (*CAPTION_COLUMNS, *KEY_COLUMNS):
            columns[field.name] = (field.name,)
    return columns


def text_columns(schema: pa.Schema) -> list[str]:
    """Return the columns of texts or lists of texts."""
    names = []
    for field in schema:
        kind = getattr(field.type, "value_type", field.type)  # of lists and dictionaries
        if kind in TEXT_TYPES and kind not in BINARY_TYPES and field.name not in KEY_COLUMNS:
            names.append(field.name)
    return names


def find_image_bytes(schema: pa.Schema) -> tuple[str, ...]:
    """Return the path of the column of images; ValueError for none, and for several of which no name is known."""
    columns = image_byte_columns(schema)
    known = find_column([*columns], IMAGE_COLUMNS)
    if known is not None:
        return columns[known]
    if not columns:
        raise ValueError(f"no column holds images as bytes (there are {list_names(schema.names)})")
    if len(columns) > 1:
        raise ValueError(
            f"the columns {list_names([*columns])} hold bytes: rename that of the images to image"
        )
    return next(iter(columns.values()))
