"""The answer of the page: its sentences with warnings, one table of figures, and notes."""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from markupsafe import Markup

from bench.experiment.fields import PACK_DATA
from bench.interfaces.catalog import describe_out_of_domain_scoring
from bench.interfaces.sections import Block, ComparisonRecords, Group, PageContext, Text, Warn
from bench.interfaces.throughput import Throughput
from bench.measure.comparison_records import UNTIMED
from bench.measure.speed_tables import BASE_CELL, IS_BASE
from bench.measure.summary import extreme_mfu_rows
from bench.measure.tables import sample_table
from bench.measure.windows import describe_waits
from bench.records.record import Failure, Record, Speed, Training
from bench.tables.formats import (
    INTERVAL,
    format_accuracy,
    format_percent,
    format_ratio,
    format_seconds,
    join_words,
    pluralize,
)
from bench.tables.tables import Cell, Column, Table
from bench.transfer.subject_scores import (
    ScorePoint,
    WholeTaskScores,
    towers_at_budget,
    whole_task_scores,
)
from reports.accuracy.accuracy_section import headline_chart
from reports.accuracy.ranking import MOST_NAMED, gain_sentences, link_to_omitted, rank_others
from reports.answer import largest_batch_sentences, limits_sentence
from reports.render.document import left_out
from reports.render.frames import batch_independent_settings, conflicting_settings

OTHERS_NOTE = Markup(
    'The folder holds other comparisons that are not on this page: <a href="#data">see which and why</a>.'
)
MORE = Markup("More seeds: <code>catlip-bench --full</code>. On your own data: docs/quickstart.md.")
NOT_SCORED = "its tower was not scored at this budget"


def answer_blocks(
    page: PageContext,
    sentences: Sequence[str],
    figures: Table | None,
    added: Sequence[Block],
    damaged: Sequence[str],
) -> list[Block]:
    """Return the sentences that answer, what limits them, a chart, the table of figures, and notes.

    `added` are blocks of sections that stand here, `damaged` are the errors of files that are left out.
    """
    comparison = page.comparison
    answers = whole_task_scores(comparison)
    waits = describe_waits(comparison.records, comparison.experiments)
    notes = [
        *([OTHERS_NOTE] if any(page.others.values()) else []),
        *rank_others(comparison, answers, page.differences),
        *_flops_mismatch_notes(comparison),
    ]
    first: list[Block] = [*headline_chart(comparison)]
    if figures is not None and figures.cells:
        over = "over training seeds" if answers.fewest_seeds > 2 else "over test images"  # noqa: PLR2004
        note = f"Intervals of ratios are over runs{f', those of accuracies {over}' if answers else ''}."
        first.append(Group([figures, Text(note, "under")]))
    return [
        *(Text(sentence, "lead") for sentence in sentences),
        *([Text(waits)] if waits else []),
        Text(limits_sentence(comparison, answers)),
        *map(Text, [*_own_data_notes(comparison, answers), *_sample_notes(comparison)]),
        *map(Warn, _warnings(comparison)),
        *left_out(damaged),
        Group(first, "first"),
        *added,
        *map(Text, [*gain_sentences(comparison, answers), *largest_batch_sentences(page.largest)]),
        Text(_describe_durations(page.records)),
        Text(MORE),
        *map(Text, notes),
    ]


def headline_table(
    comparison: ComparisonRecords, largest: ComparisonRecords | None, answers: WholeTaskScores
) -> Table:
    """Show speeds, FLOP-predicted ratios and MFU of each experiment, and the accuracy of its tower."""
    task = answers.tasks[0] if answers else ""
    found = answers.main_points(task) if answers else []
    budgets = [budget for budget in answers.headline_budgets if towers_at_budget(found, budget)]
    base = comparison.label(comparison.base or "") if comparison.throughputs else "the base"
    columns = [
        Column.text("experiment"),
        Column("images/s at equal batch size", f"times {base}’s, {INTERVAL}"),
        *([Column("at its largest batch size", f"times {base}’s, {INTERVAL}")] if largest else []),
        *(
            Column(f"{task} at {budget}", f"accuracy, {INTERVAL}; device time")
            for budget in budgets
        ),
        Column("FLOP-predicted ratio", "at equal batch size"),
        Column("MFU"),
    ]
    by_name = {row.experiment: row for row in comparison.throughputs}
    shown = []
    for name in comparison.experiments:
        row = by_name.get(name)
        measured, predicted = _ratio_cells(comparison, row)
        shown.append(
            [
                comparison.name_cell(name),
                measured,
                *_largest_batch_cells(comparison, name, largest),
                *(_accuracy_cell(towers_at_budget(found, budget), name, row) for budget in budgets),
                predicted,
                Cell.measured(
                    row.mfu if row else None, format_percent, row.peak_source if row else UNTIMED
                ),
            ]
        )
    return Table.of_rows("The answer in figures", columns, shown)


