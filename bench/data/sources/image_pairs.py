"""Folders of images with captions in files of the same name, or in one file for all images of a folder."""

import os
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from bench.data.columns import IMAGE_ENDINGS
from bench.data.paths import is_visible_with_suffix
from bench.data.sample_index import IndexBuilder, IndexedSamples, IndexingSource
from bench.data.tar_samples import SampleMember, decode_texts_and_json_objects, is_text
from bench.environment.files import MAX_BYTES, read_bytes_unless_larger
from bench.interfaces.data_source import SampleFieldsRequest

FOLDER_KEY = "caption"  # name of the files, caption.txt or caption.json, that serve all images of their folder
SUFFIXES_OF_IMAGES = (*IMAGE_ENDINGS, ".npy")


class FileOfPair(NamedTuple):
    """One file of a pair: an image or its text."""

    name: str  # path below the folder of the data
    num_bytes: int
    modified_ns: int  # time of the last change


FilesBySuffix = dict[str, FileOfPair]


class ImageFileSamples(IndexedSamples):
    """Samples whose images are files of their own."""

    place_columns = (("image", pa.large_binary()),)  # absolute path

    def read_image(self, path: Path, image: bytes) -> bytes:
        return read_bytes_unless_larger(path / os.fsdecode(image), MAX_BYTES)


class ImageTextFilePairs(IndexingSource):
    """Pairs of files whose names differ in the suffix: KEY.jpg beside KEY.txt, KEY.json or another text."""

    name = "pairs of files"
    samples = ImageFileSamples

    def recognises(self, data: str) -> bool:
        return not all(_has_image_suffix(path) for path in _iterate_paths_of_pairs(data))

    def files(self, _data: str) -> list[Path]:
        return []  # `digest` looks at them

    def digest(self, data: str) -> str:
        files = iterate_files_of_pairs(data)
        return _digest_unordered_lines(f"{file.name} {file.num_bytes}" for file in files)

    def prepare_files_to_index(self, data: str, _cache_folder: Path) -> list[Path]:
        return [Path(data).absolute()]

    def fingerprint(self, path: Path, _request: SampleFieldsRequest) -> str:
        files = iterate_files_of_pairs(str(path))
        lines = (f"{file.name} {file.num_bytes} {file.modified_ns}" for file in files)
        return f"{path} {_digest_unordered_lines(lines)}"

    def add_samples(self, path: Path, builder: IndexBuilder) -> None:
        files_by_key = defaultdict[str, FilesBySuffix](dict)
        for file in iterate_files_of_pairs(str(path)):
            key, _, suffix = file.name.rpartition(".")
            files_by_key[key][suffix.lower()] = file
        for key in sorted(files_by_key):
            files = files_by_key[key]
            image = next((files[suffix] for suffix in builder.suffixes if suffix in files), None)
            if image is None:
                continue
            texts = {}
            if builder.needs_captions:
                folder, slash, _ = key.rpartition("/")
                files_of_folder = files_by_key.get(folder + slash + FOLDER_KEY, {})
                texts = _read_sample_texts(path, files, builder.suffixes_to_read)
                if not texts:
                    texts = _read_sample_texts(path, files_of_folder, builder.suffixes_to_read)
            image_place = (os.fsencode(path / image.name),)
            builder.add_sample(key, texts, image_place, image.num_bytes)


def _read_sample_texts(
    folder: Path, files: FilesBySuffix, suffixes_to_read: Container[str]
) -> dict[str, object]:
    """Return the texts of files by suffix, as of a tar sample."""
    members = {}
    for suffix, file in files.items():
        if is_text(file.name, file.num_bytes, suffixes_to_read):
            content = read_bytes_unless_larger(folder / file.name)
            members[suffix] = SampleMember(0, file.num_bytes, content)
    return decode_texts_and_json_objects(members, suffixes_to_read)


def _digest_unordered_lines(lines: Iterable[str]) -> str:
    """Return a digest of lines in any order."""
    text = "\n".join(sorted(lines))
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def iterate_files_of_pairs(data: str) -> Iterator[FileOfPair]:
    """Yield the visible images below a folder, and files with the name of an image or for all images of a folder."""
    root = str(Path(data))
    for path in _iterate_paths_of_pairs(root):
        status = os.stat(path)  # noqa: PTH116 - there may be millions
        yield FileOfPair(path.removeprefix(f"{root}/"), status.st_size, status.st_mtime_ns)


def _iterate_paths_of_pairs(root: str) -> Iterator[str]:
    """Yield the paths of `iterate_files_of_pairs`."""
    for folder, _, names in os.walk(root):
        visible = [name for name in names if is_visible_with_suffix(name, ("",))]
        keys = {_drop_suffix(name) for name in visible if _has_image_suffix(name)}
        if keys:
            keys.add(FOLDER_KEY)
        for name in visible:
            if _drop_suffix(name) in keys:
                yield f"{folder}/{name}"


def _drop_suffix(name: str) -> str:
    return name.rpartition(".")[0]


def _has_image_suffix(name: str) -> bool:
    return name.lower().endswith(SUFFIXES_OF_IMAGES)
