"""The verb `build`: the page of the newest comparison of a folder."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import Folder
from bench.console.console import PROGRAM, log_damaged_files_for_exit_code
from bench.environment.files import read_intact_files
from bench.experiment.config import look_up
from bench.records.record import Record, read_record
from reports.page import render_comparison_page
from reports.render.document import write_file_and_print_path
from reports.result_groups import choose_page_results, record_files_by_comparison


@dataclass(frozen=True)
class BuildPage:
    """Write the page of all results in a folder, and in folders of trainings one level down; print its path.

    It begins with the results that can be compared with each other: those with most kinds of figures (speeds,
    trainings, scores), the newest of these. Other results are short tables, with the reason why they are apart.
    """

    # folder with the records
    results: Positional[Folder] = Path("results")
    # HTML page to write; default: index.html in FOLDER
    out: Annotated[Path | None, arg(metavar="FILE.html")] = None
    # show this comparison alone, named as its files begin, such as 20260101T000000-default; default: all
    only_comparison: Annotated[str | None, arg(metavar="FILE-PREFIX")] = None

    def run(self) -> int:
        """Read the records and write the page; files that are damaged, or newer and no records, are named on it."""
        comparisons = dict[str, list[Record]]()
        damaged = list[str]()  # the errors of files
        for name, paths in record_files_by_comparison(self.results).items():
            records, errors = read_intact_files(paths, read_record)
            damaged += errors
            if records:
                comparisons[name] = records
        if not comparisons:
            log_damaged_files_for_exit_code(damaged)
            raise ValueError(
                f"{self.results} holds no records; run `{PROGRAM}` first, which writes them"
            )
        shown = comparisons
        if self.only_comparison is not None:
            look_up(self.only_comparison, comparisons, f"comparison in {self.results}")
            shown = {self.only_comparison: comparisons[self.only_comparison]}
        joined, others = choose_page_results(shown)
        text = render_comparison_page(
            joined.comparisons[0].rpartition("/")[2],
            joined.records,
            joined_comparisons=joined.comparisons,
            incomparable_results=others,
            file_errors=damaged,
            folder_records=list(chain.from_iterable(comparisons.values())),
            results=str(self.results),
        )
        write_file_and_print_path(self.out or self.results / "index.html", text.encode())
        return log_damaged_files_for_exit_code(damaged)
