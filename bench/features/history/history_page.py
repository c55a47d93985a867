"""Series over commits -> one HTML document. A pure function: equal figures give equal bytes."""

from collections.abc import Sequence

import pandas as pd
from markupsafe import Markup

from bench.features.history.changes import Change
from bench.features.history.history_charts import series_chart
from bench.interfaces.sections import Block, Chart, Facts, Files, Group, Legend, Text
from bench.statistics.ratios import log_std
from bench.tables.formats import (
    UNMEASURED,
    format_p_value,
    format_percent,
    format_quantity,
    format_ratio,
    join_words,
    pluralize,
)
from bench.tables.tables import Cell, Column, Table
from reports.render.document import BuiltSection, csv_file, left_out, render_blocks, render_page
from reports.render.frames import group_by
from reports.render.svg import swatch
from reports.series import CommitHistory, Series, figures_frame

GLOSSARY = {
    "confirmed": "asv's step detection finds a jump of 2 % or more with two or more processes on both sides; in "
    "simulation, fewer than 1 % of the charts of unchanged code have one",
    "suspected": "a change point (PELT) of 3 % or more with three or more processes on both sides and a Mann-Whitney "
    "p under 0.001; detected earlier than a confirmed change, with more false alarms, above all under autocorrelation",
    "counted": "a counter (parameters, FLOPs, tensor bytes, a loss) differs; it has no random variation",
    "where": "the cause is one of the commits after the first one named, up to and including the second",
    "p": "of the Mann-Whitney test of both sides up to the adjacent changes, corrected for autocorrelation",
    "process": "one start of the suites or of an experiment, with one median; the value of a commit is their median",
    "noise": "relative standard deviation of processes about the level between changes, without the factor of turns",
    "turn": "interleaved processes of several commits, benchmark by benchmark; their common factor, such as a slow "
    "minute, is divided out before detection",
    "machine": "hardware, threads and versions of packages; each machine has its own series",
}
CHANGES_NOTE = (
    "The cause of a change is one of the commits after the first one named, up to and including the second. Confirmed "
    "changes may block a merge; suspected ones need a review. A counter is equal on every run of the same code, so any "
    "difference is a change."
)
CHARTS_NOTE = (
    "A mark is the median of the processes of a commit; small dots are the processes as measured. Solid vertical lines "
    "are confirmed changes, dashed ones are suspected: ▼ worse, ▲ better. Each machine has its own series."
)
KINDS = {"confirmed": 0, "counted": 1, "suspected": 2}


def history_page(history: CommitHistory, found: Sequence[Change], damaged: Sequence[str] = ()) -> str:
    """Return the page of a history and its changes; `damaged` are the errors of files that are left out."""
    changes = sorted(found, key=lambda change: (KINDS[change.kind], not change.is_worse, -_relative_size(change)))
    varying = [line for line in history.series if not line.metric.is_counter]
    charts = group_by(varying, lambda line: (line.benchmark, line.metric))  # one metric on every machine
    groups: dict[str, list[Chart]] = {}
    for number, lines in enumerate(charts.values()):
        chart = _series_chart(f"chart-{number}", history, lines, changes)
        groups.setdefault(lines[0].benchmark.group, []).append(chart)
    machines = [
        (f"machine {_machine_letter(history, one)}: {one}", swatch(at)) for at, one in enumerate(history.machines)
    ]
    table = _changes_table(history, changes)
    found_changes: list[Block] = [table, Text(CHANGES_NOTE, "under")]
    counters = _counters_table(history, changes)
    files = [
        *csv_file("figures.csv", "every process", figures_frame(history)),
        *csv_file("changes.csv", "every change", changes_frame(changes)),
    ]
    sections: dict[tuple[str, str], list[Block]] = {
        ("changes", "Changes"): [
            Legend(machines, "Machines"),
            *(found_changes if table.cells else [Text("No change was found.", "empty")]),
        ],
        **{
            (f"group-{number}", group.capitalize()): [
                *([Text(CHARTS_NOTE, "under")] if number == 1 else []),
                Group(panels, "panels"),
            ]
            for number, (group, panels) in enumerate(groups.items(), 1)
        },
        ("counters", "Counters"): [counters if counters.cells else Text("The records hold no counter.", "empty")],
        ("commits", "Commits"): [_commits_table(history)],
        ("data", "Data"): [Files(files)],
        ("words", "Glossary"): [Facts({word: [meaning] for word, meaning in GLOSSARY.items()}, "glossary")],
    }
    return render_page(
        "Speed and memory over commits",
        "What changed, and with which commit?",
        eyebrow="History",
        facts=_summary_facts(history),
        answer=[*(Text(one, "lead") for one in _lead_sentences(history, changes)), *left_out(damaged)],
        sections=[BuiltSection(name, title, title, render_blocks(of)) for (name, title), of in sections.items()],
    )


