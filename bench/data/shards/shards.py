"""Tar shards as a data set: which there are, whether they are what their manifest says, and the samples in them."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from glob import has_magic
from itertools import accumulate
from pathlib import Path
from typing import cast

import pyarrow as pa
from tqdm import tqdm

from bench.config import PACK_DATA, Experiment
from bench.console.console import PROGRAM, say
from bench.data.captions.captions import suffix_of
from bench.data.captions.shards import shards_of
from bench.data.manifest import pretrain_shards
from bench.data.shards.index import (
    EMBEDDINGS,
    IMAGES,
    Contents,
    Members,
    compared_path,
    index_path,
    read_index,
    write_index,
)
from bench.data.shards.manifest import NAME, ShardFacts, difference, facts_of, missing, read_manifest
from bench.data.subset import is_listed

MOST_LACKING, FEWEST_TOLERATED = 0.1, 10  # of all samples; so many are tolerated in any case


@dataclass(frozen=True, eq=False)
class Shards:
    """Shards and their indexes: little to hand to other processes, each of which opens them for itself.

    Equal to itself alone: to compare thousands of paths for every batch would take time.
    """

    data: str  # as a person named them
    paths: tuple[Path, ...]
    indexes: tuple[Path, ...]

    @property
    def contents(self) -> list[Contents]:
        """What each shard holds."""
        return [read_index(path)[1] for path in self.indexes]

    @property
    def skipped(self) -> Counter[str]:
        """Samples that cannot be used, by what they lack."""
        return sum((Counter(each.skipped) for each in self.contents), Counter[str]())

    @property
    def unverified(self) -> list[Path]:
        """Folders without a manifest."""
        return [folder for folder in sorted({path.parent for path in self.paths}) if read_manifest(folder) is None]

    def notes(self) -> list[str]:
        """Say what a person should know before training on them."""
        total, lacking = sum(each.samples for each in self.contents), self.skipped
        notes = [f"{self.data}: {total - lacking.total():,} samples in {len(self.paths):,} shards"]
        if lacking:
            notes.append(f"{self.data}: {lacking.total():,} of {total:,} samples are skipped ({told_counts(lacking)})")
        notes += [
            f"unverified: {folder} has no {NAME}; write one with: {PROGRAM} doctor --shards {self.data!r}"
            for folder in self.unverified
        ]
        return notes


class Samples:
    """The usable samples of shards in their order, by row."""

    def __init__(self, shards: Shards) -> None:
        self._paths, self._tables = shards.paths, [read_index(path)[0] for path in shards.indexes]
        self._ends = list(accumulate(map(len, self._tables)))
        self._begins = list(accumulate((each.samples for each in shards.contents), initial=0))

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def total(self) -> int:
        """Samples in all, those that cannot be used included."""
        return self._begins[-1]

    @property
    def keys(self) -> pa.ChunkedArray:
        """Every row's key."""
        return pa.chunked_array([chunk for table in self._tables for chunk in table["key"].chunks], pa.large_string())

    def key(self, row: int) -> str:
        """Return a sample's key."""
        return cast("str", self._value(row, "key"))

    def caption(self, row: int) -> str:
        """Return a sample's caption."""
        return cast("str", self._value(row, "caption"))

    def place(self, row: int) -> int:
        """Return a sample's place among all samples of all shards, where its stored labels are."""
        return self._begins[self._at(row)[0]] + cast("int", self._value(row, "place"))

    def image(self, row: int) -> bytes:
        """Read a sample's encoded image, or embeddings; ValueError where the shard has become shorter."""
        path, size = self._paths[self._at(row)[0]], cast("int", self._value(row, "size"))
        with path.open("rb", buffering=0) as file:
            file.seek(cast("int", self._value(row, "offset")))
            encoded = file.read(size)
        if len(encoded) != size:
            raise ValueError(f"{path} has become shorter since training began")
        return encoded

    def _at(self, row: int) -> tuple[int, int]:
        """Return a row's shard and its row there."""
        shard = bisect_right(self._ends, row)
        return shard, row - (self._ends[shard - 1] if shard else 0)

    def _value(self, row: int, column: str) -> object:
        shard, within = self._at(row)
        return self._tables[shard][column][within].as_py()


@lru_cache(maxsize=2)
def opened(shards: Shards) -> Samples:
    """Return the samples, opened once a process; of many trainings in one, the last two's are kept."""
    return Samples(shards)


