"""The first screen of the page: its answer, what the answer does not show, a chart, and a table of all experiments."""

import shlex
from collections.abc import Sequence

from markupsafe import Markup

from bench.experiment.experiments import SCALES
from bench.experiment.fields import PACK_DATA
from bench.interfaces.catalog import describe_out_of_domain_scoring, is_pack_task
from bench.interfaces.sections import Block, ComparisonRecords, Group, PageContext, Text, WarningBox
from bench.interfaces.throughput import Throughput
from bench.labels.adjectives import describe_adjectives
from bench.measure.comparison_records import UNTIMED
from bench.measure.speed_tables import BASE_CELL, IS_BASE
from bench.measure.summary import extreme_mfu_rows
from bench.measure.tables import sample_flaw_table
from bench.measure.windows import describe_busy_processes, describe_waits, timed_windows
from bench.records.record import Failure, RunOnSamples, Speed
from bench.statistics.ratios import SMALLEST_EFFECT, Ratio
from bench.tables.formats import (
    CONFIDENCE_TEXT,
    format_accuracy,
    format_duration,
    format_interval,
    format_percent,
    format_rate,
    format_ratio,
    join_with_and,
    pluralize,
)
from bench.tables.tables import Cell, Column, Table
from bench.transfer.score_tables import describe_leaked_test_images
from bench.transfer.subject_scores import FullLabelScores, SubjectAccuracy, select_towers_at_budget
from reports.accuracy.accuracy_section import headline_chart
from reports.accuracy.needs import describe_needs
from reports.accuracy.ranking import accuracy_answer, headline_experiment
from reports.render.document import left_out

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
MORE_ON_OWN_DATA = Markup(
    "More seeds: <code>catlip-bench train NAME{options} --images {images} --set seed=1 --out {results}/NAME-1</code> "
    "for each experiment and seed, with the other options of this comparison, such as --root, --caption and, where "
    "labels are learned, --count-vocabulary. This page joins them."
)
WITHOUT_DISTURBED = "The ratio above leaves out what other work disturbed; over all steps it is {}."
ALL_STEPS = (
    "The ratio above is of all steps, also of those that other work disturbed, and is not judged."
)
OTHERS = Markup(
    'The folder holds <a href="#others">other results</a>, which are not joined with these.'
)
FIGURES_NOTE = (
    "Intervals of ratios are over runs; those of accuracies are over test images for one training seed, and over "
    "training seeds for three or more."
)
NOT_SCORED = "its tower was not scored at this budget"


def answer_sentences(page: PageContext, scores: FullLabelScores) -> list[Markup]:
    """Say which of two experiments is faster, and whose tower is more accurate, or that it cannot be told."""
    comparison = page.comparison
    sentences = []
    if comparison.is_smoke_test:
        sentences.append(SMOKE)
    busy = describe_busy_processes(comparison.records)
    if busy:
        sentences.append(Markup("{}").format(busy))
    ratio = _ratio_sentence(comparison)
    if ratio is not None:
        sentences.append(ratio)
    else:
        sentences += [_speed_sentence(comparison, row) for row in comparison.throughputs]
    sentences += accuracy_answer(page, scores)
    return sentences or [Markup("No speed was measured in this comparison.")]


def _speed_sentence(comparison: ComparisonRecords, row: Throughput) -> Markup:
    return SPEED.format(
        lead=comparison.label(row.experiment),
        rate=format_rate(row.images_per_second),
        runs=pluralize(len(row.rounds), "run"),
    )


