"""Mutated records, towers, vocabularies and caption files: each is read, or refused by its reader's own error."""

import io
import json
import random
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save

from bench.data.captions.files import read_captions
from bench.experiments import EXPERIMENTS
from bench.labels.vocabulary import read_vocabulary
from bench.profilers.memory import read_status_bytes
from bench.record import read_record
from bench.towers.provenance import read_provenance
from models.checkpoint import read_weights
from tests.chaos.bound import Check, check_at_most, check_none, num_tries

FULL_MUTATED = 20_000  # of each reader
MOST_SECONDS, MOST_MIB = 5.0, 600.0  # of one input
TOKENS = (b"\0", b"\xff", b"-1", b"1e999", b"null", b"[]", b"{}", b'"', b"\xed\xa0\x80", b"9" * 30, b"[" * 2000)
RECORDS = Path(__file__).parents[1] / "records"


def run(fraction: float, seed: int, folder: Path) -> list[Check]:
    """Read so many mutations of valid files by each reader."""
    draw, count = random.Random(seed), num_tries(FULL_MUTATED, fraction)
    checks, slowest, before = list[Check](), 0.0, read_status_bytes("VmHWM") or 0
    for name, (suffix, read, whole) in readers().items():
        path, wrong = folder / f"{name}{suffix}", list[str]()
        for number in range(count):
            path.write_bytes(mutate(draw.choice(whole), draw))
            began = time.perf_counter()
            error = unexpected_error(read, path)
            slowest = max(slowest, time.perf_counter() - began)
            wrong += [f"{name}, mutation {number} of seed {seed}: {error}"] if error else []
        checks.append(
            check_none(f"mutated files of the {name} reader: ended otherwise than by its error", count, wrong)
        )
    mebibytes = ((read_status_bytes("VmHWM") or 0) - before) / 2**20
    return [
        *checks,
        check_at_most("the slowest mutated file", MOST_SECONDS, slowest, "s"),
        check_at_most("the most memory that mutated files took", MOST_MIB, mebibytes, "MiB"),
    ]


def readers() -> dict[str, tuple[str, Callable[[Path], object], list[bytes]]]:
    """Return for each reader the suffix of its files, the reader, and valid files."""
    return {
        "record": (".json", read_record, [path.read_bytes() for path in sorted(RECORDS.glob("*.json"))]),
        "tower": (".safetensors", read_provenance, [_tower()]),
        "weights": (".safetensors", read_weights, [_tower()]),
        "vocabulary": (".json", lambda path: read_vocabulary.__wrapped__(str(path)), [_vocabulary()]),
        "parquet": (".parquet", _read_all_captions, [_parquet("none"), _parquet("zstd")]),
        "tar": (".tar", _read_all_captions, [_tar()]),
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


def unexpected_error(read: Callable[[Path], object], path: Path) -> str:
    """Return an error that is no refusal, or nothing."""
    try:
        read(path)
    except (ValueError, OSError):
        return ""
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return f"{type(error).__name__}: {error}"
    return ""


def _read_all_captions(path: Path) -> None:
    for _ in read_captions(path, None):
        pass


def _tower() -> bytes:
    made = {"experiment": json.loads(msgspec.json.encode(EXPERIMENTS["catlip-tiny"])), "images": 96, "budgets": []}
    return save({"trunk.weight": torch.zeros(4, 4)}, {"made": json.dumps(made)})


def _vocabulary() -> bytes:
    labels = [{"synset": f"n{number:08}", "name": f"thing {number}", "count": 9 - number} for number in range(5)]
    return json.dumps({"rule": "corenet", "captions": 20, "labels": labels}).encode()


def _parquet(compression: str) -> bytes:
    table = pa.table({"key": ["a", "b", "c"], "caption": ["a dog", None, "\U0001f436 ein H\xfcnd"]})
    file = io.BytesIO()
    pq.write_table(table, file, compression=compression)
    return file.getvalue()


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in (("1.txt", b"a dog"), ("2.json", b'{"caption": "a cat"}'), ("3.jpg", b"\xff\xd8")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()
