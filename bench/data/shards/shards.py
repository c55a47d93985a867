"""Tar shards as a data set: discovery, verification against manifests, digests, and random access to samples."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from glob import has_magic
from hashlib import sha256
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
from msgspec.structs import replace

from bench.config import Experiment
from bench.console.console import PROGRAM
from bench.console.progress import show_progress
from bench.data.captions.files import compound_suffix, digest_file_samples, list_files
from bench.data.manifest import pretrain_shards
from bench.data.shards import facts
from bench.data.shards.facts import EMBEDDINGS, IMAGES, MANIFEST_NAME, MemberKind, ShardContents, ShardFacts
from bench.data.shards.layout import DOTTED_NAMES, advise, format_suffixes
from bench.data.subset import is_key_file
from bench.fields import PACK_DATA

MAX_UNUSABLE_FRACTION, MIN_TOLERATED = 0.1, 10  # largest fraction of unusable samples; this many are always tolerated
TAR_REMEDY = (
    "a shard is a tar file with KEY.jpg and KEY.txt (its caption) beside each other; "
    "make one of a folder of such files with: tar --sort=name -cf 00000.tar -C FOLDER ."
)


@dataclass(frozen=True, eq=False)
class Shards:
    """Paths of shards and of their indexes: small to pickle for other processes, each of which opens them.

    Compared by identity: comparing thousands of paths per batch would take time.
    """

    data: str  # as in the experiment
    paths: tuple[Path, ...]
    indexes: tuple[Path, ...]
    kind: MemberKind

    @property
    def contents(self) -> list[ShardContents]:
        return [facts.read_index(path)[1] for path in self.indexes]

    @property
    def skipped(self) -> Counter[str]:
        """Number of unusable samples by class."""
        return sum((Counter(each.skipped) for each in self.contents), Counter[str]())

    @property
    def empty_captions(self) -> int:
        """Number of usable samples whose caption has no text."""
        return sum(each.empty_captions for each in self.contents)

    @property
    def layout(self) -> list[str]:
        """Sentences on arrangements of members that lose samples, with their remedies."""
        return advise(sum((Counter(each.layout) for each in self.contents), Counter[str]()))

    def explain_skipped(self) -> str:
        """Describe the unusable samples: how many lack what, and why that may be."""
        suffixes = sum((Counter(each.suffixes) for each in self.contents), Counter[str]())
        members = [f"their members are {format_suffixes(suffixes)}; {self.kind.accepted}"] if suffixes else []
        return "; ".join([f"({format_counts(self.skipped)})", *(self.layout or members)])

    @property
    def unverified(self) -> list[Path]:
        """Folders without a manifest."""
        folders = sorted({path.parent for path in self.paths})
        return [folder for folder in folders if facts.read_manifest(folder) is None]

    def notes(self) -> list[str]:
        """Return log lines on the number of samples, skipped ones, empty captions and folders without a manifest."""
        total, lacking = sum(each.samples for each in self.contents), self.skipped
        notes = [f"{self.data}: {total - lacking.total():,} samples in {len(self.paths):,} shards"]
        if lacking:
            notes += [f"{self.data}: {lacking.total():,} of {total:,} samples are skipped ({format_counts(lacking)})"]
        notes += [f"{self.data}: {sentence}" for sentence in self.layout]
        if empty := self.empty_captions:
            notes += [f"{self.data}: {empty:,} of {total:,} samples have an empty caption; they are used"]
        notes += [
            f"unverified: {folder} has no {MANIFEST_NAME}; write one with: {PROGRAM} doctor --shards {self.data!r}"
            for folder in self.unverified
        ]
        return notes


class Samples:
    """The usable samples of shards in order, by row."""

    def __init__(self, shards: Shards) -> None:
        tables = [facts.read_index(path)[0] for path in shards.indexes]
        self._paths, self._ends = shards.paths, list(accumulate(map(len, tables)))
        joined = pa.concat_tables(tables)
        self._columns = dict(zip(joined.column_names, joined.columns, strict=True))
        self._begins = list(accumulate((each.samples for each in shards.contents), initial=0))

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def total(self) -> int:
        """Number of samples, unusable ones included."""
        return self._begins[-1]

    @property
    def keys(self) -> pa.ChunkedArray:
        """Keys of all rows."""
        return self._columns["key"]

    def key(self, row: int) -> str:
        return str(self._columns["key"][row])

    def caption(self, row: int) -> str:
        return str(self._columns["caption"][row])

    def position(self, row: int) -> int:
        """Return a sample's index among all samples of all shards, by which stored labels are addressed."""
        return self._begins[self._shard_of(row)] + int(self._columns["place"][row].as_py())

    def image(self, row: int) -> bytes:
        """Read a sample's encoded image or embeddings; ValueError if the shard has become shorter."""
        path, size = self._paths[self._shard_of(row)], self._columns["size"][row].as_py()
        with path.open("rb", buffering=0) as file:
            file.seek(self._columns["offset"][row].as_py())
            encoded = file.read(size)
        if len(encoded) != size:
            raise ValueError(f"{path} has become shorter since training began")
        return encoded

    def _shard_of(self, row: int) -> int:
        return bisect_right(self._ends, row)


open_samples = lru_cache(maxsize=2)(Samples)  # opened once per process; only the last two data sets stay open


