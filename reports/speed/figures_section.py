"""The section on figures of measurements, which extensions add."""

from collections.abc import Sequence

from bench.interfaces.sections import Block, Download, Heading, PageContext, Section
from bench.measure.figures import figure_tables, summarize_figures
from bench.tables.tables import Table


def _build(page: PageContext) -> Sequence[Block] | None:
    records, names = page.comparison.records, [*page.comparison.experiments]
    rows = [
        {
            "measurement": row.measurement,
            "figure": row.figure.name,
            "unit": row.figure.unit,
            "experiment": row.experiment,
            "round": round_,
            "value": value,
        }
        for row in summarize_figures(records, names)
        for round_, value in row.rounds.items()
    ]
    if not rows:
        return None
    shown = [
        block for table in figure_tables(records, names) for block in (Heading(table.title), table)
    ]
    runs = Table.of_figures("Figures of every run", rows)
    return [
        *shown,
        Download("figures.csv", "the figures of every run of a measurement", runs.to_csv()),
    ]


SECTION = Section("figures", "Figures of measurements", "Figures", _build)
