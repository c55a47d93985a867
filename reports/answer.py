"""The first screen of the page: its answer, what the answer does not show, a chart, and a table of all experiments."""

from collections.abc import Sequence

from markupsafe import Markup, escape

from bench.experiment.experiments import SCALES
from bench.experiment.fields import PACK_DATA
from bench.interfaces.catalog import describe_out_of_domain_scoring
from bench.interfaces.sections import (
    Block,
    BlockGroup,
    ComparisonView,
    PageContext,
    Paragraph,
    WarningBox,
)
from bench.interfaces.throughput import ExperimentThroughput
from bench.labels.adjectives import format_adjective_warning
from bench.measure.comparison_records import UNTIMED
from bench.measure.speed_tables import BASE_CELL, IS_BASE
from bench.measure.summary import find_least_and_largest_mfu_if_twofold
from bench.measure.tables import sample_flaw_table
from bench.measure.throughput import describe_disturbed_windows, describe_reduced_threads
from bench.records.record import Failure, RunOnSamples
from bench.statistics.ratios import SMALLEST_EFFECT, RateRatio
from bench.tables.formats import (
    CONFIDENCE_TEXT,
    format_accuracy,
    format_count_with_noun,
    format_duration,
    format_interval,
    format_percent,
    format_rate,
    format_ratio,
    join_with_and,
)
from bench.tables.tables import Cell, Column, Table
from bench.transfer.score_tables import describe_leaked_test_images
from bench.transfer.subject_scores import (
    FullLabelScores,
    TowerOrReferenceAccuracy,
    select_towers_at_budget,
)
from reports.accuracy.accuracy_section import first_task_accuracy_over_time_chart
from reports.accuracy.ranking import accuracy_sentence, choose_lead_experiment
from reports.accuracy.undecided_tasks import describe_undecided_tasks
from reports.render.document import damaged_files_warning

SMOKE = Markup(
    "Smoke test: the figures on this page mean nothing. It checks that every stage runs."
)
RATIOS = {  # by verdict; any other leaves the answer open
    "faster": Markup("{lead} trains {ratio} times as many images per second as {base}"),
    "slower": Markup("{lead} trains only {ratio} times as many images per second as {base}"),
    "no difference": Markup(
        "{lead} trains as many images per second as {base}, within {smallest}: {ratio} times"
    ),
}
OPEN_RATIO = Markup(
    "It cannot be told yet whether {lead} or {base} is faster: {lead} trained {ratio} times as many images per second"
)
SPEED = Markup("{lead} trains {rate} images per second <small>(median of {runs}).</small>")
LIMITS = "This does not show other machines than {machines}, other sizes than {sizes}, other seeds and other tasks."
OTHER_SIZE = " No ratio of this size estimates one of ViT-B/16."
SAMPLES = Markup(
    'Samples were skipped or have no text: <a href="#data">see what is wrong with them</a>.'
)
INCOMPARABLE = Markup("<strong>No ratios are shown:</strong> {}.")
ENGINEERING = Markup(
    "<strong>Engineering is being compared, not methods.</strong> {high} uses {high_share} of the device's peak and "
    "{low} only {low_share}: one implementation fills the device better."
)
FAILURES = Markup('<strong>{} failed.</strong> <a href="#failures">See the reasons</a>.')
MORE = Markup("More seeds: <code>catlip-bench --full</code>. On your own data: docs/quickstart.md.")
OTHERS = Markup(
    'The folder holds <a href="#others">other results</a>, which are not joined with these.'
)
FIGURES_NOTE = (
    "Intervals of ratios are over runs; those of accuracies are over test images for one training seed, and over "
    "training seeds for three or more."
)
ACCURACY_COLUMN_NOTE = f"accuracy, {CONFIDENCE_TEXT}; device time"
NOT_SCORED = "its tower was not scored at this budget"