def answer_blocks(
    page: PageContext,
    scores: FullLabelScores,
    sentences: Sequence[str],
    figures: Table | None,
    added: Sequence[Block],
    damaged: Sequence[str],
) -> list[Block]:
    """Return the sentences that answer, what limits them, a chart, the table of figures, and notes.

    `added` are blocks of sections that stand here, `damaged` are the errors of files that are left out.
    """
    comparison = page.comparison
    first: list[Block] = list(headline_chart(comparison, scores))
    if figures is not None and figures.all_rows:
        first.append(Group([figures, Text(FIGURES_NOTE, "under")]))
    data = sorted({experiment.input.data for experiment in comparison.experiments.values()})
    notes = [
        describe_waits(comparison.records, comparison.experiments),
        _describe_disturbed_ratio(comparison),
        _describe_limits(comparison),
        describe_out_of_domain_scoring(scores.tasks, data) if scores else "",
        SAMPLES if sample_flaw_table(comparison.records).all_rows else "",
        _describe_labels(comparison),
    ]
    blocks: list[Block] = [Text(sentence, "lead") for sentence in sentences]
    blocks += [Text(note) for note in notes if note]
    blocks += [WarningBox(warning) for warning in _warnings(comparison)]
    blocks += left_out(damaged)
    blocks.append(Group(first, "first"))
    blocks += [Text(need) for need in describe_needs(comparison, scores) if need]
    blocks += added
    blocks.append(Text(_describe_more_seeds(page, scores)))
    if page.others:
        blocks.append(Text(OTHERS))
    return blocks


def _describe_more_seeds(page: PageContext, scores: FullLabelScores) -> Markup:
    """Return the command that adds seeds: for own data or own tasks the command for each experiment and seed."""
    experiment = next(iter(page.comparison.experiments.values()), None)
    if experiment is None:
        return MORE
    if experiment.input.data == PACK_DATA and all(map(is_pack_task, scores.tasks)):
        return MORE
    options = ""
    if experiment.input.data != PACK_DATA:
        options = f" --data {shlex.quote(experiment.input.data)}"
    return MORE_ON_OWN_DATA.format(
        options=options, images=experiment.training.images, results=shlex.quote(page.results)
    )


def headline_table(comparison: ComparisonRecords, scores: FullLabelScores) -> Table:
    """Show speeds, FLOP-predicted ratios and MFU of each experiment, and the accuracy of its tower."""
    task = scores.tasks[0] if scores else ""
    points = scores.main_accuracies(task) if scores else []
    budgets = [
        budget for budget in scores.headline_budgets if select_towers_at_budget(points, budget)
    ]
    base = comparison.label(comparison.base or "") if comparison.throughputs else "the base"
    columns = [
        Column.text("experiment"),
        Column("images/s at equal batch size", f"times {base}’s, {CONFIDENCE_TEXT}"),
    ]
    note = f"accuracy, {CONFIDENCE_TEXT}; device time"
    columns += [Column(f"{task} {budget}", note) for budget in budgets]
    columns += [Column("FLOP-predicted ratio", "at equal batch size"), Column("MFU")]
    timed = {row.experiment: row for row in comparison.throughputs}
    rows = []
    for name in comparison.experiments:
        row = timed.get(name)
        measured, predicted, mfu = _speed_cells(comparison, row)
        cells = [comparison.name_cell(name), measured]
        for budget in budgets:
            tower = select_towers_at_budget(points, budget).get(name)
            cells.append(_accuracy_cell(tower, row))
        rows.append([*cells, predicted, mfu])
    return Table.of_rows("The answer in figures", columns, rows)


def _headline_row(comparison: ComparisonRecords) -> Throughput | None:
    """Return the speed of the experiment whose ratio the answer begins with; None without a ratio."""
    rows = {row.experiment: row for row in comparison.throughputs if row.ratio is not None}
    if not rows:
        return None
    return rows[headline_experiment(comparison, list(rows))]


def _ratio_sentence(comparison: ComparisonRecords) -> Markup | None:
    """Report the ratio of the experiment that the answer begins with; None without a ratio."""
    row = _headline_row(comparison)
    if row is None or row.ratio is None:
        return None
    ratio = row.ratio
    sentence = RATIOS.get(ratio.verdict, OPEN_RATIO).format(
        lead=comparison.label(row.experiment),
        base=comparison.label(comparison.base or ""),
        ratio=format_ratio(ratio.value),
        smallest=format_percent(SMALLEST_EFFECT, 0),
    )
    return sentence + Markup(" <small>({}).</small>").format(_describe_interval(ratio))


