"""The section on accuracy: whole tasks, few labels, other metrics and heads; and the chart beside the answer."""

from collections.abc import Sequence

from bench.interfaces.catalog import describe_concept_overlap, describe_default_tasks
from bench.interfaces.sections import (
    Block,
    BlockGroup,
    Chart,
    ComparisonView,
    FoldOutBlock,
    Heading,
    PageContext,
    PageSection,
    Paragraph,
)
from bench.tables.formats import NBSP
from bench.transfer import score_tables
from bench.transfer.label_curves import (
    CURVES_NOTE,
    LabelCurve,
    collect_label_curves,
    label_curve_tables,
)
from bench.transfer.metric_tables import METRICS_NOTE, non_accuracy_metric_tables
from bench.transfer.pareto import IMAGES, TowerCostAxis, make_time_and_energy_cost_axes
from bench.transfer.subject_scores import FullLabelScores, collect_full_label_scores
from reports.accuracy.charts import accuracy_chart
from reports.accuracy.ranking import accuracy_difference_table

PROTOCOL = (
    "Features are frozen, and nothing is zero-shot. The regularisation of each probe is chosen on a validation split "
    "of the training images, the probe is refitted on both, and the test split is used once. With one training seed, "
    "intervals are over test images and do not cover another training run; two seeds give means without intervals; "
    "with three or more, intervals are over seeds. Methods are ranked from five paired seeds on."
)
OVERVIEW_NOTE = f"Accuracy by the main protocol of each task, with its 95{NBSP}% interval."
COST_NOTES = {  # by the name of the cost
    "images": "Marks are towers after cool-down; dashed lines are references. The tables below give the figures.",
    "seconds": (
        "Device seconds are images seen over the experiment’s measured images per second. The steps are the Pareto "
        "front: the highest accuracy up to each cost, by means over seeds. Where intervals overlap, another training "
        "may change it."
    ),
    "energy": (
        "Energy is images seen times energy per image: the mean power of all devices during the timing, over images "
        "per second."
    ),
}
HEADLINE_NOTE = "The steps are the Pareto front. Dashed lines are references."
LABELS_NOTE = "Linear probe on frozen features, on the same labels for all rows of a table."
HEADS_NOTE = (
    "A new head on the frozen tower is initialised with the classifier’s rows of the nearest labels (copied rows), "
    "with the mean text embedding of several prompts per class (prompt templates), or at random. All heads are trained "
    "on the same labelled images. The rows of classes without a noun in WordNet are random in a copied head."
)


def first_task_accuracy_over_time_chart(
    comparison: ComparisonView, scores: FullLabelScores
) -> Chart | None:
    """Draw the first task against device seconds, beside the answer; None without a timed tower."""
    device_seconds, _ = make_time_and_energy_cost_axes(comparison)
    if not _any_tower_has_cost(scores, device_seconds):
        return None
    task = scores.tasks[0]
    chart = accuracy_chart(comparison, scores, task, device_seconds, "lead")
    title = f"{task}: accuracy against device seconds"
    return Chart(chart, title, [HEADLINE_NOTE], width="narrow")


def _build_accuracy_blocks(page: PageContext) -> Sequence[Block]:
    """Return the blocks of all scores: whole tasks, judged differences, few labels, other metrics, and heads."""
    comparison = page.comparison
    scores = collect_full_label_scores(comparison)
    curves = collect_label_curves(comparison)
    blocks: list[Block] = []
    if scores:
        blocks += _full_label_blocks(comparison, scores)
    if page.differences:
        table = accuracy_difference_table(page)
        blocks += [Heading(table.title), table]
    probes = [curve for curve in curves if not curve.initial_head_name]
    blocks += _label_curve_table_blocks(comparison, probes, "Accuracy with few labels", LABELS_NOTE)
    metrics = non_accuracy_metric_tables(comparison)
    if metrics:
        blocks += [Heading("Several labels, masks and boxes"), Paragraph(METRICS_NOTE, "under")]
    for table in metrics:
        blocks += [Heading(table.title, 4), table]
    heads = [curve for curve in curves if curve.initial_head_name]
    blocks += _label_curve_table_blocks(
        comparison, heads, "Heads initialised from pre-training", HEADS_NOTE
    )
    return blocks or [Paragraph("No tower was scored in this comparison.", "empty")]


SECTION = PageSection("accuracy", "Accuracy", "Accuracy", _build_accuracy_blocks)


def _full_label_blocks(comparison: ComparisonView, scores: FullLabelScores) -> list[Block]:
    """Return the tables and charts of accuracy on whole tasks."""
    tasks = scores.tasks
    data = {experiment.input.data for experiment in comparison.experiments.values()}
    notes = [describe_default_tasks(tasks), PROTOCOL, describe_concept_overlap(tasks, data)]
    blocks: list[Block] = [
        Paragraph(" ".join(note for note in notes if note), "protocol"),
        score_tables.accuracy_overview_table(comparison, scores),
        Paragraph(OVERVIEW_NOTE, "under"),
    ]
    for cost in (IMAGES, *make_time_and_energy_cost_axes(comparison)):
        if _any_tower_has_cost(scores, cost):
            charts = []
            for task in tasks:
                chart = accuracy_chart(comparison, scores, task, cost)
                charts.append(Chart(chart, task))
            blocks += [
                Heading(f"Accuracy against {cost.title}"),
                Paragraph(COST_NOTES[cost.name], "under"),
                BlockGroup(charts, "panels"),
            ]
    blocks.append(Heading("Every task"))
    for task in tasks:
        table = score_tables.task_accuracy_table(comparison, scores, task, scores.protocols(task))
        note = Paragraph(score_tables.task_size_note(scores, task), "under")
        is_first = task == tasks[0]
        blocks.append(FoldOutBlock(task, [note, table], "task", is_open=is_first))
    blocks.append(Paragraph(score_tables.TASKS_NOTE, "under"))
    return blocks


def _any_tower_has_cost(scores: FullLabelScores, cost: TowerCostAxis) -> bool:
    """Return whether the cost of any trained tower is known."""
    if cost.cost_per_image is None:
        return True
    trained = {scored.subject for scored in scores if not scored.is_reference}
    return not trained.isdisjoint(cost.cost_per_image)


def _label_curve_table_blocks(
    comparison: ComparisonView, curves: Sequence[LabelCurve], title: str, note: str
) -> list[Block]:
    """Return a table for each task, by protocol and unit of the number of labels; nothing without curves."""
    if not curves:
        return []
    blocks: list[Block] = [Heading(title), Paragraph(f"{note} {CURVES_NOTE}", "under")]
    for table in label_curve_tables(comparison, curves):
        blocks += [Heading(table.title, 4), table]
    return blocks
