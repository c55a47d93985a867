"""The verb `export`: all figures as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.console.console import log_damaged_files
from bench.measure.observations import Observation, read_observations
from reports.render.document import encode_csv, write_page
from reports.series import parse_time, series_order


@dataclass(frozen=True)
class ExportFigures:
    """Write a csv file with a row for every figure of every process, and print its path."""

    # files or folders of records and of pytest-benchmark documents
    results: Annotated[Positional[tuple[Path, ...]], arg(metavar="PATH ...")]
    out: Annotated[Path, arg(metavar="FILE")]  # csv file to write

    def run(self) -> int:
        """Read the figures and write the file."""
        damaged = list[str]()
        figures = read_observations(self.results, damaged)
        write_page(self.out, encode_figures(figures))
        return log_damaged_files(damaged)


def encode_figures(figures: Sequence[Observation]) -> bytes:
    """Return figures as csv, in the order of the series and of their measurements."""
    in_order = sorted(figures, key=lambda figure: parse_time(figure.measured_at))
    in_order.sort(key=series_order)
    return encode_csv([_row_of(figure) for figure in in_order])


def _row_of(figure: Observation) -> dict[str, object]:
    """Return the columns of a figure; the name of its experiment lists the settings that differ from the named one."""
    experiment = figure.experiment
    return {
        "group": figure.benchmark.group,
        "name": figure.benchmark.name,
        "experiment": experiment.name if experiment else "",
        "method": experiment.method if experiment else "",
        "tower": experiment.image.tower if experiment else "",
        "seed": experiment.seed if experiment else "",
        "settings_digest": figure.benchmark.settings,
        "measure": figure.metric.name,
        "unit": figure.metric.unit,
        "better": figure.metric.better,
        "commit": figure.commit.id,
        "dirty": figure.commit.is_dirty,
        "committed_at": figure.committed_at or "",
        "measured_at": figure.measured_at,
        "value": figure.value,
        "machine": figure.machine,
    }
