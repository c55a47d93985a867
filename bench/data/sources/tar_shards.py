"""Tar shards as a data source: discovery, verification against manifests, and random access to samples."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from bench.console.console import PROGRAM
from bench.console.progress import show_progress
from bench.data.captions.choice import FOUND_BY_NAME, CaptionChoice
from bench.data.captions.files import TAR_SUFFIXES
from bench.data.captions.tars import TarCaptionReader
from bench.data.open_files import read_at
from bench.data.paths import compound_suffix, digest_file_excerpts, iterate_files
from bench.data.sample_index import IndexBuilder, IndexedSamples, IndexedSource
from bench.data.shards import facts
from bench.data.shards.facts import MANIFEST_NAME, ShardFacts
from bench.data.shards.tar_samples import (
    CAPTION_SUFFIXES,
    Member,
    find_image_suffix,
    iterate_samples,
)
from bench.environment.files import make_folders
from bench.interfaces.data_source import SampleRequest
from bench.tables.formats import pluralize

DOTTED_NAMES = "a name with several dots"  # why samples cannot be used
MEMBERS_RULE = (
    "members of a sample are adjacent and in one folder (tar --sort=name), and its key ends at the first dot, so that "
    "a.front.jpg has the key a"
)


class TarSamples(IndexedSamples):
    """The usable samples of shards."""

    places = (("offset", pa.int64()), ("size", pa.int64()))  # in bytes
    are_labels_by_place = True

    def read_image(self, file: int, offset: int, size: int) -> bytes:
        """Read a sample's encoded image or embeddings; ValueError if the shard has become shorter."""
        return read_at(self.paths[file], self.indexes[file].name, offset, size)

    @property
    def unverified(self) -> list[Path]:
        """Folders without a manifest."""
        folders = sorted({path.parent for path in self.paths})
        return [folder for folder in folders if facts.read_manifest(folder) is None]

    @cached_property
    def is_unverified(self) -> bool:
        return bool(self.unverified)

    def explain_skipped(self) -> str:
        """Describe the unusable samples, with the rule that they may break."""
        return f"{super().explain_skipped()}; {MEMBERS_RULE}"

    def notes(self) -> list[str]:
        """Return those of all sources, the number of shards, lost samples and folders without a manifest."""
        samples, *others = super().notes()
        if self.skipped:
            others.append(MEMBERS_RULE)
        for folder in self.unverified:
            command = f"{PROGRAM} doctor --shards {str(folder)!r}"
            others.append(f"unverified: {folder} has no {MANIFEST_NAME}; write one with: {command}")
        return [f"{samples} in {pluralize(len(self.paths), 'shard')}", *others]


class TarShards(IndexedSource):
    """Tar files as webdataset and img2dataset write them.

    A shard that a manifest lists is compared by SHA-256 when it is first used, and again after a write.
    """

    name = "tar shards"
    accepted = "tar shards with KEY.jpg and KEY.txt or KEY.json: their folder, a file or a glob"
    has_caption_files = True
    samples = TarSamples
    reader = TarCaptionReader
    are_keys_distinct = False

    def recognises(self, data: str) -> bool:
        return next(iterate_files(data, TAR_SUFFIXES), None) is not None

    def files(self, data: str) -> list[Path]:
        return find_tar_files(data)

    def identity(self, path: Path) -> str:
        return digest_file_excerpts(path)

    def open(self, data: str, request: SampleRequest) -> IndexedSamples:
        """Verify the listed shards and open all; ValueError names one that is damaged or not as its manifest says."""
        paths = find_tar_files(data)
        listed = _read_manifests(paths, data)
        _verify(listed, request.cache)
        samples = self.open_files(paths, request)
        for path, contents in zip(paths, samples.contents, strict=True):
            if path in listed and listed[path].samples != contents.samples:
                described = (
                    f"samples: {contents.samples:,}, the manifest says {listed[path].samples:,}"
                )
                raise ValueError(
                    f"{path} differs from {path.with_name(MANIFEST_NAME)}: {described}"
                )
        return samples

    def fill(self, path: Path, builder: IndexBuilder) -> None:
        reader, kind = builder.reader, builder.kind
        assert isinstance(reader, TarCaptionReader)
        with path.open("rb") as file:
            for key, members in iterate_samples(file):
                suffix = find_image_suffix(members, kind.suffixes)
                values = reader.values(members) if kind.is_caption_required else {}
                if suffix is None:
                    builder.add(key, values, kind.unread_format_flaw(members))
                    continue
                image = members[suffix]
                builder.add(key, values, (image.offset, image.size), image.size)
                merged = _count_merged_samples(members, suffix, kind.suffixes)
                if merged:
                    builder.skipped[DOTTED_NAMES] += merged


