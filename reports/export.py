"""The verb `export`: all figures as a table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.console.console import log_damaged_files
from bench.measure.observations import read_observations
from reports.render.document import encode_csv, write_page
from reports.series import build_history, figures_frame


@dataclass(frozen=True)
class ExportFigures:
    """Write a csv file with a row for every figure of every process, and print its path."""

    # files or folders of records and of pytest-benchmark documents
    results: Annotated[Positional[tuple[Path, ...]], arg(metavar="PATH ...")]
    out: Path  # csv file to write

    def run(self) -> int:
        """Read the figures and write the file."""
        damaged = list[str]()
        figures = read_observations(self.results, damaged)
        write_page(self.out, encode_csv(figures_frame(build_history(figures))))
        return log_damaged_files(damaged)