def open_experiment_shards(experiment: Experiment, cache_folder: Path) -> Shards:
    """Open an experiment's shards; ValueError if too many samples are unusable, unless a file lists those to use.

    A method that reads no captions sees the same images as the others, or all images where the others are refused.
    """
    kind = IMAGES if experiment.image.embedding_channels is None else EMBEDDINGS
    if not experiment.reads_captions:
        with suppress(ValueError):
            return _open_usable_shards(experiment, cache_folder, kind)
        kind = kind.with_optional_caption
    return _open_usable_shards(experiment, cache_folder, kind)


def _open_usable_shards(experiment: Experiment, cache_folder: Path, kind: MemberKind) -> Shards:
    shards = open_shards(experiment.input.data, cache_folder, kind)
    lacking, total = shards.skipped, open_samples(shards).total
    tolerated = max(MIN_TOLERATED, MAX_UNUSABLE_FRACTION * total)
    if is_key_file(experiment.input.subset):
        return shards
    if lacking.total() > tolerated:
        raise ValueError(
            f"{shards.data}: {lacking.total():,} of {total:,} samples cannot be used, more than "
            f"{MAX_UNUSABLE_FRACTION:.0%} {shards.explain_skipped()}; repair the shards, or list the keys to use: "
            "--set subset=FILE.csv"
        )
    if (lost := sum(each.layout.get(DOTTED_NAMES, 0) for each in shards.contents)) > tolerated:
        (advice,) = advise(Counter({DOTTED_NAMES: lost}))
        raise ValueError(f"{shards.data}: {advice}; or list the keys to use: --set subset=FILE.csv")
    return shards


def open_shards(data: str, cache_folder: Path, kind: MemberKind = IMAGES) -> Shards:
    """Find shards, verify them against their manifests, and index those without an index.

    A listed shard is compared by SHA-256 when it is first used, and again after a write. Raises ValueError that names a
    shard that cannot be read to its end or differs from its manifest, and if no sample is usable.
    """
    paths = find_shards(data)
    listed = _read_manifests(paths, data)
    sums = {path: listed[path].sha256 if path in listed else "" for path in paths}
    indexes = {path: facts.index_path(path, cache_folder, kind, sums[path]) for path in paths}
    markers = {path: facts.verified_marker_path(path, indexes[path]) for path in listed}
    unread = [path for path in paths if not (indexes[path].is_file() and markers.get(path, indexes[path]).is_file())]
    for path in show_progress(unread, len(unread), "reading shards", "shards"):
        if path in listed:
            _require_equal(path, listed[path], facts.compute_facts(path))
        if not indexes[path].is_file():
            facts.write_index(path, indexes[path], kind)
        if path in markers:
            markers[path].touch()
    shards = Shards(data, tuple(paths), tuple(indexes[path] for path in paths), kind)
    for path, indexed in zip(paths, shards.contents, strict=True):
        if path in listed:
            found = replace(listed[path], samples=indexed.samples, bytes=path.stat().st_size)
            _require_equal(path, listed[path], found)
    if not len(open_samples(shards)):
        lacking = f"no sample has an {kind.noun}{' and a caption' if kind.is_caption_required else ''}"
        raise ValueError(f"{data}: {lacking} {shards.explain_skipped() if shards.skipped else '(there are none)'}")
    return shards


def format_counts(counts: Counter[str]) -> str:
    """Format counts by class."""
    return ", ".join(f"{reason}: {count:,}" for reason, count in sorted(counts.items()))


def find_shards(data: str) -> list[Path]:
    """Return the shards of an experiment's `data`, in order; ValueError if there are none."""
    return pretrain_shards() if data == PACK_DATA else find_tar_files(data)


def find_tar_files(data: str) -> list[Path]:
    """Return the tar files of a folder, a file or a glob, in order; ValueError if there are none."""
    if not (Path(data).exists() or has_magic(data)):
        raise ValueError(f"data={data}: no folder, file or glob of tar shards (the shipped pack is {PACK_DATA!r})")
    found = sorted({*list_files(data)}, key=Path.as_posix)
    for path in found:
        if compound_suffix(path) in (".tar.gz", ".tgz"):
            raise ValueError(f"{path}: a compressed shard has no random access; decompress it with: gunzip {path}")
    paths = [path for path in found if compound_suffix(path) == ".tar"]
    if not paths:
        there = format_suffixes(Counter(path.suffix[1:].lower() for path in found))
        raise ValueError(
            f"{data}: no .tar shard found, {f'but {there}' if there else 'and no other file'}: {TAR_REMEDY}"
        )
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


def files_digest(files: Iterable[Path]) -> str:
    """Return a digest that changes if a file is replaced, added or removed."""
    return sha256("".join(map(digest_file_samples, files)).encode()).hexdigest()[:16]


def inputs_digest(experiment: Experiment) -> str:
    """Return a digest of an experiment's shards, its list of keys, its vocabularies and its teacher's file."""
    names = (
        experiment.input.subset,
        experiment.targets.synset_vocabulary,
        experiment.targets.subword_vocabulary,
        experiment.targets.teacher,
    )
    named = [Path(name) for name in names if name is not None]
    return files_digest([*find_shards(experiment.input.data), *(path for path in named if path.is_file())])
