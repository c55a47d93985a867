"""The table of missing figures with their reasons, collected from the other tables of the page."""

from collections.abc import Mapping, Sequence

from bench.record import Measured, Memory, Speed, Training, Transfer
from reports.accuracy.pareto import cost_axes
from reports.render.formats import listed
from reports.render.frames import ComparisonRecords
from reports.render.tables import NOT_MEASURED, Cell, Column, HtmlTable

KINDS: Mapping[str, type[Measured]] = {
    "speed": Speed,
    "memory": Memory,
    "training losses": Training,
    "transfer accuracy": Transfer,
}
MOST_NAMED = 6


def unmeasured_table(comparison: ComparisonRecords, tables: Sequence[HtmlTable]) -> HtmlTable:
    """List each figure that was not measured, with its rows and the reason."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for name, kind in KINDS.items():
        if not comparison.of(kind):
            found[name, "this comparison has no run of this kind"] = {"all": None}
    for table in tables:
        for what, why, of in _dashes(table):
            found.setdefault((what, why), {})[of] = None
    for record, speed in comparison.of(Speed):
        of = comparison.label(record.experiment.name) if record.experiment else "none"
        for reading, reason in speed.not_measured.items():
            found.setdefault((reading, reason), {})[of] = None
    _, energy = cost_axes(comparison)
    for name, reason in energy.why_not.items():
        found.setdefault(("energy", reason), {})[comparison.label(name)] = None
    reasons: dict[tuple[str, str], dict[str, None]] = {}  # figures by rows and reason
    for (what, why), names in found.items():
        reasons.setdefault((_named([*names]), why), {})[what] = None
    rows = [[Cell(listed([*what])), Cell.of(of), Cell.of(why)] for (of, why), what in reasons.items()]
    return HtmlTable.of_rows("Not measured, and why", Column.texts("figures", "of", "reason"), rows)


def _dashes(table: HtmlTable) -> list[tuple[str, str, str]]:
    """Return (column, reason, row) of each cell of a table that was not measured."""
    return [
        (column.title, cell.why.removeprefix(NOT_MEASURED), row[0].text)
        for group in table.groups
        for row in group.rows
        for column, cell in zip(table.columns, row, strict=False)
        if cell.why.startswith(NOT_MEASURED)
    ]


def _named(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return listed(names) if more <= 0 else f"{', '.join(names[:MOST_NAMED])} and {more} more"
