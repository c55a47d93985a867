"""The verb `build`: the page of the newest comparison of a folder."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import FOLDER
from bench.console.console import FAILED_CASE, OK, PROGRAM, log, log_damaged_files
from bench.environment.files import read_intact_files
from bench.experiment.config import look_up
from bench.measure.comparison_records import group_comparison
from bench.measure.windows import describe_waits
from bench.records.record import Record, read_record
from reports.joined import comparison_files, join_comparisons
from reports.page import page
from reports.render.document import write_page


@dataclass(frozen=True)
class ComparisonPage:
    """Write the page of a folder's newest comparison, joined with what belongs to it; print its path.

    A page has the timed runs of one comparison, and the trainings and scores of comparable experiments on the same
    machine, also those in folders of trainings one level down. It lists the other comparisons with the reasons.
    """

    # folder of the records
    results: Annotated[Positional[Path], FOLDER] = Path("results")
    out: Path | None = None  # HTML page to write; default: index.html in FOLDER
    # name of a comparison, which is shown alone; default: the newest, joined with what belongs to it
    comparison: Annotated[str | None, arg(metavar="NAME")] = None

    def run(self) -> int:
        """Read the records and write the page; files that are damaged, or newer and no records, are named on it."""
        comparisons = dict[str, list[Record]]()
        errors = dict[str, list[str]]()  # of damaged files, by comparison
        for name, paths in comparison_files(self.results).items():
            records, errors[name] = read_intact_files(paths, read_record)
            if records:
                comparisons[name] = records
        if not comparisons:
            log_damaged_files(list(chain.from_iterable(errors.values())))
            raise ValueError(
                f"{self.results} holds no records; run `{PROGRAM}` first, which writes them"
            )
        shown = comparisons
        if self.comparison is not None:
            look_up(self.comparison, comparisons, f"comparison in {self.results}")
            shown = {self.comparison: comparisons[self.comparison]}
        joined = join_comparisons(shown)
        newest = joined.comparisons[0]
        others = [name for name in reversed(comparisons) if name not in joined.comparisons]
        damaged = []
        for name, errors_of_files in errors.items():
            if name not in others:
                damaged += errors_of_files
        failed = list[str]()
        text = page(
            newest.rpartition("/")[2],
            joined.records,
            joined=joined.comparisons,
            others={name: joined.left_out.get(name, "") for name in others},
            damaged=damaged,
            folder=list(chain.from_iterable(comparisons.values())),
            results=str(self.results),
            failed=failed,
        )
        write_page(self.out or self.results / "index.html", text.encode())
        comparison = group_comparison("", joined.records)
        waits = describe_waits(comparison.records, comparison.experiments)
        if waits:
            log(waits)
        for line in failed:
            log(line)
        return log_damaged_files(damaged) or (FAILED_CASE if failed else OK)
