"""The section on few labels, metrics of other tasks, and heads initialised from pre-training."""

from collections.abc import Sequence

from bench.interfaces.catalog import RANDOM_INIT
from bench.interfaces.sections import (
    Block,
    Chart,
    ComparisonRecords,
    Fold,
    Group,
    Heading,
    Legend,
    PageContext,
    Section,
    Text,
    flatten,
)
from bench.transfer.label_curves import (
    COPIED_ROWS,
    CURVES_NOTE,
    PER_CLASS,
    PROMPTS,
    RANDOM_HEAD,
    Curve,
    choose_curve_per_subject,
    curve_table,
    few_label_curves,
)
from bench.transfer.metric_tables import METRICS_NOTE, metric_tables
from bench.transfer.subject_scores import is_random_init
from reports.accuracy import label_charts
from reports.accuracy.label_charts import CurveLine
from reports.render.frames import group_by
from reports.render.svg import SERIES
from reports.speed.charts import legend

# Series of the colour, and marker.
STYLES = {COPIED_ROWS: (0, "o"), PROMPTS: (2, "v"), RANDOM_HEAD: (1, "s")}
RANDOM_DASHES = (5.0, 2.5)
HEADS_NOTE = (
    "A new head on the frozen tower is initialised with the classifier’s rows of the nearest labels (copied rows), "
    "with the mean text embedding of several prompts per class (prompt templates), or at random; “none” is the head "
    "before any training. All heads are trained on the same labelled images."
)


def _build(page: PageContext) -> Sequence[Block] | None:
    comparison = page.comparison
    curves = few_label_curves(comparison)
    metrics = metric_tables(comparison)
    if not curves and not metrics:
        return None
    probes = [curve for curve in curves if not curve.head]
    heads = [curve for curve in curves if curve.head]
    towers = [curve.subject for curve in probes if not curve.is_reference]
    blocks = list[Block]()
    if towers and not any(isinstance(block, Legend) for block in flatten(page.built)):
        blocks.append(Legend(legend(comparison, towers), "Legend of the towers"))
    for number, group in enumerate(
        group_by(probes, lambda curve: (curve.protocol, curve.label_unit)).values()
    ):
        blocks += _curve_blocks(comparison, number, group)
    if metrics:
        blocks += [Heading("Several labels, masks and boxes"), Text(METRICS_NOTE, "under")]
    for table in metrics:
        blocks += [Heading(table.title, 4), table]
    if heads:
        blocks += [Heading("Heads initialised from pre-training"), Text(HEADS_NOTE, "under")]
        for number, group in enumerate(group_by(heads, lambda curve: curve.label_unit).values()):
            blocks += _head_panels(comparison, number, group)
    return blocks


SECTION = Section("learned", "Few labels, other tasks, other heads", "Few labels", _build)


def _curve_blocks(
    comparison: ComparisonRecords, number: int, curves: Sequence[Curve]
) -> list[Block]:
    """Draw a chart for each task, with its table."""
    panels = []
    for index, (task, curves_of_task) in enumerate(
        group_by(curves, lambda curve: curve.task).items()
    ):
        shown = choose_curve_per_subject(curves_of_task)
        lines = label_charts.curve_lines(comparison, shown)
        title = f"{task}, {curves[0].protocol}"
        chart = label_charts.label_chart(
            f"labels-{number}-{index}", title, lines, label_charts.highest_bound(shown)
        )
        table = curve_table(comparison, curves_of_task)
        panels.append(Chart(chart, task, table=table))
    labels = (
        "few labels per class" if curves[0].label_unit == PER_CLASS else "the share of the labels"
    )
    note = (
        f"Linear probe on frozen features. {CURVES_NOTE} Each experiment has one line: "
        "its tower at equal images, else that of the most images; the tables list all towers. Dashed lines are the "
        "random-init baseline and other features on the same labels, and the majority class."
    )
    return [Heading(f"Accuracy against {labels}"), Text(note, "under"), Group(panels, "panels")]


def _head_panels(
    comparison: ComparisonRecords, number: int, curves: Sequence[Curve]
) -> list[Block]:
    """Draw the heads of each tower on each task; the charts of one task have equal axes.

    The random-init baseline has a chart of its own only where no tower was trained.
    """
    panels = []
    tables = []
    for task_index, (task, curves_of_task) in enumerate(
        group_by(curves, lambda curve: curve.task).items()
    ):
        tables.append(curve_table(comparison, curves_of_task))
        subjects = list(dict.fromkeys(curve.subject for curve in curves_of_task))
        subjects = [subject for subject in subjects if not is_random_init(subject)] or subjects
        lines = {subject: _head_and_baseline_lines(curves_of_task, subject) for subject in subjects}
        highest = max(
            label_charts.highest_bound([line.curve for line in lines[subject]])
            for subject in subjects
        )
        for index, subject in enumerate(subjects):
            title = f"{comparison.label(subject)} on {task}"
            name = f"heads-{number}-{task_index}-{index}"
            chart = label_charts.label_chart(name, f"{title}, heads", lines[subject], highest)
            panels.append(Chart(chart, title))
    note = (
        f"{CURVES_NOTE} Circles are copied rows, inverted triangles "
        "prompt templates, squares on dashed lines a random head. Grey dashed lines are a random head on the "
        "random-init baseline, and the majority class. The charts of one task have equal axes."
    )
    return [
        Heading(f"Against the {curves[0].label_unit}", 4),
        Text(note, "under"),
        Group(panels, "panels"),
        *(Fold(table.title, [table], "behind") for table in tables),
    ]


def _head_and_baseline_lines(curves: Sequence[Curve], subject: str) -> list[CurveLine]:
    """Return the lines of a tower's heads, and of the random head on the random-init baseline as their reference."""
    curves_of_subject = [curve for curve in curves if curve.subject == subject]
    images = choose_curve_per_subject(curves_of_subject)[0].images
    heads = [curve for curve in curves_of_subject if curve.images == images]
    heads.sort(key=lambda curve: curve.head == RANDOM_HEAD)
    lines = []
    for curve in heads:
        series, marker = STYLES.get(curve.head, (4, "D"))
        dashes = RANDOM_DASHES if curve.head == RANDOM_HEAD else ()
        lines.append(CurveLine(curve.head, curve, SERIES[series], marker, dashes))
    random_inits = {RANDOM_INIT, f"{RANDOM_INIT} of {subject}"} - {subject}
    baselines = [
        curve for curve in curves if curve.subject in random_inits and curve.head == RANDOM_HEAD
    ]
    return [*lines, *label_charts.reference_lines(choose_curve_per_subject(baselines))]
