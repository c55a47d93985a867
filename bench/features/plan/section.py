"""The tables of `plan --json`, as a section of the page of a comparison."""

from collections.abc import Sequence
from typing import Any

import msgspec
from markupsafe import Markup

from bench.console.console import PROGRAM
from bench.environment.files import prefix_errors
from bench.interfaces.sections import Block, Heading, PageContext, Text
from bench.tables.formats import UNMEASURED, format_rate
from bench.tables.tables import Cell, Column, Table

MAX_COLUMNS = 12  # a wider table is transposed
PLAN_FILE = "plan.json"
PREDICTION = Markup(
    "This is a prediction, not a measurement: from the steps of one device and a communication model "
    "(<code>plan.json</code> in the folder of the records)."
)


class PlanTable(msgspec.Struct, frozen=True):
    """A table of the document."""

    rows: list[dict[str, Any]]
    note: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError where the rows of a table differ in their columns."""
        if any(row.keys() != self.rows[0].keys() for row in self.rows):
            raise ValueError("rows of one table have different columns")


def build(page: PageContext) -> Sequence[Block] | None:
    """Return the tables of the plan beside the records; None without a plan.

    Raises ValueError for a document of another kind.
    """
    content = page.documents.get(PLAN_FILE)
    if content is None:
        return None
    broken = (msgspec.DecodeError, msgspec.ValidationError, RecursionError)
    with prefix_errors(f"{PLAN_FILE} is not a document of `{PROGRAM} plan --json`", broken):
        tables = msgspec.json.decode(content, type=dict[str, PlanTable])
    if not tables:
        raise ValueError(f"{PLAN_FILE} has no tables; write it again with `{PROGRAM} plan --json`")
    blocks: list[Block] = [Text(PREDICTION, "protocol")]
    for title, table in tables.items():
        if table.rows:
            blocks += [Heading(title), to_table(title, table)]
    return blocks


def to_table(title: str, figures: PlanTable) -> Table:
    """Return a table as the terminal prints it: a wide one transposed."""
    first = figures.rows[0]
    keys = list(first)
    columns = [Column(key, numeric=not isinstance(first[key], str)) for key in keys]
    rows = [[_value_cell(row[key]) for key in keys] for row in figures.rows]
    if len(keys) > MAX_COLUMNS:
        columns = [Column.text("figure"), *(Column(str(row[keys[0]])) for row in figures.rows)]
        rows = [[Cell(key), *(_value_cell(row[key]) for row in figures.rows)] for key in keys[1:]]
    return Table.of_rows(title, columns, rows, figures.note)


def _value_cell(value: object) -> Cell:
    if value is None:
        return Cell(UNMEASURED, why="unknown, or not applicable")
    if isinstance(value, float):
        return Cell(format_rate(value), value=value)
    return Cell(f"{value:,}", value=value) if isinstance(value, int) else Cell(str(value))
