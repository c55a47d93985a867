"""Tar shards as a data source: discovery, verification against manifests, and random access to samples."""

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from glob import has_magic
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from bench.console.console import PROGRAM
from bench.console.progress import show_progress
from bench.data.captions.choice import FOUND_BY_NAME, CaptionChoice, Texts
from bench.data.captions.files import TAR_SUFFIXES, choice_digest, compound_suffix, list_files
from bench.data.captions.joining import FoundFields
from bench.data.samples import KEYS_REMEDY, max_unusable
from bench.data.shards import facts
from bench.data.shards.facts import EMBEDDINGS, IMAGES, MANIFEST_NAME, SampleKind, ShardContents, ShardFacts
from bench.data.shards.layout import DOTTED_NAMES, advise, format_suffixes
from bench.data_source import DataSource, SampleRequest, Samples


class TarShards(DataSource):
    """Tar files as webdataset and img2dataset write them."""

    name = "tar shards"
    accepted = (
        "a folder, file or glob of tar shards, in which KEY.jpg and KEY.txt (its caption) are beside each other "
        "(make one of a folder of such files with: tar --sort=name -cf 00000.tar -C FOLDER .)"
    )
    has_caption_files = True

    def recognises(self, data: str) -> bool:
        if Path(data).is_dir():
            return any(is_tar_file(name) for _, _, names in os.walk(data) for name in names)
        return (Path(data).is_file() or has_magic(data)) and any(is_tar_file(path.name) for path in list_files(data))

    def files(self, data: str) -> list[Path]:
        return find_tar_files(data)

    def open(self, data: str, request: SampleRequest) -> "TarSamples":
        kind = EMBEDDINGS if request.has_embeddings else IMAGES
        kind = kind if request.needs_captions else kind.with_optional_caption
        samples = open_shards(data, request.cache, kind, request.captions)
        lost = sum(each.layout.get(DOTTED_NAMES, 0) for each in samples.contents)
        if not request.lists_keys and lost > max_unusable(samples.total):
            (advice,) = advise(Counter({DOTTED_NAMES: lost}))
            raise ValueError(f"{data}: {advice}; or {KEYS_REMEDY}")
        return samples


@dataclass(frozen=True, eq=False)
class TarSamples(Samples):
    """The usable samples of shards, in order. The indexes are read when they are first used."""

    paths: tuple[Path, ...]
    indexes: tuple[Path, ...]
    kind: SampleKind

    def __reduce__(self) -> tuple[Any, ...]:
        return TarSamples, (self.paths, self.indexes, self.kind)

    def __len__(self) -> int:
        return self._ends[-1]

    def key(self, row: int) -> str:
        return str(self._columns["key"][row])

    def caption(self, row: int) -> str:
        return next((text for each in self.texts(row) for text in each), "")

    def texts(self, row: int) -> Texts:
        return tuple(map(tuple, self._columns["texts"][row].as_py()))

    def image(self, row: int) -> bytes:
        """Read a sample's encoded image or embeddings; ValueError if the shard has become shorter."""
        path, size = self.paths[self._shard_of(row)], self._columns["size"][row].as_py()
        with path.open("rb", buffering=0) as file:
            file.seek(self._columns["offset"][row].as_py())
            encoded = file.read(size)
        if len(encoded) != size:
            raise ValueError(f"{path} has become shorter since training began")
        return encoded

    @property
    def keys(self) -> pa.ChunkedArray:
        return self._columns["key"]

    def position(self, row: int) -> int:
        """Return a sample's index among all samples of all shards."""
        return self._begins[self._shard_of(row)] + int(self._columns["place"][row].as_py())

    @property
    def num_positions(self) -> int:
        return self._begins[-1]

    @cached_property
    def contents(self) -> list[ShardContents]:
        """What the index of each shard says of it."""
        return [facts.read_index(path)[1] for path in self.indexes]

    @property
    def found(self) -> FoundFields:
        """Which fields of captions the samples have."""
        found = FoundFields()
        for each in self.contents:
            found.add(each.found)
        return found

    @cached_property
    def skipped(self) -> Counter[str]:
        return sum((Counter(each.skipped) for each in self.contents), Counter[str]())

    @cached_property
    def empty_captions(self) -> int:
        return sum(each.empty_captions for each in self.contents)

    @cached_property
    def is_unverified(self) -> bool:
        return bool(self.unverified)

    @property
    def layout(self) -> list[str]:
        """Sentences on arrangements of members that lose samples, with their remedies."""
        return advise(sum((Counter(each.layout) for each in self.contents), Counter[str]()))

    def explain_skipped(self) -> str:
        """Describe the unusable samples: how many lack what, and why that may be."""
        suffixes = sum((Counter(each.suffixes) for each in self.contents), Counter[str]())
        members = [f"their members are {format_suffixes(suffixes)}; {self.kind.accepted}"] if suffixes else []
        return "; ".join([super().explain_skipped(), *(self.layout or members)])

    @property
    def unverified(self) -> list[Path]:
        """Folders without a manifest."""
        folders = sorted({path.parent for path in self.paths})
        return [folder for folder in folders if facts.read_manifest(folder) is None]

    def notes(self) -> list[str]:
        """Return those of all sources, and on shards, fields of captions, lost samples, folders without a manifest."""
        samples, *others = super().notes()
        fields = self.found.samples if len(self.found.samples) > 1 else {}
        others += [f"{there:,} of {self.total:,} samples have a caption in {name}" for name, there in fields.items()]
        unverified = [
            f"unverified: {folder} has no {MANIFEST_NAME}; write one with: {PROGRAM} doctor --shards {str(folder)!r}"
            for folder in self.unverified
        ]
        return [f"{samples} in {len(self.paths):,} shards", *others, *self.layout, *unverified]

    @cached_property
    def _index_tables(self) -> list[pa.Table]:
        return [facts.read_index(path)[0] for path in self.indexes]

    @cached_property
    def _columns(self) -> dict[str, pa.ChunkedArray]:
        joined = pa.concat_tables(self._index_tables)
        return dict(zip(joined.column_names, joined.columns, strict=True))

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(map(len, self._index_tables)))

    @cached_property
    def _begins(self) -> list[int]:
        return list(accumulate((each.samples for each in self.contents), initial=0))

    def _shard_of(self, row: int) -> int:
        return bisect_right(self._ends, row)


