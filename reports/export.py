"""The verb `export`: all figures as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.console.console import log_damaged_files_for_exit_code
from bench.measure.observations import Observation, read_observations
from reports.render.document import encode_csv, write_and_print_path
from reports.series import parse_time, series_sort_key


@dataclass(frozen=True)
class ExportFigures:
    """Write a csv file with a row for every figure of every process, and print its path."""

    # files or folders of records and of pytest-benchmark documents
    results: Annotated[Positional[tuple[Path, ...]], arg(metavar="PATH ...")]
    out: Annotated[
        Path, arg(metavar="FILE")
    ]  # csv file to write: a row for each figure of each process

    def run(self) -> int:
        """Read the figures and write the file."""
        damaged = list[str]()
        observations = read_observations(self.results, damaged)
        write_and_print_path(self.out, encode_observations(observations))
        return log_damaged_files_for_exit_code(damaged)


def encode_observations(observations: Sequence[Observation]) -> bytes:
    """Return observations as csv, in the order of their series, and of their measurements in a series."""
    in_order = sorted(observations, key=lambda observation: parse_time(observation.measured_at))
    in_order.sort(key=series_sort_key)
    return encode_csv([_csv_row(observation) for observation in in_order])


def _csv_row(observation: Observation) -> dict[str, object]:
    """Return the row of an observation by column; the name of its experiment lists the settings that differ."""
    row: dict[str, object] = {
        "group": observation.benchmark.group,
        "name": observation.benchmark.name,
        "experiment": "",
        "method": "",
        "tower": "",
        "seed": "",
        "settings_digest": observation.benchmark.settings,
        "measure": observation.metric.name,
        "unit": observation.metric.unit,
        "better": observation.metric.better,
        "commit": observation.commit.id,
        "dirty": observation.commit.is_dirty,
        "committed_at": observation.committed_at or "",
        "measured_at": observation.measured_at,
        "value": observation.value,
        "machine": observation.machine,
    }
    experiment = observation.experiment
    if experiment is not None:
        row["experiment"] = experiment.name
        row["method"] = experiment.method
        row["tower"] = experiment.image.tower
        row["seed"] = experiment.seed
    return row
