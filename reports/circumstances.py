"""The sections on methods and settings, on failed runs, and on environments."""

from collections.abc import Mapping, Sequence

from bench.environment.circumstances import Circumstances
from bench.experiment.config import Experiment, field_names_of, get_field
from bench.experiment.experiments import find_tuning_origin
from bench.experiment.fields import PACK_DATA
from bench.interfaces.method import find_method_text
from bench.interfaces.sections import (
    Block,
    ComparisonRecords,
    DefinitionList,
    Fold,
    Heading,
    PageContext,
    Section,
    Text,
)
from bench.measure.comparison_records import UNTIMED
from bench.measure.tables import failure_table
from bench.records.record import Record
from bench.tables.formats import format_count, join_with_and
from bench.tables.tables import Cell, Column, Table

UNKNOWN = "unknown: the extension that adds the method is not loaded"
FIELD_BY_CIRCUMSTANCE = (
    "machine",
    "device",
    "threads",
    "processes",
    "precision",
    "compiled",
    "commit",
    "command",
)
Values = Mapping[str, str]  # by the name of a setting or of a circumstance


def _build_methods(page: PageContext) -> Sequence[Block]:
    """Return the table of the methods, and the settings that differ or are equal."""
    comparison = page.comparison
    settings = {}
    for name, experiment in comparison.experiments.items():
        settings[name] = experiment_settings(experiment)
    return [
        methods_table(comparison),
        *_value_blocks(comparison, settings, "setting", "Settings that differ"),
    ]


def _build_failures(page: PageContext) -> Sequence[Block]:
    table = failure_table(page.comparison.records, page.comparison.label)
    return [table if table.all_rows else Text("No run failed.", "empty")]


def _build_environment(page: PageContext) -> Sequence[Block]:
    """Return when the runs were started, and the circumstances that differ or are equal."""
    comparison = page.comparison
    values = {}
    for name in comparison.experiments:
        values[name] = _joined_circumstances(
            [record for record in comparison.records if record.experiment_name == name]
        )
    starts = sorted(record.circumstances.started_at for record in comparison.records)
    return [
        Text(f"Runs were started from {starts[0]} to {starts[-1]} (UTC)."),
        *_value_blocks(comparison, values, "circumstance", "Circumstances that differ"),
    ]


def _joined_circumstances(records: Sequence[Record]) -> Values:
    """Return the circumstances of records; values that differ are joined."""
    runs = [environment_values(record.circumstances) for record in records]
    joined = {}
    for key in dict.fromkeys(key for run in runs for key in run):
        values = dict.fromkeys(run.get(key, "none") for run in runs)
        joined[key] = join_with_and(list(values))
    return joined


METHODS = Section("methods", "What differs between the methods", "Methods", _build_methods)
FAILURES = Section("failures", "Failures", "Failures", _build_failures)
ENVIRONMENT = Section("environment", "Environment", "Environment", _build_environment)


def _value_blocks(
    comparison: ComparisonRecords, values: Mapping[str, Values], noun: str, title: str
) -> list[Block]:
    """Return a table of what differs between the experiments, and the rest, which is equal for all."""
    columns_of_values = list(values.values())
    names = dict.fromkeys(name for column in columns_of_values for name in column)
    rows = []
    common = {}
    for name in names:
        texts = [column.get(name, "none") for column in columns_of_values]
        if len(set(texts)) > 1:
            cells = [Cell(text) for text in texts]
            rows.append([Cell.of(name), *cells])
        else:
            common[name] = texts[:1]
    blocks: list[Block] = []
    if rows:
        labels = [comparison.label(experiment) for experiment in values]
        columns = Column.texts(noun, *labels)
        blocks += [Heading(title), Table.of_rows(title, columns, rows)]
    if common:
        blocks.append(
            Fold(f"{noun.capitalize()}s that are the same for all", [DefinitionList(common)])
        )
    return blocks


def methods_table(comparison: ComparisonRecords) -> Table:
    """Show the targets, the loss and the parameters of each method."""
    columns = [
        *Column.texts("experiment", "targets", "loss"),
        Column("trained", "parameters"),
        Column("outside the tower", "parameters"),
        Column("tuning", "of rate, crops, flips and initial head"),
    ]
    figures = {row.experiment: row.figures for row in comparison.throughputs}
    rows = []
    for name, experiment in comparison.experiments.items():
        rows.append(_method_row(comparison, experiment, figures.get(name, {})))
    return Table.of_rows("Methods", columns, rows)


def experiment_settings(experiment: Experiment) -> Values:
    """Return all settings but name and seed; lengths of the pack's captions are none where other captions are read."""
    left_out = {"name", "seed"}
    if experiment.input.data != PACK_DATA:
        left_out.add("caption_lengths")
    settings = {}
    for field in field_names_of(experiment):
        if field not in left_out:
            settings[field] = format_setting(get_field(experiment, field))
    return settings


def environment_values(circumstances: Circumstances) -> Values:
    """Return machine, device, versions of packages and extensions, and the settings of the GPU."""
    values = {name: format_setting(getattr(circumstances, name)) for name in FIELD_BY_CIRCUMSTANCE}
    values["GPU"] = circumstances.gpu_uuid or "none"
    values |= circumstances.packages
    for name, value in circumstances.gpu.items():
        values[name] = value or "unknown"
    for name, source in circumstances.extensions.items():
        values[f"extension {name}"] = source
    return values


def format_setting(value: object) -> str:
    """Write a setting."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, tuple):
        return ", ".join(format_setting(item) for item in value) or "none"
    return str(value)


def _method_row(
    comparison: ComparisonRecords, experiment: Experiment, figures: Mapping[str, float | None]
) -> list[Cell]:
    """Return the cells of a method in the order of the columns of `methods_table`."""
    method = find_method_text(experiment.method, comparison.records)
    tuning = find_tuning_origin(experiment)
    trained = figures.get("trained_parameters")
    tower = figures.get("tower_parameters")
    outside = None
    if trained is not None and tower is not None:
        outside = trained - tower
    return [
        comparison.name_cell(experiment.name),
        Cell(UNKNOWN if method is None else method.targets),
        Cell(UNKNOWN if method is None else method.loss),
        Cell.measured_or_why(trained, format_count, UNTIMED),
        Cell.measured_or_why(outside, format_count, UNTIMED),
        Cell(tuning.state, tuning.source),
    ]