def open_shards(data: str, cache: Path, choice: CaptionChoice = FOUND_BY_NAME) -> TarSamples:
    """Open the samples of tar shards; ValueError or OSError as `TarShards.open`."""
    samples = TarShards().open(data, SampleRequest(cache=cache, captions=choice))
    assert isinstance(samples, TarSamples)
    return samples


def find_tar_files(data: str) -> list[Path]:
    """Return the tar files of a folder, a file or a glob, in order; ValueError if there are none."""
    paths = sorted({*iterate_files(data, TAR_SUFFIXES)}, key=Path.as_posix)
    if not paths:
        raise ValueError(f"{data}: no tar file; accepted is {TarShards.accepted}")
    for path in paths:
        if compound_suffix(path) != ".tar":
            raise ValueError(
                f"{path}: a compressed shard has no random access; decompress it with: gunzip {path}"
            )
    return paths


def _count_merged_samples(
    members: Mapping[str, Member], image: str, suffixes: Sequence[str]
) -> int:
    """Return the number of pairs of an image and a caption beside the one that is read: a.1.jpg and a.1.txt.

    a.front.jpg alone is another view of a.
    """
    stems = {suffix: suffix.rpartition(".") for suffix in members}
    images = {stem for stem, _, last in stems.values() if last in suffixes}
    captions = {stem for stem, _, last in stems.values() if last in CAPTION_SUFFIXES}
    return len((images & captions) - {"", image.rpartition(".")[0]})


def _read_manifests(paths: Sequence[Path], data: str) -> dict[Path, ShardFacts]:
    """Return the manifests' facts of shards; ValueError if a folder's shards are not those that its manifest lists."""
    listed = {}
    for folder in {path.parent for path in paths}:
        manifest = facts.read_manifest(folder)
        if manifest is None:
            continue
        missing = facts.missing_shards(folder, manifest, data)
        if missing:
            raise ValueError(f"{folder / missing[0]} is missing, {folder / MANIFEST_NAME} lists it")
        for path in paths:
            if path.parent == folder:
                if path.name not in manifest.shards:
                    raise ValueError(
                        f"{path} is not in {folder / MANIFEST_NAME}; remove that file to create it again"
                    )
                listed[path] = manifest.shards[path.name]
    return listed


def _verify(listed: Mapping[Path, ShardFacts], cache: Path) -> None:
    """Compare listed shards with their manifest; those that were compared and not written to since have a marker."""
    markers = {path: _marker_path(path, listed[path], cache) for path in listed}
    unread = [path for path, marker in markers.items() if not marker.is_file()]
    for path in show_progress(unread, len(unread), "verifying shards", "shards"):
        difference = facts.describe_difference(listed[path], facts.compute_facts(path))
        if difference:
            raise ValueError(f"{path} differs from {path.with_name(MANIFEST_NAME)}: {difference}")
        make_folders(cache)
        markers[path].touch()


def _marker_path(shard: Path, listed: ShardFacts, cache: Path) -> Path:
    """Return where an empty file says that a shard's whole content was compared with its manifest.

    It is named by the shard's size and times: whoever writes to a shard changes them. The second time is the kernel's
    own, which no program sets. What a disk spoils without a write is not seen.
    """
    status = shard.stat()
    written = f"{shard} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {listed.sha256}"
    return cache / f"verified-{sha256(written.encode('utf-8', 'surrogateescape')).hexdigest()[:24]}"