def changes_frame(changes: Sequence[Change]) -> pd.DataFrame:
    """Return one row per change."""
    rows = [
        {
            "name": change.series.benchmark.name,
            "measure": change.series.metric.name,
            "kind": change.kind,
            "worse": change.is_worse,
            "after": change.before.id,
            "by": change.after.id,
            "old": change.old,
            "new": change.new,
            "p": change.p,
            "processes before": change.sides[0],
            "processes after": change.sides[1],
            "machine": change.series.machine,
        }
        for change in changes
    ]
    return pd.DataFrame(rows)


def _relative_size(change: Change) -> float:
    return abs(change.new - change.old) / abs(change.old) if change.old else float("inf")


def _summary_facts(history: CommitHistory) -> list[str]:
    processes = max(len(point.runs) for line in history.series for point in line.points)
    return [
        pluralize(len(history.commits), "commit"),
        pluralize(len(history.machines), "machine"),
        f"{len(history.series):,} series",
        f"up to {pluralize(processes, 'process', 'processes')} per commit",
    ]


def _lead_sentences(history: CommitHistory, changes: Sequence[Change]) -> list[Markup]:
    """Summarise the changes in one or two sentences."""
    worse = [change for change in changes if change.is_worse and change.kind != "suspected"]
    suspected = [change for change in changes if change.kind == "suspected"]
    if worse:
        text = Markup("<strong>{}</strong> for the worse. {}.").format(
            pluralize(len(worse), "change"), _describe_largest(worse)
        )
    elif suspected:
        text = Markup("No change for the worse is confirmed in {}. <strong>{} suspected</strong>. {}.").format(
            pluralize(len(history.commits), "commit"), pluralize(len(suspected), "change"), _describe_largest(suspected)
        )
    else:
        text = Markup("No change for the worse was found in {}.").format(pluralize(len(history.commits), "commit"))
    better = sum(not change.is_worse and change.kind != "suspected" for change in changes)
    more = [pluralize(better, "change") + " for the better"] if better else []
    more += [f"{len(suspected)} suspected, which should not fail a gate"] if suspected and worse else []
    return [text, *([Markup("Other changes: {}.").format(join_words(more))] if more else [])]


def _describe_largest(changes: Sequence[Change]) -> str:
    largest = max(changes, key=_relative_size)
    levels = f"{_format_level(largest, largest.old)} to {_format_level(largest, largest.new)}"
    where = f"between {largest.before.short} and {largest.after.short}"
    return f"The largest is {largest.series.benchmark.short}, {largest.series.metric.name}, {levels} {where}"


def _size_cell(change: Change) -> Cell:
    """Show the size of a change; that of a counter with four digits."""
    if change.size is None:
        return Cell.not_applicable("the old level is 0")
    return Cell(f"{change.size:.4g}x" if change.kind == "counted" else f"{format_ratio(change.size)}x", "", change.size)


def _machine_letter(history: CommitHistory, machine: str) -> str:
    """Return the letter of a machine, A to Z, then its number."""
    at = history.machines.index(machine)
    return chr(ord("A") + at) if at < 26 else str(at)  # noqa: PLR2004


def _format_level(change: Change, value: float) -> str:
    return format_quantity(value, change.series.metric.unit)


