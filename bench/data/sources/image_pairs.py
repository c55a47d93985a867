"""Folders of images with captions in files of the same name, or in one file for all images of a folder."""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from bench.data.columns import EMBEDDING_SUFFIXES, IMAGE_SUFFIXES
from bench.data.paths import is_visible_with_suffix
from bench.data.sample_index import IndexBuilder, IndexedSamples, IndexedSource
from bench.data.tar_samples import Member, decode_texts, may_be_text
from bench.environment.files import MAX_BYTES, read_limited
from bench.interfaces.data_source import SampleRequest

FOLDER_KEY = "caption"  # name of the files, caption.txt or caption.json, that serve all images of their folder
SUFFIXES_OF_IMAGES = tuple(f".{suffix}" for suffix in (*IMAGE_SUFFIXES, *EMBEDDING_SUFFIXES))
FileFacts = tuple[str, int, int]  # path in the folder, bytes, and time of the last change in ns


class ImageFileSamples(IndexedSamples):
    """Samples whose images are files of their own."""

    place_columns = (("image", pa.large_binary()),)  # absolute path

    def read_image(self, path: Path, image: bytes) -> bytes:
        return read_limited(path / os.fsdecode(image), MAX_BYTES)


class ImagePairs(IndexedSource):
    """Pairs of files whose names differ in the suffix: KEY.jpg beside KEY.txt, KEY.json or another text."""

    name = "pairs of files"
    samples = ImageFileSamples

    def recognises(self, data: str) -> bool:
        return not all(_is_image(path) for path in _iterate_paths_of_pairs(data))

    def files(self, _data: str) -> list[Path]:
        return []  # `digest` looks at them

    def digest(self, data: str) -> str:
        files = iterate_files_of_pairs(data)
        return _digest(f"{name} {size}" for name, size, _ in files)

    def paths_to_index(self, data: str, _cache_folder: Path) -> list[Path]:
        return [Path(data).absolute()]

    def fingerprint(self, path: Path, _request: SampleRequest) -> str:
        files = iterate_files_of_pairs(str(path))
        digest = _digest(f"{name} {size} {time}" for name, size, time in files)
        return f"{path} {digest}"

    def add_samples(self, path: Path, builder: IndexBuilder) -> None:
        files_by_key = dict[str, dict[str, tuple[str, int]]]()  # name and bytes by suffix
        for name, size, _ in iterate_files_of_pairs(str(path)):
            key, _, suffix = name.rpartition(".")
            files_by_key.setdefault(key, {})[suffix.lower()] = (name, size)
        for key, files in sorted(files_by_key.items()):
            images = [files[suffix] for suffix in builder.suffixes if suffix in files]
            if not images:
                continue
            texts = {}
            if builder.needs_captions:
                folder, slash, _ = key.rpartition("/")
                files_of_folder = files_by_key.get(folder + slash + FOLDER_KEY, {})
                texts = _read_texts(path, files) or _read_texts(path, files_of_folder)
            image, size = images[0]
            builder.add(key, texts, (os.fsencode(path / image),), size)


def _read_texts(folder: Path, files: dict[str, tuple[str, int]]) -> dict[str, object]:
    """Return the texts of files, which are given by their suffixes, as of a tar sample."""
    members = {}
    for suffix, (name, size) in files.items():
        if may_be_text(name, size):
            members[suffix] = Member(0, size, read_limited(folder / name))
    return decode_texts(members)


def _digest(lines: Iterator[str]) -> str:
    text = "\n".join(sorted(lines))
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def iterate_files_of_pairs(data: str) -> Iterator[FileFacts]:
    """Yield the files of `_iterate_paths_of_pairs`."""
    root = str(Path(data))
    for path in _iterate_paths_of_pairs(root):
        status = os.stat(path)  # noqa: PTH116 - there may be millions
        yield path.removeprefix(f"{root}/"), status.st_size, status.st_mtime_ns


def _iterate_paths_of_pairs(root: str) -> Iterator[str]:
    """Yield the visible images below a folder, and files with the name of an image or for all images of a folder."""
    for folder, _, names in os.walk(root):
        visible = [name for name in names if is_visible_with_suffix(name, ("",))]
        keys = {name.rpartition(".")[0] for name in visible if _is_image(name)}
        if keys:
            keys.add(FOLDER_KEY)
        yield from (f"{folder}/{name}" for name in visible if name.rpartition(".")[0] in keys)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES_OF_IMAGES)
