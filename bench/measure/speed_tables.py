"""Tables of speed, phases and memory, for terminals and pages, with what their figures mean beneath. No torch here."""

from dataclasses import replace
from typing import Any

from bench.data.caption_lengths import describe_captions_that_runs_read
from bench.experiment.config import (
    FIELDS,
    MAY_DIFFER,
    differing_values_by_field,
    format_field_differences,
    unexpected_differences,
)
from bench.experiment.experiments import TUNED_FIELDS
from bench.experiment.settings import shared_settings_in_brackets
from bench.interfaces.sections import ComparisonView
from bench.interfaces.throughput import PHASE, ExperimentThroughput
from bench.measure.summary import UTILISATION_PREFIX
from bench.records.record import PHASES, Failure, Memory, Speed
from bench.statistics.verdicts import MAX_WAIT_SHARE, judge_bottleneck
from bench.tables.formats import (
    CONFIDENCE_TEXT,
    MIB,
    NBSP,
    format_interval,
    format_p_value,
    format_percent,
    format_rate,
    format_ratio,
    join_with_and,
)
from bench.tables.tables import Cell, Column, Table

# Titles of the peaks of a memory record, by its fields; two of them are never in one column.
MEMORY_TITLES = {
    "peak_allocated_bytes": "peak of tensors on the device",
    "peak_reserved_bytes": "peak of the allocator on the device",
    "process_bytes": "process on the device, from NVML",
    "peak_rss_bytes": "peak resident, above imports and data",
    "peak_tensor_bytes": "peak of tensors, counted",
}
# Titles of figures of `derive_run_metrics`.
SIZE_TITLES = {
    "captions_per_second": "captions/s, to targets",
    "tokens_per_caption": "tokens per caption, with padding",
    "trained_parameters": "trained parameters",
    "tower_parameters": "parameters of the tower",
    "warmup_seconds": "warm-up, s",
}
VERDICTS: dict[str, str] = {
    "faster": f"▲{NBSP}faster",
    "slower": f"▼{NBSP}slower",
    "no difference": f"={NBSP}no{NBSP}difference",
    "inconclusive": f"?{NBSP}inconclusive",
}
IS_BASE = "it is the base of the ratios"
BASE_CELL = Cell("1", "base", 1)  # the ratio of the base to itself
ONE_RUN = "one run: an interval needs two"
DISTURBED = "other work disturbed nearly all runs: the ratio is of all steps and is not judged"
VERDICT_COLUMN = 6
FORWARD_BACKWARD_NOTE = (
    "Forward + backward is of the steps that are timed in phases, without data and optimizer. Steps that other work "
    "disturbed are left out of it; the table of phases has medians over all steps."
)


def throughput_table(comparison: ComparisonView) -> Table:
    """Return the table of speed, measured and FLOP-predicted ratios, verdicts and MFU at equal batch size.

    It has a row for each timed experiment, and one for each whose timed runs all failed.
    """
    throughputs = comparison.throughputs
    sources = join_with_and(list(dict.fromkeys(row.peak_source for row in throughputs)))
    sentences = [
        _describe_runs_and_captions(comparison),
        f"MFU is 3 x forward FLOPs per image x images/s over the peak: {sources}.",
        FORWARD_BACKWARD_NOTE,
    ]
    if any(row.ratio is not None for row in throughputs):
        sentences.append(
            f"“Faster” and “slower” require p ≤ 0.01 and an effect of 2{NBSP}% or more."
        )
    base = comparison.short_label(comparison.base or "") if comparison.throughputs else "the base"
    columns = [
        Column.left_aligned("experiment"),
        Column("images/s", f"median of runs, {CONFIDENCE_TEXT}"),
        Column("runs"),
        Column("ratio", f"to {base}, {CONFIDENCE_TEXT}"),
        Column("of all steps", "ratio, with those that other work disturbed"),
        Column("p", "Holm"),
        Column.left_aligned("verdict"),
        Column("forward + backward", f"ratio, {CONFIDENCE_TEXT}"),
        Column("FLOP ratio", "predicted from FLOPs alone"),
        Column("MFU", "3 x forward over peak"),
    ]
    rows = [_throughput_cells(comparison, row) for row in comparison.throughputs]
    failed = {record.experiment_name for record, _ in comparison.records_and_contents_of(Failure)}
    failed -= {row.experiment for row in comparison.throughputs}
    for name in comparison.experiments:
        if name in failed:
            cells = [Cell.unmeasured("every timed run of this experiment failed")] * len(columns)
            cells[0] = comparison.name_cell(name)
            cells[VERDICT_COLUMN] = Cell("✕ failed", "see failures", "failed", anchor="failures")
            rows.append(cells)
    return Table(
        "Throughput of each experiment",
        columns,
        {"": rows},
        " ".join(sentences),
        is_transposed=True,
    )


def with_note_on_setting_differences(table: Table, comparison: ComparisonView) -> Table:
    """Return a table of speeds whose note also lists how the experiments differ, for a terminal."""
    experiments = list(comparison.experiments.values())
    beyond = unexpected_differences(experiments, MAY_DIFFER)
    tuned = {}
    for field, values in differing_values_by_field(experiments).items():
        is_own_setting = field in TUNED_FIELDS or field not in FIELDS
        if is_own_setting and field not in beyond:
            tuned[field] = values
    lines = [table.note]
    settings = shared_settings_in_brackets(comparison.experiments)
    if settings:
        lines.append(f"All experiments have {settings[1:-1].replace(',', ', ')}.")
    if tuned:
        lines.append(f"The methods' own settings: {format_field_differences(tuned)}.")
    if beyond:
        lines.append("The ratio is not the method's alone, for the experiments also differ in")
        lines += [
            f"  {format_field_differences({field: values})}" for field, values in beyond.items()
        ]
    return replace(table, note="\n".join(lines))


