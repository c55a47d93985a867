"""The verbs of `report` on figures of several commits: `history` draws them, `compare` judges two sets of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from bench.console.console import (
    DISAGREEMENT,
    escape_unprintable,
    escape_unprintable_lines,
    log_damaged_files,
)
from bench.console.tables import print_tables
from bench.features.history.changes import find_changes
from bench.features.history.history_page import history_page
from bench.features.history.metric_diffs import (
    compare_observations,
    describe_diffs,
    describe_unmatched_metrics,
    diff_table,
)
from bench.measure.observations import read_observations
from bench.statistics.ratios import MIN_ROUNDS
from reports.render.document import write_page
from reports.series import build_history


@dataclass(frozen=True)
class HistoryPage:
    """Write charts over commits with the detected changes, and print their path."""

    results: Positional[Path] = Path("results/history")
    """Folder of pytest-benchmark documents and records of several commits."""
    out: Path | None = None
    """Path of the page; default charts.html in the folder."""

    def run(self) -> int:
        """Write the page."""
        damaged = list[str]()
        history = build_history(read_observations([self.results], damaged))
        changes = [change for series in history.series for change in find_changes(series)]
        for change in changes:
            print(escape_unprintable(change.describe()))
        write_page(
            self.out or self.results / "charts.html",
            history_page(history, changes, damaged).encode(),
        )
        return log_damaged_files(damaged)


@dataclass(frozen=True)
class CompareFigures:
    """Compare two sets of figures from one machine: files or folders of documents and records."""

    old: Positional[Path]
    new: Positional[Path]
    fail: Annotated[
        Literal["never", "slower"],
        arg(help="condition of exit code 1: a figure is slower or a counter worse"),
    ] = "never"

    def run(self) -> int:
        """Print the verdicts."""
        damaged = list[str]()
        old = read_observations([self.old], damaged)
        new = read_observations([self.new], damaged)
        machines = list(dict.fromkeys(observation.machine for observation in [*old, *new]))
        if len(machines) > 1:
            raise ValueError(
                f"figures of several machines are not comparable, name files of one: {' / '.join(machines)}"
            )
        diffs = compare_observations(old, new, paired=False)
        notes = [
            escape_unprintable(f"not compared: {name}")
            for name in describe_unmatched_metrics(old, new)
        ]
        varying = [diff for diff in diffs if not diff.metric.is_counter]
        if any(min(len(diff.old), len(diff.new)) < MIN_ROUNDS for diff in varying):
            notes.append(
                f"with fewer than {MIN_ROUNDS} processes per side most changes stay inconclusive"
            )
        print_tables([diff_table(diffs, notes, paired=False)])
        print(escape_unprintable_lines(describe_diffs(diffs)))
        is_slower = any(diff.is_worse for diff in diffs)
        damaged_code = log_damaged_files(damaged)
        return DISAGREEMENT if self.fail == "slower" and is_slower else damaged_code
