"""The verb `export`: figures in the formats of other tools."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from bench.console.console import log_left_out, printable
from bench.measure.observations import read_observations
from reports.exports.exports import Format, export_figures
from reports.exports.scalars import read_scalars, write_event_files
from reports.render.document import write_page


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
        return log_left_out(damaged)