def _changes_table(history: CommitHistory, changes: Sequence[Change]) -> Table:
    columns = [
        *Column.texts("subject", "change"),
        Column("size", "new / old"),
        Column("old"),
        Column("new"),
        Column.text("where", "after … up to"),
        Column("p"),
        Column("processes", "before + after"),
        *Column.texts("machine"),
    ]
    rows = [
        [
            Cell(change.series.benchmark.short, change.series.metric.name, change.series.benchmark.short),
            Cell(f"{'▼' if change.is_worse else '▲'} {change.kind}, {'worse' if change.is_worse else 'better'}"),
            _size_cell(change),
            *(Cell(_format_level(change, level), "", level) for level in (change.old, change.new)),
            Cell(f"{change.before.short} … {change.after.short}"),
            Cell.applicable(change.p, format_p_value, "a counter has no random variation"),
            Cell(f"{change.sides[0]} + {change.sides[1]}"),
            Cell(_machine_letter(history, change.series.machine)),
        ]
        for change in changes
    ]
    return Table.of_rows("Changes", columns, rows)


def _series_chart(name: str, history: CommitHistory, lines: Sequence[Series], changes: Sequence[Change]) -> Chart:
    own = [change for change in changes if change.series in lines]
    subject = lines[0].benchmark
    settings = {line.benchmark.settings for line in history.series if line.benchmark.name == subject.name}
    title = f"{subject.short} (settings {subject.settings})" if len(settings) > 1 else subject.short
    noise = join_words(
        [format_percent(found) for line in lines if (found := _noise_about_levels(line, own)) is not None]
    )
    note = f"{lines[0].metric.name}, {lines[0].metric.better} is better" + (f"; noise {noise}" if noise else "")
    columns = [Column.text("commit"), Column("median"), Column("processes"), Column.text("each")]
    groups = {
        f"machine {_machine_letter(history, line.machine)}": [
            [
                Cell(point.commit.short, "", history.committed_at[point.commit]),
                Cell(format_quantity(point.value, line.metric.unit), "", point.value),
                Cell.of(len(point.runs)),
                Cell(", ".join(format_quantity(value, line.metric.unit) for value in point.runs)),
            ]
            for point in line.points
        ]
        for line in lines
    }
    table = Table.of_groups(title, columns, groups)
    return Chart(series_chart(name, history, lines, own), title, [note], table=table)


def _noise_about_levels(line: Series, changes: Sequence[Change]) -> float | None:
    """Return the relative standard deviation of processes about the levels between changes; None under two."""
    starts = [0, *(change.at for change in changes if change.series == line), len(line.points)]
    squares, degrees_of_freedom = 0.0, 0
    every, points = line.processes()
    for left, right in zip(sorted(starts), sorted(starts)[1:], strict=False):
        values = [value for value, at in zip(every, points, strict=True) if left <= at < right]
        spread = log_std(dict(enumerate(values)))
        if spread is not None:
            squares, degrees_of_freedom = squares + spread**2 * (len(values) - 1), degrees_of_freedom + len(values) - 1
    return (squares / degrees_of_freedom) ** 0.5 if degrees_of_freedom else None


def _counters_table(history: CommitHistory, changes: Sequence[Change]) -> Table:
    changed = [change.series for change in changes if change.kind == "counted"]
    columns = [*Column.texts("subject", "counter"), Column("newest"), Column("commits")]
    columns += [Column("changes"), *Column.texts("machine")]
    rows = [
        [
            Cell.of(line.benchmark.short),
            Cell(line.metric.name),
            Cell(format_quantity(line.points[-1].value, line.metric.unit), "", line.points[-1].value),
            Cell.of(len(line.points)),
            Cell(UNMEASURED, "varies", why="processes of one commit differ, so it is not a counter here")
            if any(len({*point.runs}) > 1 for point in line.points)
            else Cell.of(changed.count(line)),
            Cell(_machine_letter(history, line.machine)),
        ]
        for line in history.series
        if line.metric.is_counter
    ]
    return Table.of_rows("Counters", columns, rows)


def _commits_table(history: CommitHistory) -> Table:
    columns = [Column.text("commit"), Column.text("committed", "or first measured")]
    rows = [
        [Cell(commit.id + (", changed" if commit.is_dirty else "")), Cell(history.committed_at[commit])]
        for commit in history.commits
    ]
    return Table.of_rows("Commits", columns, rows)
