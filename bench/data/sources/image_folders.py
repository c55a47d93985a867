"""Folders of pairs: KEY.jpg beside KEY.txt or KEY.json."""

import os
from collections.abc import Container, Iterator
from hashlib import sha256
from pathlib import Path

from bench.data.captions.batches import MAX_LINE_BYTES
from bench.data.captions.files import TarCaptionReader
from bench.data.sample_index import EMBEDDINGS, IMAGES, IndexBuilder, IndexedSource
from bench.data.shards.tar_samples import CAPTION_SUFFIXES, Member
from bench.data.sources.image_files import SHOWN_FILES, FileSamples
from bench.data.sources.listing import is_visible
from bench.experiment.config import list_names
from bench.tables.formats import pluralize

IMAGE_SUFFIXES = (*IMAGES.suffixes, *EMBEDDINGS.suffixes, *IMAGES.unread)
READ = tuple(f".{suffix}" for suffix in (*IMAGE_SUFFIXES, *CAPTION_SUFFIXES))


class ImageFolders(IndexedSource):
    """Pairs of files whose names differ in the suffix."""

    name = "pairs of files"
    accepted = "a folder with KEY.jpg (png, webp, gif) and KEY.txt or KEY.json beside each other"
    samples = FileSamples
    reader = TarCaptionReader

    def recognises(self, data: str) -> bool:
        if not Path(data).is_dir():
            return False
        for _, _, names in os.walk(data):
            split = [name.rpartition(".") for name in names if not name.startswith(".")]
            captions = {stem for stem, _, suffix in split if suffix.lower() in CAPTION_SUFFIXES}
            if any(stem in captions for stem, _, suffix in split if suffix.lower() in IMAGE_SUFFIXES):
                return True
        return False

    def files(self, _data: str) -> list[Path]:
        return []  # `digest` looks at them

    def digest(self, data: str) -> str:
        listed = sorted(f"{name} {size}" for name, size, _ in _iterate_pairs(data))
        return sha256("\n".join(listed).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def indexed(self, data: str) -> list[Path]:
        return [Path(data).absolute()]

    def identity(self, path: Path) -> str:
        listed = sorted(f"{name} {size} {time}" for name, size, time in _iterate_pairs(str(path)))
        return sha256("\n".join([str(path), *listed]).encode("utf-8", "surrogateescape")).hexdigest()

    def fill(self, path: Path, builder: IndexBuilder) -> None:
        assert isinstance(builder.reader, TarCaptionReader)
        images, captions = dict[str, tuple[int, str, int]](), dict[str, dict[str, tuple[str, int]]]()
        listed, lone = [*_iterate_pairs(str(path))], list[str]()
        suffixes = (*builder.kind.suffixes, *builder.kind.unread)
        for name, size, _ in listed:
            stem, _, suffix = name.rpartition(".")
            if suffix.lower() in suffixes:
                one = suffixes.index(suffix.lower()), name, size
                images[stem] = min(images.get(stem, one), one)
        for name, size, _ in listed:
            stem, _, suffix = name.rpartition(".")
            if suffix.lower() not in CAPTION_SUFFIXES:
                continue
            if (key := _find_key(stem, images)) is None:
                lone.append(name)
            else:
                captions.setdefault(key, {})[name[len(key) + 1 :].lower()] = name, size
        for key, (_, image, size) in sorted(images.items()):
            members = {}
            for suffix, (name, length) in captions.get(key, {}).items() if builder.kind.is_caption_required else ():
                members[suffix] = Member(0, length, _read_caption(path / name, length))
            place = builder.kind.unread_format_flaw([image.lower()]) or (str(path / image),)
            builder.add(key, builder.reader.values(members), place, size)
        if lone:
            there = f"{pluralize(len(lone), 'text file')}, such as {list_names(sorted(lone)[:SHOWN_FILES])}"
            builder.notes.append(f"{path}: no image has the name of {there}: left out, and not counted as samples")


def _find_key(stem: str, images: Container[str]) -> str | None:
    """Return the key of a caption file by its name without suffix: the longest beginning that an image has, or None."""
    while stem not in images:
        if "." not in stem.rpartition("/")[2]:
            return None
        stem = stem.rpartition(".")[0]
    return stem


def _read_caption(path: Path, size: int) -> bytes:
    if size > MAX_LINE_BYTES:
        raise ValueError(f"{path.name} is longer than {MAX_LINE_BYTES // 2**20} MiB")
    with path.open("rb", buffering=0) as file:
        return file.read(size)


def _iterate_pairs(folder: str, before: str = "") -> Iterator[tuple[str, int, int]]:
    """Yield the visible images and files of captions below a folder: path in it, bytes, and time of the last change."""
    folders = list[os.DirEntry[str]]()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry)
            elif is_visible(entry.name, READ) and entry.is_file():
                found = entry.stat()
                yield before + entry.name, found.st_size, found.st_mtime_ns
    for entry in folders:
        yield from _iterate_pairs(entry.path, f"{before}{entry.name}/")