def answer_sentences(page: PageContext, scores: FullLabelScores) -> list[Markup]:
    """Say which of two experiments is faster, and whose tower is more accurate, or that it cannot be told."""
    comparison = page.comparison
    sentences = []
    if comparison.is_smoke_test:
        sentences.append(SMOKE)
    busy = describe_reduced_threads(comparison.records)
    if busy:
        sentences.append(escape(busy))
    ratio = _lead_ratio_sentence(comparison)
    if ratio is not None:
        sentences.append(ratio)
    else:
        for row in comparison.throughputs:
            sentence = SPEED.format(
                lead=comparison.short_label(row.experiment),
                rate=format_rate(row.images_per_second),
                runs=format_count_with_noun(len(row.rounds), "run"),
            )
            sentences.append(sentence)
    accuracy = accuracy_sentence(page, scores)
    if accuracy is not None:
        sentences.append(accuracy)
    return sentences or [Markup("No speed was measured in this comparison.")]


def answer_blocks(
    page: PageContext,
    scores: FullLabelScores,
    sentences: Sequence[str],
    figures: Table | None,
    section_blocks: Sequence[Block],
    file_errors: Sequence[str],
) -> list[Block]:
    """Return the sentences that answer, what limits them, a chart, the table of figures, and notes.

    `section_blocks` are those of sections that stand in the answer, `file_errors` those of files that are left out.
    """
    comparison = page.comparison
    data = sorted({experiment.input.data for experiment in comparison.experiments.values()})
    notes = [
        describe_disturbed_windows(comparison.records, comparison.experiments),
        _describe_untested_conditions(comparison),
        describe_out_of_domain_scoring(scores.tasks, data) if scores else "",
        SAMPLES if sample_flaw_table(comparison.records).all_rows else "",
        _describe_adjective_labels(comparison),
    ]
    blocks: list[Block] = [Paragraph(sentence, "lead") for sentence in sentences]
    blocks += [Paragraph(note) for note in notes if note]
    blocks += [WarningBox(warning) for warning in _build_warnings(comparison)]
    blocks += damaged_files_warning(file_errors)
    blocks.append(_first_chart_and_figures(comparison, scores, figures))
    blocks += [Paragraph(sentence) for sentence in describe_undecided_tasks(comparison, scores)]
    blocks += section_blocks
    if data == [PACK_DATA]:
        blocks.append(Paragraph(MORE))
    if page.incomparable_results:
        blocks.append(Paragraph(OTHERS))
    return blocks


def _first_chart_and_figures(
    comparison: ComparisonView, scores: FullLabelScores, figures: Table | None
) -> BlockGroup:
    """Return the chart of the first task and the table of figures, as far as there are such."""
    blocks = list[Block]()
    chart = first_task_accuracy_over_time_chart(comparison, scores)
    if chart is not None:
        blocks.append(chart)
    if figures is not None and figures.all_rows:
        blocks.append(BlockGroup([figures, Paragraph(FIGURES_NOTE, "under")]))
    return BlockGroup(blocks, "first")


def speed_and_accuracy_table(comparison: ComparisonView, scores: FullLabelScores) -> Table:
    """Show speeds, FLOP-predicted ratios and MFU of each experiment, and the accuracy of its tower."""
    base = comparison.short_label(comparison.base or "") if comparison.throughputs else "the base"
    columns = [
        Column.left_aligned("experiment"),
        Column("images/s at equal batch size", f"times {base}’s, {CONFIDENCE_TEXT}"),
    ]
    towers_of_columns = []
    for budget in scores.headline_budgets:
        task = scores.tasks[0]
        towers = select_towers_at_budget(scores.main_accuracies(task), budget)
        if towers:
            columns.append(Column(f"{task} {budget}", ACCURACY_COLUMN_NOTE))
            towers_of_columns.append(towers)
    columns += [Column("FLOP-predicted ratio", "at equal batch size"), Column("MFU")]
    timed = {row.experiment: row for row in comparison.throughputs}
    rows = []
    for name in comparison.experiments:
        row = timed.get(name)
        measured, predicted, mfu = _ratio_and_mfu_cells(comparison, row)
        accuracies = [_accuracy_cell(towers.get(name), row) for towers in towers_of_columns]
        rows.append([comparison.name_cell(name), measured, *accuracies, predicted, mfu])
    return Table.of_rows("The answer in figures", columns, rows)


