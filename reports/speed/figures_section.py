"""The section on figures of measurements, which extensions add."""

from collections.abc import Sequence

from bench.interfaces.sections import Block, Heading, PageContext, PageSection
from bench.measure.figures import extension_measurement_tables


def _build_extension_measurement_blocks(page: PageContext) -> Sequence[Block] | None:
    comparison = page.comparison
    blocks: list[Block] = []
    for table in extension_measurement_tables(comparison.records, list(comparison.experiments)):
        blocks += [Heading(table.title), table]
    return blocks or None


SECTION = PageSection(
    "figures", "Figures of measurements", "Figures", _build_extension_measurement_blocks
)
