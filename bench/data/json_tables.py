"""Rows of a JSON file: COCO's captions, or a list of objects."""

import json
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path

import msgspec

from bench.data.text_tables import Row, TextTable, decode_json_object
from bench.environment.files import decode_json, read_bytes_unless_larger


class CocoImage(msgspec.Struct):
    """An image in a file of COCO's."""

    id: int | str
    file_name: str


class CocoCaption(msgspec.Struct):
    """A caption in a file of COCO's."""

    image_id: int | str
    caption: str


class CocoCaptionFile(msgspec.Struct):
    """A file of captions as COCO has it (https://cocodataset.org/#format-data)."""

    images: list[CocoImage]
    annotations: list[CocoCaption]


def open_json_table(path: Path) -> TextTable:
    """Read a JSON list of objects, or COCO's captions, as rows; ValueError for any other file."""
    content = read_bytes_unless_larger(path).removeprefix(BOM_UTF8).strip()
    if content.startswith(b"["):
        rows = _iterate_json_list_objects(content)
    else:
        rows = iter(_read_coco_caption_rows(path, path.stat().st_mtime_ns))
    first_row = next(rows, {})
    return TextTable(list(first_row), chain([first_row], rows))


def _iterate_json_list_objects(content: bytes) -> Iterator[Row]:
    """Yield the objects of a JSON list; other items become empty rows."""
    items: Iterable[bytes]
    try:
        items = map(bytes, msgspec.json.decode(content, type=list[msgspec.Raw]))
    except msgspec.DecodeError:  # NaN, or half of a surrogate pair, which Python's json reads
        items = (json.dumps(item).encode() for item in json.loads(content))
    for item in items:
        yield decode_json_object(item) or {}


@lru_cache(1)
def _read_coco_caption_rows(path: Path, _modified_ns: int) -> list[Row]:
    """Return the images of a file of COCO's with their captions; ValueError for two images with one id."""
    coco = decode_json(read_bytes_unless_larger(path), CocoCaptionFile)
    rows = dict[int | str, Row]()
    for image in coco.images:
        if image.id in rows:
            raise ValueError(f"two images have the id {image.id!r}: give each image its own")
        rows[image.id] = {"file_name": image.file_name, "caption": []}
    for caption in coco.annotations:
        if caption.image_id in rows:
            rows[caption.image_id]["caption"].append(caption.caption)
    return list(rows.values())
