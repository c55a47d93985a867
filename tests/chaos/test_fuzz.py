"""Mutated records, towers, vocabularies and caption files: each is read, or refused by its reader's own error."""

import io
import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save

from bench.data.captions.files import read_caption_batches
from bench.experiment.experiments import EXPERIMENTS
from bench.labels.vocabulary import read_vocabulary
from bench.profilers.memory import PeakMemory
from bench.records.record import read_record
from bench.towers.provenance import read_tower_provenance
from tests.chaos.conftest import Tries

MOST_SECONDS, MOST_MIB = 5.0, 600.0  # of one file
TOKENS = (b"\0", b"-1", b"1e999", b"null", b"{}", b'"', b"\xed\xa0\x80", b"9" * 30, b"[" * 2000)
RECORDS = Path(__file__).parents[1] / "records"


def records(_: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(RECORDS.glob("*.json"))]


def tower(_: Path) -> list[bytes]:
    made = {
        "experiment": json.loads(msgspec.json.encode(EXPERIMENTS["catlip-tiny"])),
        "images_seen": 96,
        "budgets": [],
    }
    return [save({"trunk.weight": torch.zeros(4, 4)}, {"made": json.dumps(made)})]


def vocabulary(_: Path) -> list[bytes]:
    labels = [
        {"key": f"n{number:08}", "name": f"thing {number}", "count": 9 - number, "captions": 1}
        for number in range(5)
    ]
    return [json.dumps({"rule": "corenet", "captions": 20, "labels": labels}).encode()]


def parquet(_: Path) -> list[bytes]:
    table = pa.table({"key": ["a", "b", "c"], "caption": ["a dog", None, "\U0001f436 ein H\xfcnd"]})
    files = [io.BytesIO(), io.BytesIO()]
    for file, compression in zip(files, ("none", "zstd"), strict=True):
        pq.write_table(table, file, compression=compression)
    return [file.getvalue() for file in files]


READERS: dict[str, tuple[Callable[[Path], list[bytes]], Callable[[Path], object]]] = {
    "record.json": (records, read_record),
    "tower.safetensors": (tower, read_tower_provenance),
    "vocabulary.json": (vocabulary, lambda path: read_vocabulary.__wrapped__(str(path))),
    "captions.parquet": (parquet, lambda path: [*read_caption_batches(path, None)]),
}


def mutate(content: bytes, draw: random.Random) -> bytes:
    """Return the content with up to six edits: flipped bits, lost, doubled or strange bytes, or its end lost."""
    mutated = bytearray(content)
    for _ in range(draw.randint(1, 6)):
        at, length = draw.randrange(len(mutated) + 1), draw.randint(1, 64)
        match draw.randrange(5):
            case 0 if at < len(mutated):
                mutated[at] ^= 1 << draw.randrange(8)
            case 1:
                del mutated[at : at + length]
            case 2:
                mutated[at:at] = mutated[at : at + length]
            case 3:
                mutated[at : at + draw.randint(0, 8)] = draw.choice(TOKENS)
            case 4 if draw.random() < 0.2:
                del mutated[at:]
    return bytes(mutated)


@pytest.mark.parametrize("name", READERS)
def test_mutated_file_is_read_or_refused(name: str, tries: Tries, tmp_path: Path) -> None:
    draw, (write, read) = tries.random, READERS[name]
    whole, path, slowest, peak = (
        write(tmp_path),
        tmp_path / name,
        0.0,
        PeakMemory(torch.device("cpu")),
    )
    for _ in range(tries(few=50, full=500)):
        path.write_bytes(mutate(draw.choice(whole), draw))
        began = time.process_time()
        with suppress(ValueError, OSError):
            read(path)
        slowest = max(slowest, time.process_time() - began)
    assert slowest <= MOST_SECONDS
    assert peak.read_peak_bytes_by_field()["peak_rss_bytes"] / 2**20 <= MOST_MIB
