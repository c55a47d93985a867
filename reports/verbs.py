"""The commands of `python -m reports`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from bench.config import choose
from bench.console.console import DISAGREEMENT, OK, printable, printable_lines
from bench.console.tables import Table, print_tables
from bench.environment.files import atomic_write
from bench.history.metric_diffs import (
    compare_observations,
    describe_none_worse,
    describe_worse,
    diff_table,
    on_one_side,
)
from bench.history.observations import Observation, read_observations
from bench.record import comparisons, read_records
from bench.statistics import fewest_rounds
from reports.exports.exports import Format, exported
from reports.exports.scalars import read_scalars, write_event_files
from reports.history.changes import find_changes
from reports.history.detection import few_commits_table, rates_table
from reports.history.history_page import history_page
from reports.history.series import build_history
from reports.history.suites import read_suites
from reports.page import page
from reports.plan import plan_page, read_plan


@dataclass(frozen=True)
class ComparisonPage:
    """Write the page of one comparison and print its path."""

    results: Positional[Path] = Path("results")
    """Folder of the records."""
    out: Path | None = None
    """Path of the page; default index.html in the folder of the records."""
    comparison: str | None = None
    """Name of the comparison; default the newest."""

    def run(self) -> int:
        """Read the records and write the page."""
        found = comparisons(self.results)
        if not found:
            raise ValueError(f"{self.results} holds no records; run `python -m bench` first, which writes them")
        name = found[-1] if self.comparison is None else self.comparison
        choose(name, dict.fromkeys(found), f"comparison in {self.results}")
        others = [other for other in reversed(found) if other != name]
        suites, plan = read_suites(self.results), read_plan(self.results)
        text = page(name, read_records(self.results, name), others=others, suites=suites, plan=plan)
        out = self.out or self.results / "index.html"
        write(out, text.encode())
        print(out)
        return OK


@dataclass(frozen=True)
class PlanPage:
    """Write the page of a plan and print its path."""

    plan: Positional[Path]
    """Document of `python -m bench plan --json`."""
    out: Path | None = None
    """Path of the page; default that of the plan with the suffix .html."""

    def run(self) -> int:
        """Read the records and write the page."""
        out = self.out or self.plan.with_suffix(".html")
        write(out, plan_page(self.plan.read_bytes(), str(self.plan)).encode())
        print(out)
        return OK


@dataclass(frozen=True)
class HistoryPage:
    """Write charts over commits with the detected changes, and print their path."""

    results: Positional[Path] = Path("results/history")
    """Folder of pytest-benchmark documents and records of several commits."""
    out: Path | None = None
    """Path of the page; default charts.html in the folder."""
    simulate: bool = False
    """Instead, simulate series and report the rates of detected changes and of false alarms."""
    lines: int = 400
    """Number of series simulated per rate."""

    def run(self) -> int:
        """Write the page; or simulate, with exit code 1 where the detection misses its bounds."""
        if self.simulate:
            if self.lines < 1:
                raise ValueError(f"--lines must be at least 1, got {self.lines}")
            table, holds = rates_table(self.lines)
            print_tables([table, few_commits_table(self.lines)])
            return OK if holds else DISAGREEMENT
        history = build_history(read_observations([self.results]))
        changes = [change for line in history.series for change in find_changes(line)]
        out = self.out or self.results / "charts.html"
        write(out, history_page(history, changes).encode())
        for change in changes:
            worse = "worse" if change.is_worse else "better"
            text = f"{change.kind}, {worse}: {change.series.benchmark.name}, {change.series.metric.name}: {change.text}"
            print(printable(text))
        print(out)
        return OK


@dataclass(frozen=True)
class CompareFigures:
    """Compare two sets of figures from one machine: files or folders of documents and records."""

    old: Positional[Path]
    new: Positional[Path]
    fail: Annotated[
        Literal["never", "slower"], arg(help="condition of exit code 1: a figure is slower or a counter worse")
    ] = "never"

    def run(self) -> int:
        """Print the verdicts."""
        old, new = (read_observations([place]) for place in (self.old, self.new))
        _require_one_machine([*old, *new])
        judged = compare_observations(old, new, paired=False)
        table = diff_table(judged, paired=False)
        notes = [printable(f"not compared: {name}") for name in on_one_side(old, new)]
        varying = [one for one in judged if not one.metric.is_counter]
        needed, fewest = fewest_rounds(len(varying)), min((min(len(o.old), len(o.new)) for o in varying), default=0)
        if varying and fewest < needed:
            notes.append(f"a verdict on {len(varying)} times needs {needed} processes per side")
        print_tables([Table(table.title, table.rows, "\n".join([table.note, *notes]))])
        worse = describe_worse(judged)
        print(printable_lines("\n".join(worse or [describe_none_worse(judged)])))
        return DISAGREEMENT if worse and self.fail == "slower" else OK


@dataclass(frozen=True)
class ExportFigures:
    """Write figures in the format of another tool, and print their path."""

    results: Positional[tuple[Path, ...]]
    """Files or folders of documents and records."""
    format: Literal[Format, "tensorboard"]
    out: Path
    """Path of the file; for tensorboard of the folder."""

    def run(self) -> int:
        """Read the figures and write the file."""
        if self.format == "tensorboard":
            write_event_files(read_scalars(self.results), self.out)
        else:
            write(self.out, exported(read_observations(self.results), self.format))
        print(self.out)
        return OK


def _require_one_machine(figures: Sequence[Observation]) -> None:
    machines = list(dict.fromkeys(figure.machine for figure in figures))
    if len(machines) > 1:
        raise ValueError(f"figures of several machines are not comparable, name files of one: {' / '.join(machines)}")


def write(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
