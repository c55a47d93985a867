"""Tar shards as a data source: discovery, verification against manifests, and random access to samples."""

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
from msgspec.structs import replace

from bench.console.console import PROGRAM
from bench.console.progress import show_progress
from bench.data.captions.choice import FOUND_BY_NAME, CaptionChoice
from bench.data.captions.files import (
    TAR_SUFFIXES,
    UNREADABLE,
    TarCaptionReader,
    compound_suffix,
    digest_file_excerpts,
)
from bench.data.sample_index import IMAGES, IndexBuilder, IndexedSamples, SampleKind, index_path
from bench.data.shards import facts
from bench.data.shards.facts import MANIFEST_NAME, ShardFacts
from bench.data.shards.layout import DOTTED_NAMES, KEPT_SUFFIXES, LayoutCheck, format_suffixes, layout_advice
from bench.data.shards.tar_samples import find_image_suffix, iterate_samples
from bench.data.sources.listing import iterate_files
from bench.environment.files import prefix_errors
from bench.interfaces.data_source import DataSource, SampleRequest
from bench.tables.formats import pluralize


class TarShards(DataSource):
    """Tar files as webdataset and img2dataset write them."""

    name = "tar shards"
    accepted = "a folder, file or glob of tar shards, in which KEY.jpg and KEY.txt (its caption) are beside each other"
    has_caption_files = True

    def recognises(self, data: str) -> bool:
        return next(iterate_files(data, TAR_SUFFIXES), None) is not None

    def files(self, data: str) -> list[Path]:
        return find_tar_files(data)

    def open(self, data: str, request: SampleRequest) -> "TarSamples":
        return open_shards(data, request.cache, SampleKind.of(request), request.captions)


class TarSamples(IndexedSamples):
    """The usable samples of shards."""

    places = (("offset", pa.int64()), ("size", pa.int64()))  # in bytes

    def read_image(self, path: Path, offset: int, size: int) -> bytes:
        """Read a sample's encoded image or embeddings; ValueError if the shard has become shorter."""
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            encoded = file.read(size)
        if len(encoded) != size:
            raise ValueError(f"{path} has become shorter since training began")
        return encoded

    def stored_label_row(self, row: int) -> int:
        """Return a sample's number among all samples of all files."""
        return self._begins[self._file_of(row)] + int(self._columns["place"][row].as_py())

    @property
    def num_stored_label_rows(self) -> int:
        return self._begins[-1]

    @cached_property
    def _begins(self) -> list[int]:
        return list(accumulate((each.samples for each in self.contents), initial=0))

    @cached_property
    def is_unverified(self) -> bool:
        return bool(self.unverified)

    @property
    def layout(self) -> list[str]:
        """Sentences on arrangements of members that lose samples, with their remedies."""
        return layout_advice(self._sum("layout") + self.skipped)

    def explain_skipped(self) -> str:
        """Describe the unusable samples: how many lack what, and why that may be."""
        suffixes = self._sum("suffixes")
        members = [f"their members are {format_suffixes(suffixes)}; {self.kind.accepted}"] if suffixes else []
        return "; ".join([super().explain_skipped(), *(self.layout or members)])

    @property
    def unverified(self) -> list[Path]:
        """Folders without a manifest."""
        folders = sorted({path.parent for path in self.paths})
        return [folder for folder in folders if facts.read_manifest(folder) is None]

    def notes(self) -> list[str]:
        """Return those of all sources, the number of shards, lost samples and folders without a manifest."""
        samples, *others = super().notes()
        unverified = [
            f"unverified: {folder} has no {MANIFEST_NAME}; write one with: {PROGRAM} doctor --shards {str(folder)!r}"
            for folder in self.unverified
        ]
        return [f"{samples} in {pluralize(len(self.paths), 'shard')}", *others, *self.layout, *unverified]