def _own_data_notes(comparison: ComparisonRecords, answers: WholeTaskScores) -> list[str]:
    """Say that towers of other data were scored on the pack's drawings, and which option scores them on others."""
    data = {experiment.input.data for experiment in comparison.experiments.values()} - {PACK_DATA}
    drawings = (
        describe_out_of_domain_scoring(answers.tasks, sorted(data)) if data and answers else ""
    )
    if not drawings:
        return []
    return [
        f"{drawings}: --root FOLDER scores them on classes of your own, with a folder of images for each."
    ]


def _describe_durations(records: Sequence[Record]) -> str:
    """Say how long all runs took, from the first start to the last known end of each comparison."""
    ends: dict[str, tuple[float, float]] = {}
    for record in records:
        start = datetime.fromisoformat(record.circumstances.started_at)
        start = start if start.tzinfo else start.replace(tzinfo=UTC)
        first = start.timestamp()
        last = first + _known_seconds(record)
        earliest, latest = ends.get(record.comparison, (first, last))
        ends[record.comparison] = (min(earliest, first), max(latest, last))
    seconds = sum(last - first for first, last in ends.values())
    return f"All runs took {format_seconds(seconds)}, from the first start to the last known end."


def _known_seconds(record: Record) -> float:
    """Return how long the run took at least; 0 for kinds of runs that do not record it."""
    measured = record.measured
    if isinstance(measured, Training):
        return measured.seconds
    return (
        measured.warmup_seconds + sum(measured.window_seconds)
        if isinstance(measured, Speed)
        else 0.0
    )


def _sample_notes(comparison: ComparisonRecords) -> list[Markup]:
    """Count the samples that a run skipped or used without a text, at most, by what is wrong with them."""
    most = Counter[str]()
    for row in sample_table(comparison.records).rows:
        most[row["what"]] = max(most[row["what"]], row["samples"])
    if not most:
        return []
    text = Markup(
        "Samples were skipped or have no text (the most of a run: {}; a broken image counts each time it is read): "
        '<a href="#data">see each run</a>.'
    )
    return [text.format(", ".join(f"{what} {number:,}" for what, number in most.items()))]


def _flops_mismatch_notes(comparison: ComparisonRecords) -> list[Markup]:
    """Report ratios that differ from the FLOP-predicted ones by more than 8 %, with likely reasons."""
    base = next((row for row in comparison.throughputs if row.experiment == comparison.base), None)
    factors = [
        (row, factor) for row in comparison.throughputs if (factor := row.unexplained()) is not None
    ]
    left = sorted(factors, key=lambda pair: -abs(math.log(pair[1])))
    if base is None or not left:
        return []
    clauses = [
        Markup(
            "{} is {} times as fast as {}, the FLOP-predicted ratio is {}, which leaves a factor of {}"
        ).format(
            comparison.label(row.experiment),
            format_ratio(row.forward_backward.value),
            comparison.label(base.experiment),
            format_ratio(row.flop_ratio or 1.0),
            format_ratio(factor),
        )
        for row, factor in left[:MOST_NAMED]
        if row.forward_backward
    ]
    clauses += link_to_omitted(len(left) - MOST_NAMED, "throughput")
    shown = [base, *(row for row, _ in left[:MOST_NAMED])]
    utilisation = join_words(
        [
            f"{comparison.label(row.experiment)} {format_percent(row.mfu)}"
            for row in shown
            if row.mfu
        ]
    )
    one_run = (
        " With one run each, run-to-run variation is another."
        if all(len(row.rounds) == 1 for row in shown)
        else ""
    )
    return [
        Markup(
            "<strong>FLOPs do not explain the whole difference.</strong> Forward and backward alone: {}. Likely "
            "reasons: matrix products too small to fill the device, and elementwise work (norms, activations, softmax) "
            "that takes time and is not counted as FLOPs.{}"
        ).format(
            Markup("; ").join(clauses), one_run + (f" MFU: {utilisation}." if utilisation else "")
        )
    ]


