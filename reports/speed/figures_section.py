"""The section on figures of measurements, which extensions add."""

from collections.abc import Sequence

from bench.interfaces.sections import Block, Heading, PageContext, Section
from bench.measure.figures import figure_tables


def _build(page: PageContext) -> Sequence[Block] | None:
    comparison = page.comparison
    blocks: list[Block] = []
    for table in figure_tables(comparison.records, list(comparison.experiments)):
        blocks += [Heading(table.title), table]
    return blocks or None


SECTION = Section("figures", "Figures of measurements", "Figures", _build)