def _describe_runs_and_captions(comparison: ComparisonView) -> str:
    """Return sentences on the unit of repetition of the intervals, and the captions."""
    inputs = [experiment.input for experiment in comparison.experiments.values()]
    return (
        "Images/s: of all processes of a run together; the batch is that of each. Runs: each in fresh processes; one "
        "run gives neither an interval nor a verdict. Intervals are over these runs on this machine at this time and "
        "do not cover other machines, seeds or data. A ratio is one of geometric means over runs, so it may differ in "
        "its last digit from the ratio of the medians shown. "
        f"Captions: {describe_captions_that_runs_read(inputs)}."
    )


def step_phase_table(comparison: ComparisonView) -> Table:
    """Return the table of a step's phases, their sum beside the whole step, and whether data or compute limits it."""
    rows = []
    measured = {name for row in comparison.throughputs for name in row.figures}
    phases = [phase for phase in PHASES if PHASE + phase in measured]
    for row in comparison.throughputs:
        figures = row.figures
        cells: dict[str, Any] = {"experiment": comparison.short_label(row.experiment)}
        cells["batch"] = round(figures["batch_size"] or 0)
        for phase in phases:
            cells[f"{phase}, ms"] = figures.get(PHASE + phase)
        cells["sum of phases, ms"] = figures["phases_ms"]
        cells["whole step, ms"] = figures["step_ms"]
        cells["data, share of the phases"] = row.data_share
        cells["waited for batches, share of the windows"] = figures["data_wait_share"]
        cells["loader workers"] = row.loader_workers
        cells["bound"] = None
        if row.data_share is not None:
            has_prefetching = row.loader_workers > 0
            cells["bound"] = judge_bottleneck(row.data_share, has_prefetching=has_prefetching)
        rows.append(cells)
    note = (
        "Phases are timed in a separate pass with a device synchronisation between them; figures are medians over "
        "steps, then over runs. A sum well above the whole step means that phases overlap without synchronisation, a "
        "sum well below it that some time belongs to no phase. A step is input-bound if data takes longer than all "
        "other phases, so that a background loader would also be waited for; with loader workers, if over "
        f"{MAX_WAIT_SHARE:.0%} of it is spent waiting for them. The ratios of input-bound experiments compare loading, "
        "not methods."
    )
    return Table.from_dicts("Where a step's time goes", rows, note, is_transposed=True)


def memory_utilisation_and_parameter_table(comparison: ComparisonView) -> Table:
    """Return the table of memory, utilisation, the cost of targets, and numbers of parameters."""
    memories = {
        experiment.name: memory
        for experiment, memory in comparison.experiments_and_contents_of(Memory)
    }
    throughputs = {row.experiment: row for row in comparison.throughputs}
    rows = []
    for name in comparison.experiments:
        cells: dict[str, Any] = {"experiment": comparison.short_label(name)}
        for count, title in MEMORY_TITLES.items():
            size = getattr(memories.get(name), count, None)
            if size is not None:
                cells[f"{title}, MiB"] = size / MIB
        row = throughputs.get(name)
        for figure, value in row.figures.items() if row else ():
            if figure.startswith(UTILISATION_PREFIX):
                cells[figure.removeprefix(UTILISATION_PREFIX)] = value
            elif figure in SIZE_TITLES:
                is_count = figure.endswith("parameters")
                cells[SIZE_TITLES[figure]] = round(value or 0) if is_count else value
        if len(cells) > 1:
            rows.append(cells)
    note = (
        "Memory is the peak of one run in its own process, without imports and data; “tensors” sums the tensors of one "
        "step, independently of the allocator. Utilisation is a mean over the timed windows, then a median over runs. "
        "Captions/s is the rate of converting captions to targets, once per data set. Warm-up includes the heating of "
        "a GPU. A dash means not measured and differs from zero."
    )
    reasons: dict[str, None] = {}
    for _, speed in comparison.records_and_contents_of(Speed):
        reasons |= dict.fromkeys(f"{name}: {why}" for name, why in speed.not_measured.items())
    for reason in reasons:
        note += f" Not measured, or only in part: {reason}."
    return Table.from_dicts(
        "Memory, utilisation, targets and sizes", rows, note, is_transposed=True
    )


def _throughput_cells(comparison: ComparisonView, row: ExperimentThroughput) -> list[Cell]:
    """Return the cells of a timed experiment."""
    is_base = row.experiment == comparison.base
    why = IS_BASE if is_base else (comparison.incomparable or "no other experiment was timed")
    p = Cell.not_applicable(why)
    verdict = p
    if row.ratio is not None:
        why_no_p = ONE_RUN if len(row.rounds) == 1 else DISTURBED
        p = Cell.applicable_or_why(row.ratio.p, format_p_value, why_no_p)
        verdict = Cell(VERDICTS[row.ratio.verdict], "", row.ratio.verdict)
    ratio_cells = [BASE_CELL] * 4
    if not is_base:
        estimates = (row.ratio, row.ratio_of_all, row.forward_backward)
        ratio_cells = [Cell.estimate_or_why(ratio, format_ratio, why) for ratio in estimates]
        ratio_cells.append(Cell.measured_or_why(row.flop_ratio, format_ratio, why))
    interval = format_interval(row.interval, format_rate) or "one run"
    return [
        comparison.name_cell(row.experiment),
        Cell.of(row.images_per_second, format_rate, interval),
        Cell.of(len(row.rounds)),
        *ratio_cells[:2],
        p,
        verdict,
        *ratio_cells[2:],
        Cell.measured_or_why(row.mfu, format_percent, row.peak_source),
    ]