def shards_for(experiment: Experiment, cache_folder: Path) -> Shards:
    """Open an experiment's shards: of images, or of embeddings where it reads these.

    Raises ValueError where too many samples cannot be used, unless a file lists those to see, which all can.
    """
    members = IMAGES if experiment.embedding_channels is None else EMBEDDINGS
    shards = open_shards(experiment.data, cache_folder, members)
    lacking, total = shards.skipped, opened(shards).total
    if lacking.total() > max(FEWEST_TOLERATED, MOST_LACKING * total) and not is_listed(experiment.subset):
        raise ValueError(
            f"{shards.data}: {lacking.total():,} of {total:,} samples cannot be used ({told_counts(lacking)}), "
            f"more than {MOST_LACKING:.0%}: put that right, or list the keys of those to see: --set subset=FILE.csv"
        )
    return shards


def open_shards(data: str, cache_folder: Path, members: Members = IMAGES) -> Shards:
    """Find shards, compare them with their manifests, and index those that are not.

    A listed shard is compared by sha256 when it is seen first, and again when it was written to since. Raises
    ValueError naming the shard that cannot be read to its end or is not what a manifest says, and where no sample can
    be used.
    """
    paths = shard_paths(data)
    listed = _listed(paths)
    sums = {path: facts.sha256 for path, facts in listed.items()}
    indexes = {path: index_path(path, cache_folder, members, sums.get(path, "")) for path in paths}
    compared = {path: compared_path(path, indexes[path]) for path in listed}
    todo = [path for path in paths if not (indexes[path].is_file() and compared.get(path, indexes[path]).is_file())]
    for path in tqdm(todo, desc="reading shards", unit="shard", disable=not todo, leave=False):
        if path in listed:
            _require_equal(path, listed[path], facts_of(path))
        if not indexes[path].is_file():
            write_index(path, indexes[path], members)
        if path in compared:
            compared[path].touch()
    shards = Shards(data, tuple(paths), tuple(indexes[path] for path in paths))
    _require_as_listed(shards)
    if not len(opened(shards)):
        told = told_counts(shards.skipped) or "there are none"
        raise ValueError(f"{data}: no sample has an {members.what} and a caption ({told})")
    return shards


def told_counts(counts: Counter[str]) -> str:
    """Put counts by class in words."""
    return ", ".join(f"{reason}: {count:,}" for reason, count in sorted(counts.items()))


def tell(shards: Shards) -> None:
    """Print what a person should know."""
    for note in shards.notes():
        say(note)


def shard_paths(data: str) -> list[Path]:
    """Return the shards that an experiment's `data` stands for, in order; ValueError where there are none."""
    return pretrain_shards() if data == PACK_DATA else tar_shards(data)


def tar_shards(data: str) -> list[Path]:
    """Return the tar files that a folder, a file or a glob stands for, in order; ValueError where there are none."""
    if not (Path(data).exists() or has_magic(data)):
        raise ValueError(f"data={data}: no folder, file or glob of tar shards (the shipped pack is {PACK_DATA!r})")
    found = [shard.path for shard in shards_of([data])]
    for path in found:
        if suffix_of(path) in (".tar.gz", ".tgz"):
            raise ValueError(f"{path}: a compressed shard has no random access; unpack it with: gunzip {path}")
    paths = [path for path in found if suffix_of(path) == ".tar"]
    if not paths:
        raise ValueError(f"{data}: no .tar shard there (there are {', '.join(sorted({p.suffix for p in found}))})")
    return paths


def _listed(paths: Iterable[Path]) -> dict[Path, ShardFacts]:
    """Return what manifests say of shards, of those that one lists."""
    manifests = {folder: read_manifest(folder) for folder in {path.parent for path in paths}}
    found = ((path, manifests[path.parent]) for path in paths)
    return {path: manifest.shards[path.name] for path, manifest in found if manifest and path.name in manifest.shards}


def _require_equal(path: Path, listed: ShardFacts, found: ShardFacts) -> None:
    if wrong := difference(listed, found):
        raise ValueError(f"{path} is not what {path.with_name(NAME)} says: {wrong}")


def _require_as_listed(shards: Shards) -> None:
    for folder in {path.parent for path in shards.paths}:
        if (manifest := read_manifest(folder)) is None:
            continue
        if lost := missing(folder, manifest, shards.data):
            raise ValueError(f"{folder / lost[0]} is missing, {folder / NAME} lists it")
        for path, contents in zip(shards.paths, shards.contents, strict=True):
            if path.parent != folder:
                continue
            if (listed := manifest.shards.get(path.name)) is None:
                raise ValueError(f"{path} is not in {folder / NAME}; remove that file to write it anew")
            found = ShardFacts(samples=contents.samples, bytes=path.stat().st_size, sha256=listed.sha256)
            _require_equal(path, listed, found)
