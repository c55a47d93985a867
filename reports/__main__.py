"""The command line of the reports: pages and exports from records."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from bench.claims.claims import get_claim, read_claims
from bench.cli.verbs import ADDED_REPORT_VERBS
from bench.config import choose
from bench.console.console import (
    DISAGREEMENT,
    FAILED_CASE,
    OK,
    PROGRAM,
    USAGE,
    describe_error,
    log,
    printable,
    printable_lines,
    require_utf8,
    run_with_streams,
    take_extensions,
)
from bench.console.options import parse_options, require_range
from bench.console.tables import print_tables
from bench.environment.files import name_in_errors, read_intact_files, read_limited
from bench.extensions import load_extensions
from bench.history.metric_diffs import compare_observations, describe_diffs, diff_table, on_one_side
from bench.history.observations import read_observations
from bench.measure.disturbance import describe_disturbance, find_disturbance
from bench.record import Record, read_record, record_files
from bench.registry import import_object
from bench.statistics import fewest_rounds
from reports.claims.card import make_card
from reports.claims.evidence import records_of_claims
from reports.claims.page import claim_document, claim_markdown, claim_page, claims_table
from reports.claims.statement import CLAIMS, make_speed_cards, speed_statement
from reports.exports.exports import Format, export_figures
from reports.exports.scalars import read_scalars, write_event_files
from reports.history.changes import find_changes
from reports.history.detection import few_commits_table, rates_table
from reports.history.history_page import history_page
from reports.history.series import build_history
from reports.joined import comparison_files, join_comparisons
from reports.page import page, page_sections
from reports.render.document import write_page
from reports.render.frames import group_comparison, select_equal_and_largest_batch


@dataclass(frozen=True)
class ComparisonPage:
    """Write the page of a folder's newest comparison, joined with what belongs to it; print its path.

    A page has the timed runs of one comparison, and the trainings and scores of comparable experiments on the same
    machine, also those in folders of trainings one level down. It lists the other comparisons with the reasons.
    """

    results: Positional[Path] = Path("results")
    """Folder of the records."""
    out: Path | None = None
    """Path of the page; default index.html in the folder of the records."""
    comparison: str | None = None
    """Name of a comparison, which is shown alone; default the newest and what belongs to it."""

    def run(self) -> int:
        """Read the records and write the page; files that are damaged, or newer and no records, are named on it."""
        files = comparison_files(self.results).items()
        read = {name: read_intact_files(paths, read_record) for name, paths in files}
        found = {name: records for name, (records, _) in read.items() if records}
        if not found:
            _log_damaged([error for _, damaged in read.values() for error in damaged])
            raise ValueError(f"{self.results} holds no records; run `{PROGRAM}` first, which writes them")
        if self.comparison is not None:
            choose(self.comparison, found, f"comparison in {self.results}")
        shown = found if self.comparison is None else {self.comparison: found[self.comparison]}
        joined = join_comparisons(shown)
        others = {name: joined.left_out.get(name, "") for name in reversed(found) if name not in joined.comparisons}
        newer = [*read][[*read].index(joined.comparisons[0]) + 1 :]
        unread = [name for name in newer if name not in found]
        damaged = [error for name in (*joined.comparisons, *unread) for error in read[name][1]]
        names = dict.fromkeys(name for section, _ in page_sections() for name in section.documents)
        documents = {name: read_limited(path) for name in names if (path := self.results / name).is_file()}
        failed = list[str]()
        text = page(
            joined.comparisons[0].rpartition("/")[2],
            joined.records,
            joined=joined.comparisons,
            others=others,
            documents=documents,
            damaged=damaged,
            claim_records=records_of_claims(CLAIMS, chain.from_iterable(found.values())),
            failed=failed,
        )
        write_page(self.out or self.results / "index.html", text.encode())
        comparison = group_comparison("", select_equal_and_largest_batch(joined.records)[0])
        disturbance = find_disturbance(comparison.records, comparison.experiments)
        if disturbance.total_rounds:
            log(describe_disturbance(disturbance))
        for error in failed:
            log(error)
        return _log_damaged(damaged) or (FAILED_CASE if failed else OK)


@dataclass(frozen=True)
class ClaimReport:
    """List claims of papers with their verdicts from records, or show the card of one claim."""

    name: Positional[str | None] = None
    """Name of the claim; default all claims, as a list."""
    records: tuple[Path, ...] = (Path("results"),)
    """Folders of the records; a folder that does not exist is allowed for the default only."""
    out: Path | None = None
    """Path of the card, which ends in .html or .md; default: Markdown on standard output."""
    json: Path | None = None
    """File to which the card, or the list, is written as JSON."""

    def run(self) -> int:
        """Read the records; print or write the card, or the list."""
        damaged, rows = list[str](), list[Record]()
        for folder in self.records:
            if not folder.is_dir() and self.records != ClaimReport.records:
                raise ValueError(f"{folder} is no folder; name folders of records with --records")
            found, errors = read_intact_files(record_files(folder), read_record)
            rows += found
            damaged += errors
        if self.name is None:
            if self.out is not None:
                raise ValueError(f"--out is for one claim: name it (there are {', '.join(read_claims())})")
            print_tables([claims_table([make_card(one, rows) for one in read_claims().values()])], self.json)
            return _log_damaged(damaged)
        cards = make_speed_cards(rows) if self.name in CLAIMS else {}
        card = cards.get(self.name) or make_card(get_claim(self.name), rows)
        statement = speed_statement(cards) if cards else []
        if self.json is not None:
            with name_in_errors(self.json):
                self.json.write_text(
                    json.dumps(claim_document(card, statement), indent=1, allow_nan=False), encoding="utf-8"
                )
        if self.out is None:
            print(printable_lines(claim_markdown(card, statement)), end="")
        else:
            writers = {".html": claim_page, ".md": claim_markdown}
            write_page(self.out, choose(self.out.suffix, writers, "ending of --out")(card, statement).encode())
        return _log_damaged(damaged)


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
            require_range("lines", self.lines, 1, 1e6)
            table, holds = rates_table(self.lines)
            print_tables([table, few_commits_table(self.lines)])
            return OK if holds else DISAGREEMENT
        damaged = list[str]()
        history = build_history(read_observations([self.results], damaged))
        changes = [change for line in history.series for change in find_changes(line)]
        text = history_page(history, changes, damaged)
        for change in changes:
            worse, series = "worse" if change.is_worse else "better", change.series
            print(printable(f"{change.kind}, {worse}: {series.benchmark.name}, {series.metric.name}: {change.text}"))
        write_page(self.out or self.results / "charts.html", text.encode())
        return _log_damaged(damaged)


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
        damaged = list[str]()
        old, new = (read_observations([path], damaged) for path in (self.old, self.new))
        machines = list(dict.fromkeys(figure.machine for figure in [*old, *new]))
        if len(machines) > 1:
            raise ValueError(
                f"figures of several machines are not comparable, name files of one: {' / '.join(machines)}"
            )
        diffs = compare_observations(old, new, paired=False)
        notes = [printable(f"not compared: {name}") for name in on_one_side(old, new)]
        varying = [diff for diff in diffs if not diff.metric.is_counter]
        needed = fewest_rounds(len(varying))
        if any(min(len(diff.old), len(diff.new)) < needed for diff in varying):
            notes.append(f"a verdict on {len(varying)} times needs {needed} processes per side")
        print_tables([diff_table(diffs, notes, paired=False)])
        print(printable_lines(describe_diffs(diffs)))
        code = _log_damaged(damaged)
        return DISAGREEMENT if self.fail == "slower" and any(diff.is_worse for diff in diffs) else code


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
        damaged = list[str]()
        if self.format == "tensorboard":
            write_event_files(read_scalars(self.results, damaged), self.out)
            print(printable(str(self.out)))
        else:
            figures = read_observations(self.results, damaged, with_scores=True)
            write_page(self.out, export_figures(figures, self.format))
        return _log_damaged(damaged)


def _log_damaged(damaged: Sequence[str]) -> int:
    """Log the errors of files that are left out; return the exit code."""
    for error in damaged:
        log(f"left out: {error}")
    return FAILED_CASE if damaged else OK


Verb = ComparisonPage | ClaimReport | HistoryPage | CompareFigures | ExportFigures
VERBS: dict[str, type[Verb]] = {
    "build": ComparisonPage,
    "claim": ClaimReport,
    "history": HistoryPage,
    "compare": CompareFigures,
    "export": ExportFigures,
}


def report_verbs() -> dict[str, type[Any]]:
    """Return all verbs by name: those of features follow those of this program."""
    return VERBS | {name: import_object(place) for name, place in ADDED_REPORT_VERBS.items()}


def main(arguments: Sequence[str], program: str = "python -m reports") -> int:
    """Run one verb; return the exit code."""
    named, arguments = take_extensions(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        load_extensions(named)
        lines = [f"usage: {program} VERB ...", *(f"  {name:8} {verb.__doc__}" for name, verb in report_verbs().items())]
        print("\n".join(lines), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else USAGE
    try:
        require_utf8(*arguments)
        load_extensions(named)
        verb = choose(arguments[0], report_verbs(), f"verb of {program}")
        return int(parse_options(verb, f"{program} {arguments[0]}", arguments[1:]).run())
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        log(f"{program}: {describe_error(error)}")
        return USAGE


if __name__ == "__main__":
    raise SystemExit(run_with_streams(lambda: main(sys.argv[1:])))
