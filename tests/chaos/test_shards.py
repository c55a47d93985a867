"""Shards cut anywhere and with any bit flipped: none is shorter, or another, without a word."""

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.data.sample_index import read_index
from bench.data.sources.tar_shards import open_shards
from tests.chaos.conftest import Tries
from tests.chaos.made import write_shards
from tests.chaos.short import short_experiment, train_in_process

REFUSED, COUNTED, UNSEEN, HARMLESS = "refused by name", "counted", "another content unseen", "without effect"
FEWER, NAMELESS = "fewer samples without a warning", "refused without a name"
WIDE = 3000  # pixels of images whose shards are many times as large as what is hashed of a shard to name its index
TICK = 0.02  # seconds that a file system's clock may not advance: two writes within them leave the same times
Damage = Callable[[bytes, random.Random], bytes]
Content = tuple[dict[str, tuple[str, bytes]], Counter[str]]  # samples by key, and how many lack what


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def flip_bit(content: bytes, draw: random.Random) -> bytes:
    corrupted = bytearray(content)
    corrupted[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(corrupted)


def outcomes(
    folder: Path, damage: Damage, count: int, draw: random.Random, *, listed: bool, warm: bool = False
) -> Counter[str]:
    """Damage one of three shards at a time; return how often what came of it.

    Where the cache is `warm`, a training has read the shards when they were whole, and they are larger.
    """
    data, found = folder / "data", Counter[str]()
    paths = write_shards(data, listed=listed, width=WIDE if warm else 30)
    whole = content_of(data, folder / "cache")
    for number in range(count):
        path = draw.choice(paths)
        before = path.read_bytes()
        time.sleep(TICK if warm else 0)
        path.write_bytes(damage(before, draw))
        try:
            cache = folder / ("cache" if warm else f"cache{number}")
            found[outcome_of(whole, content_of(data, cache))] += 1
        except ValueError as error:
            found[REFUSED if path.name in str(error) else NAMELESS] += 1
        path.write_bytes(before)
    return found


def content_of(data: Path, cache: Path) -> Content:
    """Read shards as a training would."""
    read_index.cache_clear()
    samples = open_shards(str(data), cache)
    content = {samples.key(row): (samples.caption(row), samples.image(row)) for row in range(len(samples))}
    return content, samples.skipped


def outcome_of(whole: Content, found: Content) -> str:
    """Say what a damage did that nothing refused."""
    if found == whole:
        return HARMLESS
    if len(found[0]) + found[1].total() < len(whole[0]) + whole[1].total():
        return FEWER
    return UNSEEN if found[1] == whole[1] else COUNTED


@pytest.mark.parametrize("warm", [False, True], ids=["never seen", "larger and indexed"])
@pytest.mark.parametrize("damage", [cut, flip_bit])
def test_damaged_shard_of_a_manifest_is_refused_by_name(
    damage: Damage, warm: bool, tries: Tries, tmp_path: Path
) -> None:
    found = outcomes(tmp_path, damage, tries(few=2, full=200), tries.random, listed=True, warm=warm)
    assert found.keys() == {REFUSED}


@pytest.mark.parametrize("damage", [cut, flip_bit])
def test_damaged_shard_without_a_manifest_loses_no_sample_unseen(damage: Damage, tries: Tries, tmp_path: Path) -> None:
    found = outcomes(tmp_path, damage, tries(few=4, full=400), tries.random, listed=False)
    assert not {FEWER, NAMELESS} & found.keys()


@pytest.mark.parametrize("listed", [True, False])
def test_record_of_a_training_says_whether_its_shards_were_verified(listed: bool, tmp_path: Path) -> None:
    write_shards(tmp_path / "data", listed=listed)
    experiment = short_experiment("catlip", data=str(tmp_path / "data"))
    assert train_in_process(experiment, tmp_path).unverified == (not listed)