def open_shards(
    data: str, cache_folder: Path, kind: SampleKind = IMAGES, choice: CaptionChoice = FOUND_BY_NAME
) -> TarSamples:
    """Find shards, verify them against their manifests, and index those without an index.

    A listed shard is compared by SHA-256 when it is first used, and again after a write. Raises ValueError that names a
    shard that cannot be read to its end or differs from its manifest, for a field of captions that no sample has, and
    if no sample is usable.
    """
    paths = find_tar_files(data)
    listed = _read_manifests(paths, data)
    sums = {path: listed[path].sha256 if path in listed else "" for path in paths}
    digest = choice_digest(choice)
    indexes = {path: facts.index_path(path, cache_folder, kind, sums[path], digest) for path in paths}
    markers = {path: facts.verified_marker_path(path, indexes[path]) for path in listed}
    unread = [path for path in paths if not (indexes[path].is_file() and markers.get(path, indexes[path]).is_file())]
    for path in show_progress(unread, len(unread), "reading shards", "shards"):
        if path in listed:
            _require_equal(path, listed[path], facts.compute_facts(path))
        if not indexes[path].is_file():
            facts.write_index(path, indexes[path], kind, choice)
        if path in markers:
            markers[path].touch()
    samples = TarSamples(tuple(paths), tuple(indexes[path] for path in paths), kind)
    for path, indexed in zip(paths, samples.contents, strict=True):
        if path in listed:
            found = replace(listed[path], samples=indexed.samples, bytes=path.stat().st_size)
            _require_equal(path, listed[path], found)
    if kind.is_caption_required:
        samples.found.require(choice)
    if not len(samples):
        lacking = f"no sample has an {kind.noun}{' and a caption' if kind.is_caption_required else ''}"
        raise ValueError(f"{data}: {lacking} {samples.explain_skipped() if samples.skipped else '(there are none)'}")
    return samples


def is_tar_file(name: str) -> bool:
    """Return whether a name is that of a visible tar file, also of a compressed one."""
    return name.lower().endswith(TAR_SUFFIXES) and not name.startswith(".")


def find_tar_files(data: str) -> list[Path]:
    """Return the tar files of a folder, a file or a glob, in order; ValueError if there are none."""
    paths = sorted({path for path in list_files(data) if is_tar_file(path.name)}, key=Path.as_posix)
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
