"""Folders of images with captions in files of the same name."""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from bench.data.paths import is_visible
from bench.data.sample_index import (
    EMBEDDING_SUFFIXES,
    IMAGE_SUFFIXES,
    IndexBuilder,
    IndexedSamples,
    IndexedSource,
)
from bench.data.tar_samples import CAPTION_SUFFIXES, Member, decode_texts
from bench.data.text_tables import MAX_LINE_BYTES
from bench.environment.files import MAX_BYTES, read_limited

READ_SUFFIXES = (*IMAGE_SUFFIXES, *EMBEDDING_SUFFIXES, *CAPTION_SUFFIXES)
FileFacts = tuple[str, int, int]  # path in the folder, bytes, and time of the last change in ns


class FileSamples(IndexedSamples):
    """Samples whose images are files of their own."""

    places = (("image", pa.large_binary()),)  # absolute path

    def read_image(self, path: Path, image: bytes) -> bytes:
        return read_limited(path / os.fsdecode(image), MAX_BYTES)


class ImagePairs(IndexedSource):
    """Pairs of files whose names differ in the suffix: KEY.jpg beside KEY.txt or KEY.json."""

    name = "pairs of files"
    accepted = "a folder with KEY.jpg and KEY.txt or KEY.json"
    samples = FileSamples

    def recognises(self, data: str) -> bool:
        for _, _, names in os.walk(data):
            images = set[str]()
            captions = set[str]()
            for name in names:
                stem, _, suffix = name.rpartition(".")
                if suffix.lower() in CAPTION_SUFFIXES:
                    captions.add(stem)
                elif suffix.lower() in READ_SUFFIXES:
                    images.add(stem)
            if images & captions:
                return True
        return False

    def files(self, _data: str) -> list[Path]:
        return []  # `digest` looks at them

    def digest(self, data: str) -> str:
        files = iterate_files_of_pairs(data)
        return _digest(f"{name} {size}" for name, size, _ in files)

    def indexed(self, data: str, _cache: Path) -> list[Path]:
        return [Path(data).absolute()]

    def identity(self, path: Path) -> str:
        files = iterate_files_of_pairs(str(path))
        digest = _digest(f"{name} {size} {time}" for name, size, time in files)
        return f"{path} {digest}"

    def fill(self, path: Path, builder: IndexBuilder) -> None:
        files_by_key = dict[str, dict[str, tuple[str, int]]]()  # name and bytes by suffix
        for name, size, _ in iterate_files_of_pairs(str(path)):
            key, _, suffix = name.rpartition(".")
            files_by_key.setdefault(key, {})[suffix.lower()] = (name, size)
        for key, files in sorted(files_by_key.items()):
            images = [files[suffix] for suffix in builder.suffixes if suffix in files]
            if not images:
                continue
            image, size = images[0]
            members = {}
            for suffix in CAPTION_SUFFIXES:
                if suffix in files and builder.needs_captions:
                    name, _ = files[suffix]
                    content = read_limited(path / name, MAX_LINE_BYTES)
                    members[suffix] = Member(0, 0, content)
            place = (os.fsencode(path / image),)
            builder.add(key, decode_texts(members), place, size)


def _digest(lines: Iterator[str]) -> str:
    text = "\n".join(sorted(lines))
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def iterate_files_of_pairs(data: str) -> Iterator[FileFacts]:
    """Yield the visible images and files of captions below a folder."""
    suffixes = tuple(f".{suffix}" for suffix in READ_SUFFIXES)
    root = str(Path(data))
    for folder, _, names in os.walk(root):
        for name in names:
            if is_visible(name, suffixes):
                path = f"{folder}/{name}"
                status = os.stat(path)  # noqa: PTH116 - there may be millions
                yield path.removeprefix(f"{root}/"), status.st_size, status.st_mtime_ns
