"""Images that are files of their own, in folders of pairs and in tables that name them."""

import os
import stat
from collections.abc import Container, Iterator
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from bench.data.captions.batches import MAX_LINE_BYTES
from bench.data.captions.tars import TarCaptionReader
from bench.data.paths import is_visible
from bench.data.sample_index import EMBEDDINGS, IMAGES, IndexBuilder, IndexedSamples, IndexedSource
from bench.data.shards.tar_samples import CAPTION_SUFFIXES, Member
from bench.environment.files import MAX_BYTES, read_limited
from bench.experiment.config import list_names
from bench.tables.formats import pluralize

OUTSIDE, MISSING_FILE = "a path outside the folder", "a missing image file"
SHOWN_FILES = 3  # in a note
IMAGE_SUFFIXES = (*IMAGES.suffixes, *EMBEDDINGS.suffixes, *IMAGES.unread)
READ_SUFFIXES = tuple(f".{suffix}" for suffix in (*IMAGE_SUFFIXES, *CAPTION_SUFFIXES))
FileFacts = tuple[str, int, int]  # path in the folder, bytes, and time of the last change in ns


class FileSamples(IndexedSamples):
    """Samples whose images are files of their own."""

    places = (("file", pa.large_string()),)  # absolute path

    def read_image(self, _file: int, path: str) -> bytes:
        return read_limited(Path(os.fsdecode(path.encode("utf-8", "surrogateescape"))), MAX_BYTES)


class ImageFolders(IndexedSource):
    """Pairs of files whose names differ in the suffix: KEY.jpg beside KEY.txt or KEY.json."""

    name = "pairs of files"
    accepted = "a folder with KEY.jpg and KEY.txt or KEY.json"
    samples = FileSamples
    reader = TarCaptionReader

    def recognises(self, data: str) -> bool:
        for _, _, names in os.walk(data):
            suffixes = dict[str, set[str]]()
            for name in names:
                if not is_visible(name, READ_SUFFIXES):
                    continue
                stem, _, suffix = name.rpartition(".")
                suffixes.setdefault(stem, set()).add(suffix.lower())
            if any(
                there & {*IMAGE_SUFFIXES} and there & {*CAPTION_SUFFIXES}
                for there in suffixes.values()
            ):
                return True
        return False

    def files(self, _data: str) -> list[Path]:
        return []  # `digest` looks at them

    def digest(self, data: str) -> str:
        return _digest(f"{name} {size}" for name, size, _ in iterate_pairs(data))

    def indexed(self, data: str) -> list[Path]:
        return [Path(data).absolute()]

    def identity(self, path: Path) -> str:
        return f"{path} {_digest(f'{name} {size} {time}' for name, size, time in iterate_pairs(str(path)))}"

    def fill(self, path: Path, builder: IndexBuilder) -> None:
        suffixes = (*builder.kind.suffixes, *builder.kind.unread)
        images = dict[str, tuple[int, str, int]]()  # the best suffix, name and bytes by key
        texts = list[tuple[str, int]]()
        for name, size, _ in iterate_pairs(str(path)):
            stem, _, suffix = name.rpartition(".")
            if suffix.lower() in suffixes:
                ranked = (suffixes.index(suffix.lower()), name, size)
                images[stem] = min(images.get(stem, ranked), ranked)
            elif suffix.lower() in CAPTION_SUFFIXES:
                texts.append((name, size))
        captions, lone = _match_captions(texts, images)
        if lone:
            examples = f"{pluralize(len(lone), 'text file')}, such as {list_names(sorted(lone)[:SHOWN_FILES])}"
            builder.notes.append(
                f"{path}: no image has the name of {examples}: left out, and not counted as samples"
            )
        for key, (_, image, size) in sorted(images.items()):
            values: dict[str, object] = {}
            if builder.kind.is_caption_required:
                assert isinstance(builder.reader, TarCaptionReader)
                members = {
                    suffix: Member(0, length, _read_caption(path / name, length))
                    for suffix, (name, length) in captions.get(key, {}).items()
                }
                values = builder.reader.values(members)
            builder.add(
                key,
                values,
                builder.kind.unread_format_flaw([image.lower()]) or (str(path / image),),
                size,
            )


def _digest(lines: Iterator[str]) -> str:
    return sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _match_captions(
    texts: list[tuple[str, int]], images: Container[str]
) -> tuple[dict[str, dict[str, tuple[str, int]]], list[str]]:
    """Return names and bytes of caption files by key and suffix, and those of no image.

    The key is the longest beginning of the name that an image has: a.short.txt is a caption of a.jpg.
    """
    captions = dict[str, dict[str, tuple[str, int]]]()
    lone = list[str]()
    for name, size in texts:
        key = name.rpartition(".")[0]
        while key not in images and "." in key.rpartition("/")[2]:
            key = key.rpartition(".")[0]
        if key in images:
            captions.setdefault(key, {})[name[len(key) + 1 :].lower()] = name, size
        else:
            lone.append(name)
    return captions, lone


def _read_caption(path: Path, size: int) -> bytes:
    if size > MAX_LINE_BYTES:
        raise ValueError(f"{path.name} is longer than {MAX_LINE_BYTES // 2**20} MiB")
    with path.open("rb", buffering=0) as file:
        return file.read(size)


def iterate_pairs(folder: str, prefix: str = "") -> Iterator[FileFacts]:
    """Yield the visible images and files of captions below a folder."""
    folders = list[os.DirEntry[str]]()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry)
            elif is_visible(entry.name, READ_SUFFIXES) and entry.is_file():
                status = entry.stat()
                yield prefix + entry.name, status.st_size, status.st_mtime_ns
    for entry in folders:
        yield from iterate_pairs(entry.path, f"{prefix}{entry.name}/")


def find_image_file(folder: Path, name: str) -> tuple[str, int] | str:
    """Return the path and the bytes of a file that a table names, or the reason why it cannot be used.

    An absolute path is taken as it is; another one has to stay below the folder, and its backslashes are slashes
    where no file has the name with them. Devices and pipes are not read.
    """
    names = [name]
    if "\\" in name and not name.startswith(("/", "\\")):
        names.append(name.replace("\\", "/"))
    for candidate in names:
        path = Path(os.path.normpath(candidate))
        if path.parts[:1] == (os.pardir,):
            return OUTSIDE
        try:
            status = (folder / path).stat()
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(status.st_mode):
            return str(folder / path), status.st_size
    return MISSING_FILE
