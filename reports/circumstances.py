"""The sections on methods and settings, on failed runs, and on environments."""

from collections.abc import Mapping, Sequence

from bench.environment.circumstances import RunCircumstances
from bench.experiment.config import Experiment, field_names_of, get_field
from bench.experiment.experiments import find_tuning_origin
from bench.experiment.fields import PACK_DATA
from bench.interfaces.method import find_method_text
from bench.interfaces.sections import (
    Block,
    ComparisonView,
    DefinitionList,
    FoldOutBlock,
    Heading,
    PageContext,
    PageSection,
    Paragraph,
)
from bench.measure.comparison_records import UNTIMED
from bench.measure.tables import failed_run_table
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
TextByName = Mapping[str, str]  # a value as text, by the name of a setting or of a circumstance


def _build_methods_and_settings_blocks(page: PageContext) -> Sequence[Block]:
    """Return the table of the methods, and the settings that differ or are equal."""
    comparison = page.comparison
    settings = {}
    for name, experiment in comparison.experiments.items():
        settings[name] = format_experiment_settings(experiment)
    return [
        methods_table(comparison),
        *_differing_and_equal_blocks(comparison, settings, "setting"),
    ]


def _build_failed_runs_blocks(page: PageContext) -> Sequence[Block]:
    """Return the table of the failed runs, or the sentence that there are none."""
    table = failed_run_table(page.comparison.records, page.comparison.short_label)
    return [table if table.all_rows else Paragraph("No run failed.", "empty")]


def _build_circumstances_blocks(page: PageContext) -> Sequence[Block]:
    """Return when the runs were started, and the circumstances that differ or are equal."""
    comparison = page.comparison
    values = {}
    for name in comparison.experiments:
        values[name] = _join_circumstances(
            [record for record in comparison.records if record.experiment_name == name]
        )
    starts = sorted(record.circumstances.started_at for record in comparison.records)
    return [
        Paragraph(f"Runs were started from {starts[0]} to {starts[-1]} (UTC)."),
        *_differing_and_equal_blocks(comparison, values, "circumstance"),
    ]


def _join_circumstances(records: Sequence[Record]) -> TextByName:
    """Return the circumstances of records; values that differ are joined."""
    runs = [format_circumstances(record.circumstances) for record in records]
    joined = {}
    for key in dict.fromkeys(key for run in runs for key in run):
        values = dict.fromkeys(run.get(key, "none") for run in runs)
        joined[key] = join_with_and(list(values))
    return joined


METHODS = PageSection(
    "methods", "What differs between the methods", "Methods", _build_methods_and_settings_blocks
)
FAILURES = PageSection("failures", "Failures", "Failures", _build_failed_runs_blocks)
ENVIRONMENT = PageSection("environment", "Environment", "Environment", _build_circumstances_blocks)


def _differing_and_equal_blocks(
    comparison: ComparisonView, texts_by_experiment: Mapping[str, TextByName], noun: str
) -> list[Block]:
    """Return a table of what differs between experiments, and the rest, which is equal; `noun` names a row."""
    names = dict[str, None]()
    for texts_by_name in texts_by_experiment.values():
        names |= dict.fromkeys(texts_by_name)
    rows = []
    common = {}
    for name in names:
        texts = [by_name.get(name, "none") for by_name in texts_by_experiment.values()]
        if len(set(texts)) > 1:
            rows.append([Cell.of(name), *map(Cell, texts)])
        else:
            common[name] = texts[0]
    plural = f"{noun.capitalize()}s"
    blocks: list[Block] = []
    if rows:
        title = f"{plural} that differ"
        columns = Column.all_left_aligned(noun, *map(comparison.short_label, texts_by_experiment))
        blocks += [Heading(title), Table.of_rows(title, columns, rows)]
    if common:
        blocks.append(FoldOutBlock(f"{plural} that are the same for all", [DefinitionList(common)]))
    return blocks


def methods_table(comparison: ComparisonView) -> Table:
    """Show the targets, the loss and the parameters of each method."""
    columns = [
        *Column.all_left_aligned("experiment", "targets", "loss"),
        Column("trained", "parameters"),
        Column("outside the tower", "parameters"),
        Column("tuning", "of rate, crops, flips and initial head"),
    ]
    figures_by_experiment = {row.experiment: row.figures for row in comparison.throughputs}
    rows = []
    for name, experiment in comparison.experiments.items():
        method = find_method_text(experiment.method, comparison.records)
        tuning = find_tuning_origin(experiment)
        figures = figures_by_experiment.get(name, {})
        trained = figures.get("trained_parameters")
        tower = figures.get("tower_parameters")
        outside = None
        if trained is not None and tower is not None:
            outside = trained - tower
        row = [
            comparison.name_cell(name),
            Cell(UNKNOWN if method is None else method.targets),
            Cell(UNKNOWN if method is None else method.loss),
            Cell.measured_or_why(trained, format_count, UNTIMED),
            Cell.measured_or_why(outside, format_count, UNTIMED),
            Cell(tuning.state, tuning.source),
        ]
        rows.append(row)
    return Table.of_rows("Methods", columns, rows)


def format_experiment_settings(experiment: Experiment) -> TextByName:
    """Return all settings but name and seed; lengths of the pack's captions are none where other captions are read."""
    left_out = {"name", "seed"}
    if experiment.input.data != PACK_DATA:
        left_out.add("pack_caption_lengths")
    settings = {}
    for field in field_names_of(experiment):
        if field not in left_out:
            settings[field] = format_setting(get_field(experiment, field))
    return settings


def format_circumstances(circumstances: RunCircumstances) -> TextByName:
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
    """Write a value: "none", "yes" or "no", a number with commas, the items of a tuple, or its text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, tuple):
        return ", ".join(format_setting(item) for item in value) or "none"
    return str(value)
