"""The page of a history: its changes, and a chart for each benchmark. Equal observations give equal bytes."""

from collections.abc import Sequence

from markupsafe import Markup

from bench.features.history.changes import Change
from bench.features.history.history_chart import series_chart
from bench.interfaces.sections import Block, Chart, Files, Group, Legend, Text
from bench.tables.formats import format_quantity, format_ratio, pluralize
from bench.tables.tables import Cell, Column, Table
from reports.render.document import BuiltSection, csv_file, left_out, render_blocks, render_page
from reports.render.frames import group_by
from reports.render.svg import swatch
from reports.series import CommitHistory, Series, figures_frame

CHANGES_NOTE = (
    "A change of a time or of memory is a step of 2 % or more that asv's step detection finds, with two or more "
    "processes on each side. A counter is equal on every run of the same code, so any difference is a change. The "
    "cause is one of the commits after the first one named, up to and including the second."
)
CHARTS_NOTE = (
    "A mark is the median of the processes of a commit; small dots are the processes. Vertical lines are changes: "
    "▼ worse, ▲ better. A machine is hardware, threads and versions of packages; each machine has its own series."
)


def history_page(
    history: CommitHistory, changes: Sequence[Change], damaged: Sequence[str] = ()
) -> str:
    """Return the page of a history and its changes; `damaged` are the errors of files that are left out."""
    changes = sorted(changes, key=lambda change: (not change.is_worse, -_relative_size(change)))
    sections = [
        BuiltSection(
            "changes", "Changes", "Changes", render_blocks(_changes_blocks(history, changes))
        )
    ]
    for number, (group, charts) in enumerate(_charts_by_group(history, changes).items(), 1):
        note = [Text(CHARTS_NOTE, "under")] if number == 1 else []
        blocks = render_blocks([*note, Group(charts, "panels")])
        sections.append(
            BuiltSection(f"group-{number}", group.capitalize(), group.capitalize(), blocks)
        )
    files = Files(csv_file("figures.csv", "every process", figures_frame(history)))
    commits = render_blocks([_commits_table(history), files])
    sections.append(BuiltSection("commits", "Commits", "Commits", commits))
    return render_page(
        "Speed and memory over commits",
        "What changed, and with which commit?",
        eyebrow="History",
        facts=[
            pluralize(len(history.commits), "commit"),
            pluralize(len(history.machines), "machine"),
            f"{len(history.series):,} series",
        ],
        answer=[Text(_lead_sentence(history, changes), "lead"), *left_out(damaged)],
        sections=sections,
    )


def _lead_sentence(history: CommitHistory, changes: Sequence[Change]) -> Markup:
    """Return how many changes are for the worse and for the better; `changes` are sorted."""
    num_worse = sum(change.is_worse for change in changes)
    if not num_worse:
        return Markup("No change for the worse was found in {}.").format(
            pluralize(len(history.commits), "commit")
        )
    largest = changes[0]
    return Markup(
        "<strong>{}</strong> for the worse and {} for the better. The largest is {}, {}, {} to {}, {}."
    ).format(
        pluralize(num_worse, "change"),
        len(changes) - num_worse,
        largest.series.benchmark.short,
        largest.series.metric.name,
        _format_level(largest, largest.old),
        _format_level(largest, largest.new),
        largest.span,
    )


def _changes_blocks(history: CommitHistory, changes: Sequence[Change]) -> list[Block]:
    machines = [
        (_machine_name(history, machine), swatch(at)) for at, machine in enumerate(history.machines)
    ]
    legend = Legend(
        [(f"{name}: {history.machines[at]}", mark) for at, (name, mark) in enumerate(machines)],
        "Machines",
    )
    if not changes:
        return [legend, Text("No change was found.", "empty")]
    columns = [
        *Column.texts("subject", "change"),
        Column("size", "new / old"),
        Column("old"),
        Column("new"),
        Column.text("where", "after … up to"),
        Column("processes", "before + after"),
        *Column.texts("machine"),
    ]
    rows = [_change_row(history, change) for change in changes]
    return [legend, Table.of_rows("Changes", columns, rows), Text(CHANGES_NOTE, "under")]


def _change_row(history: CommitHistory, change: Change) -> list[Cell]:
    digits = (
        "{:.4g}x".format
        if change.series.metric.is_counter
        else lambda ratio: f"{format_ratio(ratio)}x"
    )
    return [
        Cell(
            change.series.benchmark.short, change.series.metric.name, change.series.benchmark.short
        ),
        Cell("▼ worse" if change.is_worse else "▲ better"),
        Cell.applicable(change.ratio, digits, "the old level is 0"),
        Cell(_format_level(change, change.old), "", change.old),
        Cell(_format_level(change, change.new), "", change.new),
        Cell(change.span),
        Cell(f"{change.num_processes[0]} + {change.num_processes[1]}"),
        Cell(_machine_name(history, change.series.machine)),
    ]


def _charts_by_group(history: CommitHistory, changes: Sequence[Change]) -> dict[str, list[Chart]]:
    """Return the charts of times and memory, each with all machines, by the group of the benchmark."""
    varying = [series for series in history.series if not series.metric.is_counter]
    groups: dict[str, list[Chart]] = {}
    for number, lines in enumerate(
        group_by(varying, lambda series: (series.benchmark, series.metric)).values()
    ):
        benchmark = lines[0].benchmark
        metric = lines[0].metric
        same_name = {
            series.benchmark.settings
            for series in history.series
            if series.benchmark.name == benchmark.name
        }
        title = (
            benchmark.short
            if len(same_name) == 1
            else f"{benchmark.short} (settings {benchmark.settings})"
        )
        own_changes = [change for change in changes if change.series in lines]
        drawn = series_chart(f"chart-{number}", history, lines, own_changes)
        note = f"{metric.name}, {metric.better} is better"
        chart = Chart(drawn, title, [note], table=_chart_table(title, history, lines))
        groups.setdefault(benchmark.group, []).append(chart)
    return groups


def _chart_table(title: str, history: CommitHistory, lines: Sequence[Series]) -> Table:
    columns = [Column.text("commit"), Column("median"), Column("processes"), Column.text("each")]
    groups = {}
    for line in lines:
        unit = line.metric.unit
        groups[_machine_name(history, line.machine)] = [
            [
                Cell(point.commit.short, "", history.committed_at[point.commit]),
                Cell(format_quantity(point.value, unit), "", point.value),
                Cell.of(len(point.runs)),
                Cell(", ".join(format_quantity(value, unit) for value in point.runs)),
            ]
            for point in line.points
        ]
    return Table.of_groups(title, columns, groups)


def _commits_table(history: CommitHistory) -> Table:
    columns = [Column.text("commit"), Column.text("committed", "or first measured")]
    rows = []
    for commit in history.commits:
        name = f"{commit.id}, changed" if commit.is_dirty else commit.id
        rows.append([Cell(name), Cell(history.committed_at[commit])])
    return Table.of_rows("Commits", columns, rows)


def _machine_name(history: CommitHistory, machine: str) -> str:
    return f"machine {history.machines.index(machine) + 1}"


def _format_level(change: Change, level: float) -> str:
    return format_quantity(level, change.series.metric.unit)


def _relative_size(change: Change) -> float:
    return abs(change.new - change.old) / abs(change.old) if change.old else float("inf")