def _warnings(comparison: ComparisonRecords) -> list[Markup]:
    found = []
    if comparison.incomparable is not None:
        found.append(
            Markup("<strong>No ratios are shown:</strong> {}.").format(comparison.incomparable)
        )
    rounds_by_gpu: dict[str, set[int]] = {}
    for record, speed in comparison.of(Speed):
        rounds_by_gpu.setdefault(record.circumstances.gpu_uuid or "unknown", set()).add(
            speed.round + 1
        )
    if len(rounds_by_gpu) > 1:
        gpus = [
            f"{uuid} (rounds {join_words([*map(str, sorted(of))])})"
            for uuid, of in rounds_by_gpu.items()
        ]
        text = Markup(
            "<strong>Runs are of several GPUs:</strong> {}. Two of one model differ by some percent."
        )
        found.append(text.format(join_words(gpus)))
    if (gap := extreme_mfu_rows(comparison.throughputs)) is not None:
        text = Markup(
            "<strong>Engineering is being compared, not methods.</strong> {} uses {} of the device's peak and {} only "
            "{}: a factor of {} in MFU means that one implementation fills the device better."
        )
        (low, least), (high, largest) = (
            (comparison.label(row.experiment), row.mfu or 1.0) for row in gap
        )
        found.append(
            text.format(
                high,
                format_percent(largest),
                low,
                format_percent(least),
                format_ratio(largest / least),
            )
        )
    if number := len(comparison.of(Failure)):
        text = Markup('<strong>{} failed.</strong> <a href="#failures">See the reasons</a>.')
        found.append(text.format(pluralize(number, "run")))
    for name, differences in conflicting_settings(comparison).items():
        text = Markup(
            "<strong>Records of {} differ in {}.</strong> The page shows them in one row."
        )
        found.append(text.format(comparison.label(name), differences))
    return found


def _ratio_cells(comparison: ComparisonRecords, row: Throughput | None) -> tuple[Cell, Cell]:
    """Return the measured and the FLOP-predicted ratio."""
    if row is None:
        return Cell.unmeasured(UNTIMED), Cell.unmeasured(UNTIMED)
    if row.experiment == comparison.base:
        return BASE_CELL, BASE_CELL
    measured = Cell.estimate(row.ratio, format_ratio, comparison.incomparable or IS_BASE)
    return measured, Cell.measured(row.flop_ratio, format_ratio, comparison.incomparable or UNTIMED)


def _largest_batch_cells(
    comparison: ComparisonRecords, name: str, largest: ComparisonRecords | None
) -> list[Cell]:
    """Return the ratio of an experiment at its largest batch size; no cell where none was timed at it."""
    if largest is None:
        return []
    family = batch_independent_settings(comparison.experiments[name])
    same = [
        row
        for row in largest.throughputs
        if batch_independent_settings(largest.experiments[row.experiment]) == family
    ]
    if not same:
        return [Cell.unmeasured("no batch size fits, or its runs failed")]
    row = same[-1]
    batch = f"batch {largest.experiments[row.experiment].training.batch_size:,}"
    if row.ratio is None:
        is_base = row.experiment == largest.base
        return [
            Cell("1", f"base, {batch}", 1)
            if is_base
            else Cell.not_applicable(largest.incomparable or IS_BASE)
        ]
    cell = Cell.estimate(row.ratio, format_ratio)
    return [Cell(cell.text, ", ".join(filter(None, [cell.note, batch])), cell.value)]


def _accuracy_cell(towers: Sequence[ScorePoint], name: str, row: Throughput | None) -> Cell:
    point = next((point for point in towers if point.subject == name), None)
    if point is None:
        return Cell.not_applicable(NOT_SCORED)
    cell = Cell.estimate(point.accuracy, format_accuracy)
    taken = f"; in {format_seconds(point.images / row.images_per_second)}" if row else ""
    return Cell(cell.text, cell.note + taken, cell.value)
