"""The section on results of the folder that cannot be compared with those of the page: the tables of each group."""

import shlex
from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from bench.interfaces.sections import Block, Heading, OtherResults, PageContext, Section, Text
from bench.measure.comparison_records import collect_comparison
from bench.measure.speed_tables import throughput_table
from bench.measure.tables import failure_table
from bench.tables.tables import Table
from bench.transfer.score_tables import overview_table
from bench.transfer.subject_scores import collect_full_label_scores

ALONE = Markup(
    "Each table has results that can be compared with each other, but not with those above. "
    "<code>catlip-bench report build {} --comparison NAME</code> shows one comparison alone."
)


def _build(page: PageContext) -> Sequence[Block] | None:
    """Return a heading, the reason and the tables of each group of results; None without any."""
    if not page.others:
        return None
    blocks: list[Block] = [Text(ALONE.format(shlex.quote(page.results)), "under")]
    for results in page.others:
        names = ", ".join(results.comparisons)
        blocks += [Heading(names), Text(results.reason)]
        for table in _result_tables(results):
            if table.all_rows:
                blocks.append(replace(table, title=f"{table.title}, {names}", note=""))
    return blocks


SECTION = Section("others", "Other results in this folder", "Other results", _build)


def _result_tables(results: OtherResults) -> list[Table]:
    """Return the tables of speeds, of accuracies and of failed runs."""
    comparison = collect_comparison("", results.records)
    scores = collect_full_label_scores(comparison)
    return [
        throughput_table(comparison),
        overview_table(comparison, scores),
        failure_table(results.records),
    ]
