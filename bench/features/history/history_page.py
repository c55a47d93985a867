"""The page of a history: its changes, and a chart for each benchmark. Equal metric values give equal bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import Folder
from bench.console.console import escape_unprintable, log_damaged_files_for_exit_code
from bench.features.history.changes import SeriesJump, can_judge_newest_commit, find_series_jumps
from bench.features.history.history_chart import draw_series_chart
from bench.interfaces.sections import Block, BlockGroup, Chart, DefinitionList, Paragraph
from bench.measure.metric_values import read_metric_values
from bench.tables.formats import format_count_with_noun
from bench.tables.groups import group_by
from bench.tables.tables import Cell, Column, Table
from reports.render.document import (
    BuiltSection,
    damaged_files_warning,
    render_blocks,
    render_page,
    write_file_and_print_path,
)
from reports.series import MetricHistory, build_history

CHANGES_NOTE = (
    "A change of a time or of memory is a step of 2 % or more between stretches of commits that Student's t tells "
    "apart: p is at most 0.01 over the numbers of commits and of series. A counter is equal on every run of the same "
    "code, so any difference is a change. The cause is one of the commits after the first one named, up to and "
    "including the second."
)
NO_VERDICT = (
    "No verdict on {commit}: a test needs two processes of it and two of earlier commits, timed in turn on a machine, "
    "as `catlip-bench history 4` does with four commits."
)
CHARTS_NOTE = (
    "A mark is the median of the processes of a commit; small dots are the processes. Vertical lines are changes: "
    "▼ worse, ▲ better. A machine is hardware, threads and versions of packages; each machine has its own series."
)


@dataclass(frozen=True)
class WriteHistoryPage:
    """Write charts over commits with the detected changes, and print their path."""

    # folder of pytest-benchmark documents, or of records, of several commits
    results: Positional[Folder] = Path("results/history")
    # HTML page to write; default: charts.html in FOLDER
    out: Annotated[Path | None, arg(metavar="FILE.html")] = None

    def run(self) -> int:
        """Write the page."""
        damaged = list[str]()
        history = build_history(read_metric_values([self.results], damaged))
        changes = list[SeriesJump]()
        for series in history.series:
            changes += find_series_jumps(series, len(history.series))
        for change in changes:
            print(escape_unprintable(change.describe()))
        print(describe_verdict(history, changes))
        page = render_history_page(history, changes, damaged)
        write_file_and_print_path(self.out or self.results / "charts.html", page.encode())
        return log_damaged_files_for_exit_code(damaged)


def render_history_page(
    history: MetricHistory, changes: Sequence[SeriesJump], file_errors: Sequence[str] = ()
) -> str:
    """Return the HTML page of a history and its changes; `file_errors` are on files that are left out."""
    machines = {
        f"machine {number}": machine for number, machine in enumerate(history.machines, start=1)
    }
    change_blocks: list[Block] = [DefinitionList(machines)]
    if changes:
        change_blocks += [_jump_table(history, changes), Paragraph(CHANGES_NOTE, "under")]
    else:
        change_blocks.append(Paragraph("No change was found.", "empty"))
    charts: list[Block] = [
        Paragraph(CHARTS_NOTE, "under"),
        BlockGroup(_draw_charts(history, changes), "panels"),
    ]
    return render_page(
        "Speed and memory over commits",
        "What changed, and with which commit?",
        eyebrow="History",
        facts=[
            format_count_with_noun(len(history.commits), "commit"),
            format_count_with_noun(len(history.machines), "machine"),
            f"{len(history.series):,} series",
        ],
        answer=[
            Paragraph(describe_verdict(history, changes), "lead"),
            *damaged_files_warning(file_errors),
        ],
        sections=[
            BuiltSection("changes", "Changes", "Changes", render_blocks(change_blocks)),
            BuiltSection("charts", "Charts", "Charts", render_blocks(charts)),
        ],
    )


def describe_verdict(history: MetricHistory, changes: Sequence[SeriesJump]) -> str:
    """Return a sentence with the number of changes for the worse, or why the newest commit cannot be judged."""
    num_worse = sum(change.is_worse for change in changes)
    newest = history.commits[-1]
    series_of_newest = [line for line in history.series if line.points[-1].commit == newest]
    if changes or any(map(can_judge_newest_commit, series_of_newest)):
        return f"{format_count_with_noun(num_worse, 'change')} for the worse."
    return NO_VERDICT.format(commit=newest.short_id)


def _jump_table(history: MetricHistory, changes: Sequence[SeriesJump]) -> Table:
    """Return the table of the changes, with those for the worse first."""
    columns = [
        *Column.all_left_aligned("subject", "change", "levels"),
        Column.left_aligned("where", "after … up to"),
        Column.left_aligned("machine"),
    ]
    rows = []
    for change in sorted(changes, key=lambda change: not change.is_worse):
        benchmark = change.series.benchmark
        machine = history.machines.index(change.series.machine) + 1
        row = [
            Cell(
                benchmark.name_without_file, change.series.metric.name, benchmark.name_without_file
            ),
            Cell("▼ worse" if change.is_worse else "▲ better"),
            Cell(change.medians_text),
            Cell(change.commits_text),
            Cell(f"machine {machine}"),
        ]
        rows.append(row)
    return Table.of_rows("Changes", columns, rows)


def _draw_charts(history: MetricHistory, changes: Sequence[SeriesJump]) -> list[Chart]:
    """Return a chart of each time and memory of a benchmark, with all machines."""
    varying = [series for series in history.series if not series.metric.is_counter]
    groups = group_by(varying, lambda series: (series.benchmark, series.metric))
    charts = []
    for number, ((benchmark, metric), lines) in enumerate(groups.items()):
        drawn = [change for change in changes if change.series in lines]
        note = f"{metric.name}, {metric.better} is better"
        if benchmark.settings:
            note = f"{note}; settings {benchmark.settings}"
        chart = draw_series_chart(f"chart-{number}", history, lines, drawn)
        charts.append(Chart(chart, benchmark.name_without_file, [note]))
    return charts
