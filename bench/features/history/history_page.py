"""The page of a history: changed counters, and a chart for each benchmark. Equal metric values give equal bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markupsafe import Markup
from tyro.conf import Positional

from bench.cli.options import Folder
from bench.console.console import PROGRAM, log_damaged_files_for_exit_code
from bench.console.tables import print_tables
from bench.features.history.history_chart import draw_series_chart
from bench.interfaces.sections import Block, BlockGroup, Chart, ChartLegend, Paragraph
from bench.measure.metric_values import read_metric_values
from bench.tables.formats import format_count_with_noun
from bench.tables.groups import group_by
from bench.tables.tables import Table
from reports.render.document import (
    BuiltSection,
    damaged_files_warning,
    render_blocks,
    render_page,
    write_file_and_print_path,
)
from reports.render.svg import legend_marker
from reports.series import MetricHistory, build_history

COUNTERS_NOTE = (
    "A counter is equal in every run of the same code. The cause of a change is one of the commits after the first one "
    "named, up to and including the second."
)
JUDGE_NOTE = Markup(
    "Charts judge nothing. <code>{} regress COMMIT</code> tells whether this checkout is slower than a commit."
).format(PROGRAM)
CHARTS_NOTE = (
    "A mark is the median of the processes of a commit; small dots are the processes. A machine is hardware, threads "
    "and versions of packages; each machine has its own series."
)


@dataclass(frozen=True)
class WriteHistoryPage:
    """Write charts of times and memory over commits, with the counters that changed, and print their path."""

    # folder of pytest-benchmark documents, or of records, of several commits
    results: Positional[Folder] = Path("results/history")
    out: Path | None = None  # HTML page to write; default: charts.html in FOLDER

    def run(self) -> int:
        """Write the page."""
        damaged = list[str]()
        history = build_history(read_metric_values([self.results], damaged))
        print_tables([changed_counter_table(history)])
        page = render_history_page(history, damaged)
        write_file_and_print_path(self.out or self.results / "charts.html", page.encode())
        return log_damaged_files_for_exit_code(damaged)


def render_history_page(history: MetricHistory, file_errors: Sequence[str] = ()) -> str:
    """Return the HTML page of a history; `file_errors` are on files that are left out."""
    machines = []
    for index, machine in enumerate(history.machines):
        machines.append((f"machine {index + 1}: {machine}", legend_marker(index)))
    charts: list[Block] = [
        ChartLegend(machines, "Machines"),
        Paragraph(CHARTS_NOTE, "under"),
        BlockGroup(_draw_charts(history), "panels"),
    ]
    counters = changed_counter_table(history)
    counter_blocks: list[Block] = [Paragraph("No counter changed.", "empty")]
    if counters.all_rows:
        counter_blocks = [counters, Paragraph(COUNTERS_NOTE, "under")]
    return render_page(
        "Speed and memory over commits",
        "How fast was each commit?",
        eyebrow="History",
        facts=[
            format_count_with_noun(len(history.commits), "commit"),
            format_count_with_noun(len(history.machines), "machine"),
            f"{len(history.series):,} series",
        ],
        answer=[Paragraph(JUDGE_NOTE, "lead"), *damaged_files_warning(file_errors)],
        sections=[
            BuiltSection("charts", "Charts", "Charts", render_blocks(charts)),
            BuiltSection("counters", "Counters", "Counters", render_blocks(counter_blocks)),
        ],
    )


def changed_counter_table(history: MetricHistory) -> Table:
    """Return the table of counters that differ between two successive commits of a machine."""
    rows = []
    for series in history.series:
        if not series.metric.is_counter:
            continue
        for before, after in pairwise(series.points):
            if {*before.runs} == {*after.runs}:
                continue
            row = {
                "benchmark": series.benchmark.name_without_file,
                "counter": series.metric.name,
                "before": series.metric.format_value(before.median),
                "after": series.metric.format_value(after.median),
                "after … up to": f"{before.commit.short_id} … {after.commit.short_id}",
                "machine": f"machine {history.machines.index(series.machine) + 1}",
            }
            rows.append(row)
    return Table.from_dicts("Changed counters", rows)


def _draw_charts(history: MetricHistory) -> list[Chart]:
    """Return a chart of each time and memory of a benchmark, with all machines."""
    varying = [series for series in history.series if not series.metric.is_counter]
    groups = group_by(varying, lambda series: (series.benchmark, series.metric))
    charts = []
    for number, ((benchmark, metric), lines) in enumerate(groups.items()):
        note = f"{metric.name}, {metric.better} is better"
        if benchmark.settings:
            note = f"{note}; settings {benchmark.settings}"
        chart = draw_series_chart(f"chart-{number}", history, lines)
        charts.append(Chart(chart, benchmark.name_without_file, [note]))
    return charts