def open_shards(
    data: str, cache_folder: Path, kind: SampleKind = IMAGES, choice: CaptionChoice = FOUND_BY_NAME
) -> TarSamples:
    """Find shards, verify them against their manifests, and index those without an index.

    A listed shard is compared by SHA-256 when it is first used, and again after a write; one that is replaced, or is
    listed with another SHA-256, has another index. Raises ValueError that names a shard that cannot be read to its end
    or differs from its manifest, and for a field of captions that no sample has.
    """
    paths = find_tar_files(data)
    listed = _read_manifests(paths, data)
    made_of = {path: (digest_file_excerpts(path), listed[path].sha256 if path in listed else None) for path in paths}
    indexes = {path: index_path(cache_folder, kind, choice, *identity) for path, identity in made_of.items()}
    markers = {path: facts.verified_marker_path(path, indexes[path]) for path in listed}
    unread = [path for path in paths if not (indexes[path].is_file() and markers.get(path, indexes[path]).is_file())]
    for path in show_progress(unread, len(unread), "reading shards", "shards"):
        if path in listed:
            _require_equal(path, listed[path], facts.compute_facts(path))
        if not indexes[path].is_file():
            write_index(path, indexes[path], kind, choice)
        if path in markers:
            markers[path].touch()
    samples = TarSamples(tuple(paths), tuple(indexes[path] for path in paths), kind)
    for path, indexed in zip(paths, samples.contents, strict=True):
        if path in listed:
            found = replace(listed[path], samples=indexed.samples, bytes=path.stat().st_size)
            _require_equal(path, listed[path], found)
    if kind.is_caption_required:
        samples.found.require(choice)
    return samples


def write_index(shard: Path, path: Path, kind: SampleKind = IMAGES, choice: CaptionChoice = FOUND_BY_NAME) -> None:
    """Read a shard and write its index; ValueError names a shard that cannot be read to its end."""
    reader, layout = TarCaptionReader(choice), LayoutCheck(kind.suffixes)
    builder = IndexBuilder(kind, reader, TarSamples.places)
    with prefix_errors(shard, UNREADABLE), shard.open("rb") as file:
        for key, members in iterate_samples(file):
            suffix = find_image_suffix(members, kind.suffixes)
            image = None if suffix is None else members[suffix]
            place = kind.unread_format_flaw(members) if image is None else (image.offset, image.size)
            values = reader.values(members) if kind.is_caption_required else {}
            has_caption = builder.add(key, values, place, 0 if image is None else image.size)
            layout.add(key, members, suffix, is_complete=image is not None and has_caption)
    if layout.dotted:
        builder.skipped[DOTTED_NAMES] = layout.dotted
    builder.write(path, layout=layout.counts, suffixes=dict(layout.suffixes.most_common(KEPT_SUFFIXES)))


def find_tar_files(data: str) -> list[Path]:
    """Return the tar files of a folder, a file or a glob, in order; ValueError if there are none."""
    paths = sorted({*iterate_files(data, TAR_SUFFIXES)}, key=Path.as_posix)
    if not paths:
        raise ValueError(f"{data}: no tar file; accepted is {TarShards.accepted}")
    for path in paths:
        if compound_suffix(path) != ".tar":
            raise ValueError(f"{path}: a compressed shard has no random access; decompress it with: gunzip {path}")
    return paths


def _read_manifests(paths: Sequence[Path], data: str) -> dict[Path, ShardFacts]:
    """Return the manifests' facts of shards; ValueError if a folder's shards are not those that its manifest lists."""
    listed = {}
    for folder in {path.parent for path in paths}:
        if (manifest := facts.read_manifest(folder)) is None:
            continue
        if lost := facts.missing_shards(folder, manifest, data):
            raise ValueError(f"{folder / lost[0]} is missing, {folder / MANIFEST_NAME} lists it")
        for path in (path for path in paths if path.parent == folder):
            if path.name not in manifest.shards:
                raise ValueError(f"{path} is not in {folder / MANIFEST_NAME}; remove that file to create it again")
            listed[path] = manifest.shards[path.name]
    return listed


def _require_equal(path: Path, listed: ShardFacts, found: ShardFacts) -> None:
    if wrong := facts.describe_difference(listed, found):
        raise ValueError(f"{path} differs from {path.with_name(MANIFEST_NAME)}: {wrong}")
