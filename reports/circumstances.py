"""The sections on methods and settings, on failed runs, and on environments."""

from collections.abc import Mapping, Sequence

from bench.environment.circumstances import Circumstances
from bench.experiment.config import Experiment, differing_fields, fields_of, get_field
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
from reports.render.frames import group_by

# Circumstances by name, each with several values where the records differ in it.
FactValues = dict[str, list[str]]
UNKNOWN = "unknown: the extension that adds the method is not loaded"
COMPARED = ("machine", "device", "threads", "processes", "precision", "compiled", "commit")


def _build_methods(page: PageContext) -> Sequence[Block]:
    comparison = page.comparison
    several, differences = len(comparison.experiments) > 1, differences_table(comparison)
    blocks: list[Block] = [methods_table(comparison)]
    if differences is not None:
        blocks += [Heading(differences.title), differences]
    else:
        blocks.append(
            Text(
                "All settings are the same." if several else "The comparison has one experiment.",
                "under",
            )
        )
    same = "Settings that are the same for all"
    return [*blocks, *([Fold(same, [Facts(common_settings(comparison))])] if several else [])]


def _build_failures(page: PageContext) -> Sequence[Block]:
    table = failure_table(page.comparison.records, page.comparison.label)
    return [table if table.cells else Text("No run failed.", "empty")]


def _build_environment(page: PageContext) -> Sequence[Block]:
    comparison = page.comparison
    same = Text("Every experiment ran in the environment of the baseline experiment.", "empty")
    settings = [
        Fold(f"{one.name}, all settings", [Facts(setting_facts(one))])
        for one in comparison.experiments.values()
    ]
    return [
        Facts(environment_facts(comparison)),
        Heading("Differences from the baseline experiment"),
        environment_differences(comparison) or same,
        Fold("Packages", [Facts(package_facts(comparison))]),
        *settings,
    ]


METHODS = Section("methods", "What differs between the methods", "Methods", _build_methods)
FAILURES = Section("failures", "Failures", "Failures", _build_failures)
ENVIRONMENT = Section("environment", "Environment", "Environment", _build_environment)


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
    by_name = {row.experiment: row.figures for row in comparison.throughputs}
    shown = [
        _method_row(comparison, one, by_name.get(one.name, {}))
        for one in comparison.experiments.values()
    ]
    return Table.of_rows("Methods", columns, shown)


def differences_table(comparison: ComparisonRecords) -> Table | None:
    """Show the settings in which the experiments differ; None where they are equal."""
    experiments = list(comparison.experiments.values())
    fields = [field for field in differing_fields(experiments) if field != "seed"]
    if not fields:
        return None
    columns = Column.texts("setting", *(comparison.label(one.name) for one in experiments))
    rows = [
        [Cell.of(field), *(Cell(format_setting(get_field(one, field))) for one in experiments)]
        for field in fields
    ]
    return Table.of_rows("Settings that differ", columns, rows)


def common_settings(comparison: ComparisonRecords) -> FactValues:
    """Return the settings that all experiments share."""
    experiments = list(comparison.experiments.values())
    differing = {"name", "seed", *differing_fields(experiments)}
    return {
        name: values
        for name, values in setting_facts(experiments[0]).items()
        if name not in differing
    }


def setting_facts(experiment: Experiment) -> FactValues:
    """Return all settings of an experiment; lengths of the pack's captions are none where other captions are read."""
    unread = {"caption_lengths"} if experiment.input.data != PACK_DATA else set[str]()
    fields = (field for field in fields_of(experiment) if field not in unread)
    return {field: [format_setting(get_field(experiment, field))] for field in fields}


def environment_facts(comparison: ComparisonRecords) -> FactValues:
    """Return machine, device, versions and times of the records."""
    found = [record.circumstances for record in comparison.records]
    facts = {name: _distinct_values(found, name) for name in COMPARED}
    started = sorted(one.started_at for one in found)
    facts["started (UTC)"] = [" to ".join(dict.fromkeys((started[0], started[-1])))]
    return facts