def _lead_ratio_sentence(comparison: ComparisonView) -> Markup | None:
    """Report the ratio of the experiment that the answer begins with; None without a ratio."""
    ratios = {}
    for row in comparison.throughputs:
        if row.ratio is not None:
            ratios[row.experiment] = row.ratio
    if not ratios:
        return None
    lead = choose_lead_experiment(comparison, list(ratios))
    ratio = ratios[lead]
    sentence = RATIOS.get(ratio.verdict, OPEN_RATIO).format(
        lead=comparison.short_label(lead),
        base=comparison.short_label(comparison.base or ""),
        ratio=format_ratio(ratio.value),
        smallest=format_percent(SMALLEST_EFFECT, 0),
    )
    return sentence + Markup(" <small>({}).</small>").format(_describe_interval(ratio))


def _describe_interval(ratio: RateRatio) -> str:
    """Return the interval of a ratio with the number of runs, or the reason why it has none."""
    numbers = map(str, sorted(set(ratio.runs)))
    runs = f"{' and '.join(numbers)} runs each"
    interval = format_interval(ratio, format_ratio)
    if interval:
        return f"{CONFIDENCE_TEXT} interval {interval}, {runs}"
    if min(ratio.runs) > 1:
        return "no interval: of all steps, because other work disturbed nearly all runs"
    return "one run each: no interval"


def _describe_untested_conditions(comparison: ComparisonView) -> str:
    """Say that the answer does not show other machines, sizes, trainings and tasks than the records have."""
    machines = dict.fromkeys(record.circumstances.machine_and_gpu for record in comparison.records)
    towers = set[str]()
    sizes = dict[str, None]()
    for experiment in comparison.experiments.values():
        image = experiment.image
        towers.add(image.tower)
        sizes[f"{image.tower} at {image.image_size} px"] = None
    text = LIMITS.format(
        machines=join_with_and(list(machines)),
        sizes=join_with_and(list(sizes)) or "these",
    )
    if SCALES["vit-b16"].image.tower not in towers:
        text += OTHER_SIZE
    return text


def _describe_adjective_labels(comparison: ComparisonView) -> str:
    """Name the frequent labels whose words are mostly adjectives; empty if there are none."""
    labels = dict[str, None]()
    for record in comparison.records:
        if isinstance(record.measured, RunOnSamples):
            labels |= dict.fromkeys(record.measured.adjective_labels or ())
    return format_adjective_warning(labels)


def _build_warnings(comparison: ComparisonView) -> list[Markup]:
    """Return the warnings on ratios that are not shown, on MFUs that differ, and on failed runs."""
    warnings = []
    seen = describe_leaked_test_images(comparison)
    if seen:
        warnings.append(escape(seen))
    if comparison.incomparable is not None:
        warnings.append(INCOMPARABLE.format(comparison.incomparable))
    gap = find_least_and_largest_mfu_if_twofold(comparison.throughputs)
    if gap is not None:
        low, high = gap
        warnings.append(
            ENGINEERING.format(
                high=comparison.short_label(high.experiment),
                high_share=format_percent(high.mfu or 0.0),
                low=comparison.short_label(low.experiment),
                low_share=format_percent(low.mfu or 0.0),
            )
        )
    number = len(comparison.records_and_contents_of(Failure))
    if number:
        warnings.append(FAILURES.format(format_count_with_noun(number, "run")))
    return warnings


def _ratio_and_mfu_cells(
    comparison: ComparisonView, row: ExperimentThroughput | None
) -> list[Cell]:
    """Return the measured ratio, the FLOP-predicted ratio and the MFU."""
    if row is None:
        return [Cell.unmeasured(UNTIMED)] * 3
    mfu = Cell.measured_or_why(row.mfu, format_percent, row.peak_source)
    if row.experiment == comparison.base:
        return [BASE_CELL, BASE_CELL, mfu]
    reason = comparison.incomparable
    measured = Cell.estimate_or_why(row.ratio, format_ratio, reason or IS_BASE)
    predicted = Cell.measured_or_why(row.flop_ratio, format_ratio, reason or UNTIMED)
    return [measured, predicted, mfu]


def _accuracy_cell(
    tower: TowerOrReferenceAccuracy | None, row: ExperimentThroughput | None
) -> Cell:
    """Return the accuracy of an experiment's tower, with the time of its training at the measured speed."""
    if tower is None:
        return Cell.not_applicable(NOT_SCORED)
    cell = Cell.estimate_or_why(tower.accuracy, format_accuracy)
    note = cell.note
    if row is not None:
        note += f"; in {format_duration(tower.images_seen / row.images_per_second)}"
    return Cell(cell.text, note, cell.value)
