"""Shards: pictures and their texts in a tar.gz, in webdataset's layout, the same bytes for the same pairs."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from bench.data.build_pack.pictures import encode_png, encode_webp, fit


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture as its package has it, and what is known of it."""

    key: str  # unique among the source's pictures, or made so
    picture: Image.Image  # a grey one (mode L) is kept as it is, without loss; any other is fitted
    caption: str
    licence: str
    label: dict[str, str] = field(default_factory=dict)  # its class by the name of each classification, and its author


def write_shard(path: Path, source: str, pairs: Iterable[Pair]) -> int:
    """Write SOURCE-KEY.webp (or .png) and SOURCE-KEY.json for each pair, in their order; blank pictures are dropped.

    A key that was seen gets "-b" at its end, for webdataset groups by key. Neither the time nor a user is written.
    Returns the number of blank pictures.
    """
    blank = 0
    keys: set[str] = set()
    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=file, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as tar,
    ):
        for pair in pairs:
            name = f"{source}-{_unseen(pair.key, keys)}"
            encoded = _encoded(pair.picture)
            if encoded is None:
                blank += 1
                continue
            ending, content = encoded
            _add(tar, f"{name}.{ending}", content)
            _add(tar, f"{name}.json", _text(pair, source))
    return blank


def count_pairs(path: Path) -> int:
    """Return the number of a shard's pairs."""
    with tarfile.open(path, "r:gz") as tar:
        return sum(member.name.endswith(".json") for member in tar)


def _unseen(key: str, keys: set[str]) -> str:
    while key in keys:
        key += "-b"
    keys.add(key)
    return key


def _encoded(picture: Image.Image) -> tuple[str, bytes] | None:
    if picture.mode == "L":
        return "png", encode_png(picture)
    fitted = fit(picture)
    return None if fitted is None else ("webp", encode_webp(fitted))


def _text(pair: Pair, source: str) -> bytes:
    text: dict[str, str | dict[str, str]] = {"caption": pair.caption, "source": source, "licence": pair.licence}
    if pair.label:
        text["label"] = pair.label
    return json.dumps(text, ensure_ascii=False, separators=(",", ":")).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
