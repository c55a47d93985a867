"""pytest-benchmark's document -> a table of the parts' timings."""

from pathlib import Path

import msgspec

from reports.tables import Cell, Column, Group, Table

FILE = "suites.json"
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


class Stats(msgspec.Struct, frozen=True):
    """The figures that the page shows of a benchmark, in seconds."""

    median: float
    iqr: float
    rounds: int


class Benchmark(msgspec.Struct, frozen=True):
    """One timed part."""

    name: str
    stats: Stats
    group: str | None = None


class Suites(msgspec.Struct, frozen=True):
    """What pytest-benchmark wrote; whatever else it holds stays in the download."""

    benchmarks: tuple[Benchmark, ...]
    datetime: str = ""


def read_suites(results: Path) -> bytes | None:
    """Return the document's bytes; None where the folder has none."""
    path = results / FILE
    return path.read_bytes() if path.is_file() else None


def suites_of(document: bytes) -> Suites:
    """Decode the document; ValueError says what is wrong with it."""
    try:
        return msgspec.json.decode(document, type=Suites)
    except msgspec.DecodeError as error:
        raise ValueError(f"{FILE}: not a document of pytest-benchmark: {error}") from None


def suites_table(suites: Suites) -> Table:
    """Show median and spread of each benchmark, under its group."""
    columns = [
        Column("benchmark", numeric=False),
        Column("median"),
        Column("IQR", "between the quartiles"),
        Column("rounds"),
    ]
    groups: dict[str, list[list[Cell]]] = {}
    for one in sorted(suites.benchmarks, key=lambda one: (one.group or "", one.name)):
        row = [
            Cell(one.name, "", one.name),
            Cell(duration(one.stats.median), "", one.stats.median),
            Cell(duration(one.stats.iqr), "", one.stats.iqr),
            Cell(f"{one.stats.rounds:,}", "", one.stats.rounds),
        ]
        groups.setdefault(one.group or "no group", []).append(row)
    return Table("Parts, timed by pytest-benchmark", columns, [Group(name, rows) for name, rows in groups.items()])


def duration(seconds: float) -> str:
    """Write seconds in the unit that suits them, with three digits."""
    size, unit = next(((size, unit) for size, unit in UNITS if seconds >= size), UNITS[-1])
    return f"{seconds / size:.3g} {unit}"