def environment_differences(comparison: ComparisonRecords) -> Table | None:
    """Show the circumstances that differ from those of the base; None where none does."""
    by_name = group_by(comparison.records, lambda one: one.experiment_name)
    found = {
        name: [record.circumstances for record in by_name.get(name, [])]
        for name in comparison.experiments
    }
    base = found.get(comparison.base or "", [])
    packages = dict.fromkeys(
        name for of in found.values() for one in of for name in _versions_and_gpu(one)
    )
    differing: dict[tuple[str, str, str], list[str]] = {}
    for what in (*COMPARED, *packages):
        expected = _distinct_values(base, what)
        for name, circumstances in found.items():
            values = _distinct_values(circumstances, what)
            if circumstances and sorted(values) != sorted(expected):
                key = what, join_words(expected), join_words(values)
                differing.setdefault(key, []).append(comparison.label(name))
    if not differing:
        return None
    base_column = Column.text(f"of {comparison.label(comparison.base or '')}", "the baseline")
    columns = [Column.text("circumstance"), base_column, *Column.texts("here", "of")]
    rows = [[*map(Cell, key), Cell(join_words(names))] for key, names in differing.items()]
    return Table.of_rows("Circumstances that differ from the baseline's", columns, rows)


def package_facts(comparison: ComparisonRecords) -> FactValues:
    """Return the versions of packages, and the settings of the GPU."""
    found = [record.circumstances for record in comparison.records]
    names = dict.fromkeys(name for one in found for name in _versions_and_gpu(one))
    return {name: _distinct_values(found, name) for name in names}


def format_setting(value: object) -> str:
    """Write a setting."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, tuple):
        is_span = len(value) == 2 and value[0] != value[1]  # noqa: PLR2004
        return (" to " if is_span else ", ").join(map(format_setting, value)) or "none"
    return (
        {None: "none", True: "yes", False: "no"}[value]
        if value is None or isinstance(value, bool)
        else str(value)
    )


def _method_row(
    comparison: ComparisonRecords, experiment: Experiment, figures: Mapping[str, float | None]
) -> list[Cell]:
    method = method_text(experiment, comparison.records)
    text, rest = head_flops_shares(figures)
    tuning = tuning_of(experiment)
    trained, tower = figures.get("trained_parameters"), figures.get("tower_parameters")
    outside = trained - tower if trained is not None and tower is not None else None
    return [
        comparison.name_cell(experiment.name),
        *map(Cell, (method.targets, method.loss) if method is not None else (UNKNOWN, UNKNOWN)),
        Cell("none", "", 0) if text == 0 else Cell.measured(text, format_percent, UNTIMED),
        Cell.measured(rest, format_percent, UNTIMED),
        Cell.measured(trained, format_count, UNTIMED),
        Cell.measured(outside, format_count, UNTIMED),
        Cell(tuning.state, tuning.source),
    ]


def head_flops_shares(figures: Mapping[str, float | None]) -> tuple[float | None, float | None]:
    """Return the share of the text tower in both towers' forward FLOPs, and that of head and loss in all."""
    parts = ("image_forward", "text_forward", "forward")
    image, text, forward = (figures.get(f"{part}_flops_per_image") for part in parts)
    if image is None or text is None or not forward:
        return None, None
    return text / (image + text), (forward - image - text) / forward


def _distinct_values(found: Sequence[Circumstances], what: str) -> list[str]:
    """Return the distinct values of a circumstance, of a package's version or of a setting of the GPU."""
    if what in COMPARED:
        return list(dict.fromkeys(format_setting(getattr(one, what)) for one in found))
    return list(dict.fromkeys(_versions_and_gpu(one).get(what, "none") for one in found))


def _versions_and_gpu(circumstances: Circumstances) -> dict[str, str]:
    gpu = {name: value or "unknown" for name, value in circumstances.gpu.items()}
    extensions = {f"extension {name}": source for name, source in circumstances.extensions.items()}
    return circumstances.packages | gpu | extensions
