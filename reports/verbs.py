"""What each verb of the command line does."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from bench.config import choose
from bench.console.console import printable, printable_lines
from bench.console.exit_codes import DISAGREEMENT, OK
from bench.console.tables import Table, show
from bench.environment.files import written_whole
from bench.history.compared import compared, compared_table, on_one_side, told_none, told_worse
from bench.history.figures import Figure, read_figures
from bench.record import comparisons, read_records
from bench.statistics import fewest_rounds
from reports.exports.event_files import write_event_files
from reports.exports.exports import Format, exported
from reports.exports.scalars import read_scalars
from reports.history.changes import changes_of
from reports.history.detection import few_commits_table, rates_table
from reports.history.history_page import history_page
from reports.history.series import history_of
from reports.history.suites import read_suites
from reports.page import page
from reports.plan import plan_page, read_plan


@dataclass(frozen=True)
class Build:
    """Draw the page of one comparison and print where it is."""

    results: Positional[Path] = Path("results")
    """Folder of records."""
    out: Path | None = None
    """The page to write; index.html in the folder of records if not given."""
    comparison: str | None = None
    """Which comparison; the newest if not given."""

    def run(self) -> int:
        """Read, draw, write."""
        found = comparisons(self.results)
        if not found:
            raise ValueError(f"{self.results} holds no records; run `python -m bench` first, which leaves some there")
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
class Plan:
    """Draw the page of a plan and print where it is."""

    plan: Positional[Path]
    """What `python -m bench plan --json` wrote."""
    out: Path | None = None
    """The page to write; beside the plan if not given."""

    def run(self) -> int:
        """Read, draw, write."""
        out = self.out or self.plan.with_suffix(".html")
        write(out, plan_page(self.plan.read_bytes(), str(self.plan)).encode())
        print(out)
        return OK


@dataclass(frozen=True)
class History:
    """Draw charts over commits, their changes marked, and print where they are."""

    results: Positional[Path] = Path("results/history")
    """Folder of pytest-benchmark documents and records of several commits."""
    out: Path | None = None
    """The page to write; charts.html in the folder if not given."""
    simulate: bool = False
    """Draw nothing: simulate lines and say how often changes are found and alarms are false."""
    lines: int = 400
    """How many lines are simulated for each figure."""

    def run(self) -> int:
        """Read, detect, draw, write; or simulate, with exit code 1 where the detection misses its bounds."""
        if self.simulate:
            if self.lines < 1:
                raise ValueError(f"--lines must be at least 1, got {self.lines}")
            table, holds = rates_table(self.lines)
            show([table, few_commits_table(self.lines)])
            return OK if holds else DISAGREEMENT
        history = history_of(read_figures([self.results]))
        changes = [change for line in history.lines for change in changes_of(line)]
        out = self.out or self.results / "charts.html"
        write(out, history_page(history, changes).encode())
        for change in changes:
            worse = "worse" if change.is_worse else "better"
            told = f"{change.kind}, {worse}: {change.line.subject.name}, {change.line.measure.name}: {change.told}"
            print(printable(told))
        print(out)
        return OK


@dataclass(frozen=True)
class Compare:
    """Compare two sets of figures of one machine: files or folders of documents and records."""

    old: Positional[Path]
    new: Positional[Path]
    fail: Annotated[
        Literal["never", "slower"], arg(help="exit with 1 where something is slower or a counter is worse")
    ] = "never"

    def run(self) -> int:
        """Print the verdicts."""
        old, new = (read_figures([place]) for place in (self.old, self.new))
        _require_one_machine([*old, *new])
        judged = compared(old, new, paired=False)
        table = compared_table(judged, paired=False)
        notes = [printable(f"not compared: {name}") for name in on_one_side(old, new)]
        varying = [one for one in judged if not one.measure.is_counter]
        needed, fewest = fewest_rounds(len(varying)), min((min(len(o.old), len(o.new)) for o in varying), default=0)
        if varying and fewest < needed:
            notes.append(f"of {len(varying)} times none with under {needed} processes a side can be called")
        show([Table(table.title, table.rows, "\n".join([table.note, *notes]))])
        worse = told_worse(judged)
        print(printable_lines("\n".join(worse or [told_none(judged)])))
        return DISAGREEMENT if worse and self.fail == "slower" else OK


@dataclass(frozen=True)
class Export:
    """Write figures in a format that another tool reads, and print where they are."""

    results: Positional[tuple[Path, ...]]
    """Files or folders of documents and records."""
    format: Literal[Format, "tensorboard"]
    out: Path
    """The file to write; for tensorboard the folder."""

    def run(self) -> int:
        """Read, convert, write."""
        if self.format == "tensorboard":
            write_event_files(read_scalars(self.results), self.out)
        else:
            write(self.out, exported(read_figures(self.results), self.format))
        print(self.out)
        return OK


def _require_one_machine(figures: Sequence[Figure]) -> None:
    machines = list(dict.fromkeys(figure.machine for figure in figures))
    if len(machines) > 1:
        raise ValueError(f"figures of different machines cannot be compared: {' / '.join(machines)}")


def write(path: Path, content: bytes) -> None:
    """Write atomically: a file at `path` is whole or not there."""
    with written_whole(path) as temporary:
        temporary.write_bytes(content)
