"""pytest-benchmark's documents: what one process of the suites leaves. No torch here."""

import json
from pathlib import Path
from typing import Any

import msgspec

from bench.environment.files import written_whole

FINGERPRINT = "fingerprint"  # the entry of `machine_info` that our suites write; see `fingerprint_of`
UNVERSIONED = ("", "unversioned", "unknown")  # what pytest-benchmark calls a commit that it does not know


class Stats(msgspec.Struct, frozen=True):
    """The figures of one benchmark in one process, in seconds."""

    median: float
    iqr: float
    rounds: int
    iterations: int = 1
    data: tuple[float, ...] = ()


class Benchmark(msgspec.Struct, frozen=True):
    """One timed part."""

    name: str
    stats: Stats
    group: str | None = None
    fullname: str = ""
    extra_info: dict[str, Any] = {}


class CommitInfo(msgspec.Struct, frozen=True):
    """What was timed."""

    id: str = ""
    time: str | None = None  # of the commit, ISO 8601
    dirty: bool = False


class Document(msgspec.Struct, frozen=True):
    """What pytest-benchmark wrote of one process; fields that are not here stay in the file."""

    benchmarks: tuple[Benchmark, ...]
    datetime: str = ""
    machine_info: dict[str, Any] = {}
    commit_info: CommitInfo = CommitInfo()
    turn: str = ""  # alike in documents of processes that took turns; "": none did


def document_of(content: bytes, name: str) -> Document:
    """Decode a document; ValueError says what is wrong with the one of this name."""
    try:
        return msgspec.json.decode(content, type=Document)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{name}: not a document of pytest-benchmark: {error}") from None


def machine_of(document: Document) -> str:
    """Return the fingerprint, or what a document of anybody else's suites tells of its machine."""
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
    return ", ".join(str(part) for part in parts if part) or "a machine that is not told"


def keep(measured: Path, path: Path, fingerprint: str, turn: str) -> None:
    """Keep a document for a history: with the machine and the turn, without the seconds of every single round.

    The unit of a comparison is the process, so that its rounds are kept as their statistics alone.
    """
    document = json.loads(measured.read_bytes())
    document["turn"] = turn
    document.setdefault("machine_info", {})[FINGERPRINT] = fingerprint
    document["machine_info"].get("cpu", {}).pop("flags", None)
    for benchmark in document["benchmarks"]:
        benchmark["stats"].pop("data", None)
    with written_whole(path) as part:
        part.write_text(json.dumps(document, indent=1, allow_nan=False))


def require_measured(document: Document, name: str) -> None:
    """Raise ValueError where a document holds no benchmark: nothing measured is no good news."""
    if not document.benchmarks:
        raise ValueError(f"{name} measured nothing: it holds no benchmark")
