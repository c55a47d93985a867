"""The section on components that pytest-benchmark timed alone."""

from collections.abc import Sequence

from bench.interfaces.sections import Block, Download, PageContext, Section, Text
from bench.measure.observations import parse_benchmark_file
from bench.tables.formats import format_count, format_quantity
from bench.tables.tables import Cell, Column, Table

SUITES_FILE = "suites.json"
NOTE = (
    "pytest-benchmark gives the median and interquartile range over the rounds of one process. These are times of "
    "components; the images per second of a step are above, from records."
)


def _build(page: PageContext) -> Sequence[Block]:
    if (document := page.documents.get(SUITES_FILE)) is None:
        return [
            Text(f"The folder of the records has no {SUITES_FILE} of pytest-benchmark.", "empty")
        ]
    file = Download(SUITES_FILE, "the document of pytest-benchmark", document)
    return [_components_table(document), Text(NOTE, "under"), file]


SECTION = Section("suites", "Components, timed alone", "Components", _build, [SUITES_FILE])


def _components_table(document: bytes) -> Table:
    """Show median and interquartile range of each benchmark in a document of pytest-benchmark, by group.

    Raises ValueError for a document of another kind.
    """
    columns = [
        Column.text("benchmark"),
        Column("median"),
        Column("IQR", "interquartile range"),
        Column("rounds"),
    ]
    groups: dict[str, list[list[Cell]]] = {}
    suites = parse_benchmark_file(document, SUITES_FILE)
    for one in sorted(suites.benchmarks, key=lambda one: (one.group or "", one.name)):
        times = [
            Cell.of(time, lambda seconds: format_quantity(seconds, "s"))
            for time in (one.stats.median, one.stats.iqr)
        ]
        groups.setdefault(one.group or "no group", []).append(
            [Cell.of(one.name), *times, Cell.of(one.stats.rounds, format_count)]
        )
    return Table.of_groups("Components, timed by pytest-benchmark", columns, groups)
