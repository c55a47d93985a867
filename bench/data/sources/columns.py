"""The columns of tables with images: that of the images, by its name and type."""

import pyarrow as pa

from bench.data.captions.batches import BINARY_TYPES, CAPTION_COLUMNS, KEY_COLUMNS, TEXT_TYPES, find_column
from bench.experiment.config import list_names

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


def image_byte_columns(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Return the columns of bytes, or of structs with `bytes`, that may be images: their paths by their names."""
    columns = dict[str, tuple[str, ...]]()
    for field in schema:
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and kind.field("bytes").type in BINARY_TYPES:
            columns[field.name] = (field.name, "bytes")
        elif kind in BINARY_TYPES and field.name.lower() not in (*CAPTION_COLUMNS, *KEY_COLUMNS):
            columns[field.name] = (field.name,)
    return columns


def text_columns(schema: pa.Schema) -> list[str]:
    """Return the columns of texts or lists of texts."""
    kinds = {one.name: getattr(one.type, "value_type", one.type) for one in schema}  # of lists and dictionaries
    texts = {*TEXT_TYPES} - {*BINARY_TYPES}
    return [name for name, kind in kinds.items() if kind in texts and name not in KEY_COLUMNS]


def find_image_bytes(schema: pa.Schema) -> tuple[str, ...]:
    """Return the path of the column of images; ValueError for none, and for several of which no name is known."""
    columns = image_byte_columns(schema)
    if found := find_column([*columns], IMAGE_COLUMNS):
        return columns[found]
    if len(columns) != 1:
        there = f"the columns {list_names([*columns])} hold bytes: rename that of the images to image"
        raise ValueError(
            there if columns else f"no column holds images as bytes (there are {list_names(schema.names)})"
        )
    return next(iter(columns.values()))
