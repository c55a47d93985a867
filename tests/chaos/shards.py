"""Shards cut anywhere and with any bit flipped: none is shorter, or another, without a word."""

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench.data.shards.facts import MANIFEST_NAME, read_index
from bench.data.sources.tar_shards import open_shards
from tests.chaos.bound import Check, check_none, num_tries
from tests.chaos.made import write_shards
from tests.chaos.short import short_experiment, train_in_process

FULL = 400
REFUSED, COUNTED, UNSEEN, HARMLESS = "refused by name", "counted", "another content unseen", "without effect"
FEWER, NAMELESS = "fewer samples without a warning", "refused without a name"
WIDE = 3000  # pixels of images whose shards are many times as large as what is hashed of a shard to name its index
TICK = 0.02  # seconds that a file system's clock may not advance: two writes within them leave the same times
Damage = Callable[[bytes, random.Random], bytes]
Content = tuple[dict[str, tuple[str, bytes]], Counter[str]]  # samples by key, and how many lack what


def truncate(content: bytes, draw: random.Random) -> bytes:
    """Leave out the end, from any byte on."""
    return content[: draw.randrange(len(content))]


def flip_bit(content: bytes, draw: random.Random) -> bytes:
    """Turn one bit round."""
    corrupted = bytearray(content)
    corrupted[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(corrupted)


DAMAGES: dict[str, Damage] = {"cut anywhere": truncate, "with a flipped bit": flip_bit}


def run(fraction: float, seed: int, folder: Path) -> list[Check]:
    """Damage shards that a manifest lists, and shards that none does."""
    count, bounds = num_tries(FULL, fraction), []
    for name, damage in DAMAGES.items():
        for warm, which in ((False, "never seen"), (True, "larger and indexed")):
            half = max(1, count // 2)
            listed = damage_shards(folder, damage, half, seed, listed=True, warm=warm)
            wrong = [text for outcome, all_told in listed.items() if outcome != REFUSED for text in all_told]
            bounds.append(check_none(f"shards {name}, {which}, with a manifest: silent losses", half, wrong))
    for damage in DAMAGES.values():
        unlisted = damage_shards(folder, damage, count, seed, listed=False)
        wrong = unlisted.get(FEWER, []) + unlisted.get(NAMELESS, [])
        text = ", ".join(f"{outcome} {len(all_told)}" for outcome, all_told in sorted(unlisted.items()))
        bounds.append(
            check_none(f"the same without a manifest: fewer samples without a warning ({text})", count, wrong)
        )
    return [*bounds, check_record(folder)]


def damage_shards(
    folder: Path, damage: Damage, count: int, seed: int, *, listed: bool, warm: bool = False
) -> dict[str, list[str]]:
    """Damage one of three shards at a time; return the tries by what came of them.

    Where the cache is `warm`, a training has read the shards when they were whole, and they are larger.
    """
    draw, data = random.Random(seed), folder / "data"
    paths, found = write_shards(data, listed=listed, width=WIDE if warm else 30), dict[str, list[str]]()
    whole = read_content(data, folder / "cache")
    for number in range(count):
        path = draw.choice(paths)
        before = path.read_bytes()
        time.sleep(TICK if warm else 0)
        path.write_bytes(damage(before, draw))
        try:
            outcome = classify_outcome(whole, read_content(data, folder / "cache", warm=warm))
        except ValueError as error:
            outcome = REFUSED if path.name in str(error) else NAMELESS
        found.setdefault(outcome, []).append(f"{outcome}: {path.name}, try {number} of seed {seed}")
        path.write_bytes(before)
    shutil.rmtree(data)
    return found


def read_content(data: Path, cache: Path, *, warm: bool = False) -> Content:
    """Read shards as a training would that never saw them, or where the cache is `warm`, one that did."""
    if not warm:
        shutil.rmtree(cache, ignore_errors=True)
    read_index.cache_clear()
    samples = open_shards(str(data), cache)
    return {
        samples.key(row): (samples.caption(row), samples.image(row)) for row in range(len(samples))
    }, samples.skipped


def classify_outcome(whole: Content, found: Content) -> str:
    """Say what a damage did that nothing refused."""
    if found == whole:
        return HARMLESS
    if len(found[0]) + found[1].total() < len(whole[0]) + whole[1].total():
        return FEWER
    return UNSEEN if found[1] == whole[1] else COUNTED


def check_record(folder: Path) -> Check:
    """Train on shards with a manifest and without, and look what the records say."""
    said = {}
    for listed in (True, False):
        data = folder / f"listed-{listed}"
        write_shards(data, listed=listed)
        said[listed] = train_in_process(short_experiment("catlip", data=str(data)), folder).unverified
    holds = said == {True: False, False: True}
    return Check(f"the record of a training without {MANIFEST_NAME}", "unverified", str(said), holds)
