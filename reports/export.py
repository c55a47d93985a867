"""The verb `export`: all figures as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.console.console import log_damaged_files_for_exit_code
from bench.measure.metric_values import MetricValue, read_metric_values
from reports.render.document import encode_csv, write_file_and_print_path
from reports.series import parse_time, series_sort_key


@dataclass(frozen=True)
class ExportMetricValues:
    """Write a csv file with a row for every figure of every process, and print its path."""

    # files or folders of records and of pytest-benchmark documents
    results: Annotated[Positional[tuple[Path, ...]], arg(metavar="PATH ...")]
    # csv file to write: a row for each figure of each process
    out: Annotated[Path, arg(metavar="FILE.csv")]

    def run(self) -> int:
        """Read the figures and write the file."""
        damaged = list[str]()
        metric_values = read_metric_values(self.results, damaged)
        write_file_and_print_path(self.out, encode_metric_values_as_csv(metric_values))
        return log_damaged_files_for_exit_code(damaged)


def encode_metric_values_as_csv(metric_values: Sequence[MetricValue]) -> bytes:
    """Return metric values as csv, in the order of their series, and of their measurements in a series."""
    in_order = sorted(metric_values, key=lambda metric_value: parse_time(metric_value.measured_at))
    in_order.sort(key=series_sort_key)
    return encode_csv([_csv_row(metric_value) for metric_value in in_order])


def _csv_row(metric_value: MetricValue) -> dict[str, object]:
    """Return the row of a metric value by column; the name of its experiment lists the settings that differ."""
    row: dict[str, object] = {
        "group": metric_value.benchmark.group,
        "name": metric_value.benchmark.name,
        "experiment": "",
        "method": "",
        "tower": "",
        "seed": "",
        "settings_digest": metric_value.benchmark.settings,
        "measure": metric_value.metric.name,
        "unit": metric_value.metric.unit,
        "better": metric_value.metric.better,
        "commit": metric_value.commit.id,
        "dirty": metric_value.commit.is_dirty,
        "committed_at": metric_value.committed_at or "",
        "measured_at": metric_value.measured_at,
        "value": metric_value.value,
        "machine": metric_value.machine,
    }
    experiment = metric_value.experiment
    if experiment is not None:
        row["experiment"] = experiment.name
        row["method"] = experiment.method
        row["tower"] = experiment.image.tower
        row["seed"] = experiment.seed
    return row
