"""The sections on methods and settings, on failed runs, and on environments."""

from collections.abc import Mapping, Sequence

from bench.environment.circumstances import Circumstances
from bench.experiment.config import Experiment, fields_of, get_field
from bench.experiment.experiments import tuning_of
from bench.experiment.fields import PACK_DATA
from bench.interfaces.method import method_text
from bench.interfaces.sections import (
    Block,
    ComparisonRecords,
    Facts,
    Fold,
    Heading,
    PageContext,
    Section,
    Text,
)
from bench.measure.comparison_records import UNTIMED
from bench.measure.tables import failure_table
from bench.tables.formats import format_count, format_percent, join_words
from bench.tables.tables import Cell, Column, Table

UNKNOWN = "unknown: the extension that adds the method is not loaded"
CIRCUMSTANCES = (
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
    comparison = page.comparison
    settings = {
        name: experiment_settings(experiment) for name, experiment in comparison.experiments.items()
    }
    return [
        methods_table(comparison),
        *_value_blocks(comparison, settings, "setting", "Settings that differ"),
    ]


def _build_failures(page: PageContext) -> Sequence[Block]:
    table = failure_table(page.comparison.records, page.comparison.label)
    return [table if table.cells else Text("No run failed.", "empty")]


def _build_environment(page: PageContext) -> Sequence[Block]:
    comparison = page.comparison
    values = dict[str, Values]()
    for name in comparison.experiments:
        circumstances = [
            environment_values(record.circumstances)
            for record in comparison.records
            if record.experiment_name == name
        ]
        names = dict.fromkeys(key for run in circumstances for key in run)
        values[name] = {
            key: join_words(list(dict.fromkeys(run.get(key, "none") for run in circumstances)))
            for key in names
        }
    starts = sorted(record.circumstances.started_at for record in comparison.records)
    return [
        Text(f"Runs were started from {starts[0]} to {starts[-1]} (UTC)."),
        *_value_blocks(comparison, values, "circumstance", "Circumstances that differ"),
    ]


METHODS = Section("methods", "What differs between the methods", "Methods", _build_methods)
FAILURES = Section("failures", "Failures", "Failures", _build_failures)
ENVIRONMENT = Section("environment", "Environment", "Environment", _build_environment)


def _value_blocks(
    comparison: ComparisonRecords, values: Mapping[str, Values], noun: str, title: str
) -> list[Block]:
    """Return a table of what differs between the experiments, and the rest, which is equal for all."""
    names = dict.fromkeys(key for values_of_one in values.values() for key in values_of_one)
    rows = []
    common = dict[str, list[str]]()
    for name in names:
        row = [values_of_one.get(name, "none") for values_of_one in values.values()]
        if len(set(row)) > 1:
            rows.append([Cell.of(name), *map(Cell, row)])
        else:
            common[name] = row[:1]
    blocks: list[Block] = []
    if rows:
        columns = Column.texts(noun, *(comparison.label(name) for name in values))
        blocks += [Heading(title), Table.of_rows(title, columns, rows)]
    if common:
        blocks.append(Fold(f"{noun.capitalize()}s that are the same for all", [Facts(common)]))
    return blocks


def methods_table(comparison: ComparisonRecords) -> Table:
    """Show the targets, the loss and the parameters of each method."""
    columns = [
        *Column.texts("experiment", "targets", "loss"),
        Column("text tower", "share of the two towers' forward FLOPs"),
        Column("head and loss", "share of all forward FLOPs"),
        Column("trained", "parameters"),
        Column("outside the tower", "parameters"),
        Column("tuning", "of rate, crops, flips and initial head"),
    ]
    figures = {row.experiment: row.figures for row in comparison.throughputs}
    rows = [
        _method_row(comparison, experiment, figures.get(experiment.name, {}))
        for experiment in comparison.experiments.values()
    ]
    return Table.of_rows("Methods", columns, rows)


def experiment_settings(experiment: Experiment) -> Values:
    """Return all settings but name and seed; lengths of the pack's captions are none where other captions are read."""
    unread = {"name", "seed"}
    if experiment.input.data != PACK_DATA:
        unread.add("caption_lengths")
    return {
        field: format_setting(get_field(experiment, field))
        for field in fields_of(experiment)
        if field not in unread
    }


def environment_values(circumstances: Circumstances) -> Values:
    """Return machine, device, versions of packages and extensions, and the settings of the GPU."""
    values = {name: format_setting(getattr(circumstances, name)) for name in CIRCUMSTANCES}
    values["GPU"] = circumstances.gpu_uuid or "none"
    values |= circumstances.packages
    values |= {name: value or "unknown" for name, value in circumstances.gpu.items()}
    return values | {
        f"extension {name}": source for name, source in circumstances.extensions.items()
    }


def format_setting(value: object) -> str:
    """Write a setting."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, tuple):
        return ", ".join(map(format_setting, value)) or "none"
    return str(value)


def _method_row(
    comparison: ComparisonRecords, experiment: Experiment, figures: Mapping[str, float | None]
) -> list[Cell]:
    method = method_text(experiment, comparison.records)
    text_share, head_share = head_flops_shares(figures)
    tuning = tuning_of(experiment)
    trained = figures.get("trained_parameters")
    tower = figures.get("tower_parameters")
    outside = trained - tower if trained is not None and tower is not None else None
    return [
        comparison.name_cell(experiment.name),
        Cell(method.targets if method is not None else UNKNOWN),
        Cell(method.loss if method is not None else UNKNOWN),
        Cell("none", "", 0)
        if text_share == 0
        else Cell.measured(text_share, format_percent, UNTIMED),
        Cell.measured(head_share, format_percent, UNTIMED),
        Cell.measured(trained, format_count, UNTIMED),
        Cell.measured(outside, format_count, UNTIMED),
        Cell(tuning.state, tuning.source),
    ]


def head_flops_shares(figures: Mapping[str, float | None]) -> tuple[float | None, float | None]:
    """Return the share of the text tower in both towers' forward FLOPs, and that of head and loss in all."""
    image = figures.get("image_forward_flops_per_image")
    text = figures.get("text_forward_flops_per_image")
    forward = figures.get("forward_flops_per_image")
    if image is None or text is None or not forward:
        return None, None
    return text / (image + text), (forward - image - text) / forward
