"""Documents of pytest-benchmark, one per process of the suites. No torch here."""

import json
from pathlib import Path
from typing import Any

import msgspec

from bench.environment.files import atomic_write

FINGERPRINT = "fingerprint"  # entry of `machine_info` written by `save_document`; see `make_fingerprint`
UNVERSIONED = ("", "unversioned", "unknown")  # pytest-benchmark's ids of an unknown commit


class Stats(msgspec.Struct, frozen=True):
    """Statistics of one benchmark in one process, in seconds."""

    median: float
    iqr: float
    rounds: int
    iterations: int = 1
    data: tuple[float, ...] = ()


class Benchmark(msgspec.Struct, frozen=True):
    """One benchmark."""

    name: str
    stats: Stats
    group: str | None = None
    fullname: str = ""
    extra_info: dict[str, Any] = {}


class CommitInfo(msgspec.Struct, frozen=True):
    """The commit that was timed."""

    id: str = ""
    time: str | None = None  # of the commit, ISO 8601
    dirty: bool = False


class Document(msgspec.Struct, frozen=True):
    """A document of pytest-benchmark; other fields of the file are ignored."""

    benchmarks: tuple[Benchmark, ...]
    datetime: str = ""
    machine_info: dict[str, Any] = {}
    commit_info: CommitInfo = CommitInfo()
    turn: str = ""  # equal in documents of interleaved processes; "" if not interleaved


def parse_document(content: bytes, name: str) -> Document:
    """Decode a document; `name` is the file's in the ValueError for invalid content."""
    try:
        return msgspec.json.decode(content, type=Document)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{name}: not a document of pytest-benchmark: {error}") from None


def machine_fingerprint(document: Document) -> str:
    """Return the machine's fingerprint, or a description from pytest-benchmark's own fields."""
    info = document.machine_info
    if isinstance(info.get(FINGERPRINT), str):
        return str(info[FINGERPRINT])
    cpu: dict[str, Any] = found if isinstance(found := info.get("cpu"), dict) else {}
    parts = [
        cpu.get("brand_raw") or info.get("machine"),
        f"{cpu['count']} logical cores" if cpu.get("count") else None,
        info.get("system"),
        f"python {info['python_version']}" if info.get("python_version") else None,
    ]
    return ", ".join(str(part) for part in parts if part) or "unknown machine"


def save_document(measured: Path, path: Path, fingerprint: str, turn: str) -> None:
    """Store a document with the machine and the turn, without the seconds of single rounds.

    Comparisons are over processes and use the statistics of a process's rounds.
    """
    document = json.loads(measured.read_bytes())
    document["turn"] = turn
    document.setdefault("machine_info", {})[FINGERPRINT] = fingerprint
    document["machine_info"].get("cpu", {}).pop("flags", None)
    for benchmark in document["benchmarks"]:
        benchmark["stats"].pop("data", None)
    with atomic_write(path) as part:
        part.write_text(json.dumps(document, indent=1, allow_nan=False))


def require_measured(document: Document, name: str) -> None:
    """Raise ValueError if a document holds no benchmark."""
    if not document.benchmarks:
        raise ValueError(f"{name} measured nothing: it holds no benchmark")