def _describe_interval(ratio: Ratio) -> str:
    """Return the interval of a ratio with the number of runs, or the reason why it has none."""
    numbers = [str(number) for number in sorted(set(ratio.runs))]
    runs = f"{' and '.join(numbers)} runs each"
    interval = format_interval(ratio, format_ratio)
    if interval:
        return f"{CONFIDENCE_TEXT} interval {interval}, {runs}"
    if min(ratio.runs) > 1:
        return "no interval: other work disturbed nearly all runs"
    return "one run each: no interval"


def _describe_disturbed_ratio(comparison: ComparisonRecords) -> str:
    """Say whether the first ratio includes what other work disturbed; empty where nothing was disturbed."""
    row = _headline_row(comparison)
    if row is None or row.ratio is None or row.ratio_of_all is None:
        return ""
    runs = [timed_windows(experiment, speed) for experiment, speed in comparison.runs_of(Speed)]
    if all(windows.counted_mask().all() for windows in runs):
        return ""
    if row.ratio.low is None and min(row.ratio.runs) > 1:
        return ALL_STEPS
    return WITHOUT_DISTURBED.format(format_ratio(row.ratio_of_all.value))


def _describe_limits(comparison: ComparisonRecords) -> str:
    """Say that the answer does not show other machines, sizes, trainings and tasks than the records have."""
    machines = dict.fromkeys(record.circumstances.machine_and_gpu for record in comparison.records)
    images = [experiment.image for experiment in comparison.experiments.values()]
    sizes = dict.fromkeys(f"{image.tower} at {image.image_size} px" for image in images)
    text = LIMITS.format(
        machines=join_with_and(list(machines)),
        sizes=join_with_and(list(sizes)) or "these",
    )
    vit_b16 = SCALES["vit-b16"].image.tower
    if all(image.tower != vit_b16 for image in images):
        text += OTHER_SIZE
    return text


def _describe_labels(comparison: ComparisonRecords) -> str:
    """Name the frequent labels whose words are mostly adjectives; empty if there are none."""
    labels = dict[str, None]()
    for record in comparison.records:
        if isinstance(record.measured, RunOnSamples):
            labels |= dict.fromkeys(record.measured.adjective_labels or ())
    return describe_adjectives(labels)


def _warnings(comparison: ComparisonRecords) -> list[Markup]:
    """Return the warnings on ratios that are not shown, on MFUs that differ, and on failed runs."""
    warnings = []
    seen = describe_leaked_test_images(comparison)
    if seen:
        warnings.append(Markup("{}").format(seen))
    if comparison.incomparable is not None:
        warnings.append(INCOMPARABLE.format(comparison.incomparable))
    gap = extreme_mfu_rows(comparison.throughputs)
    if gap is not None:
        low, high = gap
        warnings.append(
            ENGINEERING.format(
                high=comparison.label(high.experiment),
                high_share=format_percent(high.mfu or 0.0),
                low=comparison.label(low.experiment),
                low_share=format_percent(low.mfu or 0.0),
            )
        )
    number = len(comparison.records_of(Failure))
    if number:
        warnings.append(FAILURES.format(pluralize(number, "run")))
    return warnings


def _speed_cells(comparison: ComparisonRecords, row: Throughput | None) -> list[Cell]:
    """Return the measured ratio, the FLOP-predicted ratio and the MFU."""
    if row is None:
        return [Cell.unmeasured(UNTIMED)] * 3
    mfu = Cell.measured_or_why(row.mfu, format_percent, row.peak_source)
    if row.experiment == comparison.base:
        return [BASE_CELL, BASE_CELL, mfu]
    measured = Cell.estimate_or_why(row.ratio, format_ratio, comparison.incomparable or IS_BASE)
    predicted = Cell.measured_or_why(
        row.flop_ratio, format_ratio, comparison.incomparable or UNTIMED
    )
    return [measured, predicted, mfu]


def _accuracy_cell(tower: SubjectAccuracy | None, row: Throughput | None) -> Cell:
    """Return the accuracy of an experiment's tower, with the time of its training at the measured speed."""
    if tower is None:
        return Cell.not_applicable(NOT_SCORED)
    cell = Cell.estimate_or_why(tower.accuracy, format_accuracy)
    note = cell.note
    if row is not None:
        note += f"; in {format_duration(tower.images_seen / row.images_per_second)}"
    return Cell(cell.text, note, cell.value)
