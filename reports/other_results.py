"""The section on results of the folder that cannot be compared with those of the page: the tables of each group."""

import shlex
from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from bench.interfaces.sections import (
    Block,
    Heading,
    PageContext,
    PageSection,
    Paragraph,
)
from bench.measure.comparison_records import select_comparison_records
from bench.measure.speed_tables import throughput_table
from bench.measure.tables import failed_run_table
from bench.transfer.score_tables import accuracy_overview_table
from bench.transfer.subject_scores import collect_full_label_scores

ALONE = Markup(
    "Each table has results that can be compared with each other, but not with those above. "
    "<code>catlip-bench report build {} --only-comparison NAME</code> shows one comparison alone."
)


def _build_incomparable_results_blocks(page: PageContext) -> Sequence[Block] | None:
    """Return a heading, the reason and the tables of each group of results; None without any."""
    if not page.incomparable_results:
        return None
    blocks: list[Block] = [Paragraph(ALONE.format(shlex.quote(page.results)), "under")]
    for results in page.incomparable_results:
        names = ", ".join(results.comparisons)
        blocks += [Heading(names), Paragraph(results.reason)]
        comparison = select_comparison_records("", results.records)
        tables = (
            throughput_table(comparison),
            accuracy_overview_table(comparison, collect_full_label_scores(comparison)),
            failed_run_table(results.records),
        )
        for table in tables:
            if table.all_rows:
                blocks.append(replace(table, title=f"{table.title}, {names}", note=""))
    return blocks


SECTION = PageSection(
    "others", "Other results in this folder", "Other results", _build_incomparable_results_blocks
)
