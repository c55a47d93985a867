"""The section on few labels, metrics of other tasks, and heads initialised from pre-training."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

from bench.interfaces.catalog import RANDOM_INIT
from bench.interfaces.sections import (
    Block,
    Chart,
    ComparisonRecords,
    Fold,
    Group,
    Heading,
    ItemList,
    Legend,
    PageContext,
    Section,
    Text,
    flatten,
)
from bench.statistics.accuracies import Difference, Estimate, JudgedAccuracyDifference
from bench.tables.formats import NBSP, format_accuracy_gain, format_interval, join_words, pluralize
from bench.tables.tables import Table
from bench.transfer.label_curves import (
    CLASS_NAMES,
    COPIED_ROWS,
    PER_CLASS,
    PROMPTS,
    RANDOM_HEAD,
    Curve,
    choose_curve_per_subject,
    describe_repetition,
    describe_shares_left_out,
    few_label_curves,
    format_labels,
)
from bench.transfer.label_tables import (
    METRICS_NOTE,
    heads_table,
    labels_table,
    metric_tables,
    nearest_label_table,
    random_head,
)
from reports.accuracy import label_charts
from reports.accuracy.label_charts import CurveLine
from reports.accuracy.ranking import Claims, Key, describe_adjustment
from reports.render.frames import group_by
from reports.render.svg import SERIES
from reports.speed.charts import legend

# Series of the colour, and marker.
STYLES = {COPIED_ROWS: (0, "o"), CLASS_NAMES: (3, "^"), PROMPTS: (2, "v"), RANDOM_HEAD: (1, "s")}
RANDOM_DASHES = (5.0, 2.5)
HEADS_NOTE = (
    "A new head on the frozen tower is initialised with the classifier’s rows of the nearest labels (copied rows), "
    "with the text embeddings of the class names, with the mean text embedding of several prompts per class (prompt "
    "templates), or at random; “none” is the head before any training. All heads are trained on the same labelled "
    "images."
)
VERDICTS: Sequence[Difference] = ("better", "not distinguishable", "worse", "no interval")


def head_differences(comparison: ComparisonRecords) -> dict[Key, Estimate]:
    """Return the difference of each initialised head from the random head, by the curve's key and number of labels."""
    heads = [curve for curve in few_label_curves(comparison) if curve.head]
    return {
        (*curve.key, labels): gain
        for curve in heads
        if curve.label_unit == PER_CLASS and (base := random_head(heads, curve)) is not None
        for labels in curve.answers
        if (gain := curve.gain(base, labels)) is not None
    }


def _build(page: PageContext) -> Sequence[Block] | None:
    comparison = page.comparison
    found = few_label_curves(comparison)
    heads = [curve for curve in found if curve.head]
    curves = [curve for curve in found if not curve.head]
    metrics = metric_tables(comparison)
    if not found and not metrics:
        return None
    towers = [curve.subject for curve in curves if not curve.is_reference]
    has_legend = any(isinstance(block, Legend) for block in flatten(page.built))
    protocols = group_by(curves, lambda curve: (curve.protocol, curve.label_unit)).values()
    return [
        *([Legend(legend(comparison, towers), "Legend of the towers")] if towers and not has_legend else []),
        *chain.from_iterable(_curve_blocks(comparison, number, group) for number, group in enumerate(protocols)),
        *_other_task_blocks(metrics),
        *(_head_blocks(comparison, heads, page.differences) if heads else []),
    ]


SECTION = Section("learned", "Few labels, other tasks, other heads", "Few labels", _build)


def _curve_blocks(comparison: ComparisonRecords, number: int, curves: Sequence[Curve]) -> list[Block]:
    panels = []
    for index, (task, own) in enumerate(group_by(curves, lambda curve: curve.task).items()):
        shown = choose_curve_per_subject(own)
        lines, title = label_charts.curve_lines(comparison, shown), f"{task}, {curves[0].protocol}"
        chart = label_charts.label_chart(f"labels-{number}-{index}", title, lines, label_charts.highest_bound(shown))
        panels.append(Chart(chart, task, _shares_left_out(own), table=labels_table(comparison, own)))
    labels = "few labels per class" if curves[0].label_unit == PER_CLASS else "the share of the labels"
    note = (
        f"Linear probe on frozen features. {describe_repetition(curves)} Each experiment has one line: "
        "its tower at equal images, else that of the most images; the tables list all towers. Dashed lines are the "
        "random-init baseline and other features on the same labels, and the majority class."
    )
    return [Heading(f"Accuracy against {labels}"), Text(note, "under"), Group(panels, "panels")]


def _other_task_blocks(metrics: Sequence[Table]) -> list[Block]:
    if not metrics:
        return []
    blocks: list[Block] = [Heading("Several labels, masks and boxes"), Text(METRICS_NOTE, "under")]
    for table in metrics:
        blocks += [Heading(table.title, 4), table]
    return blocks


def _head_blocks(comparison: ComparisonRecords, heads: Sequence[Curve], claims: Claims) -> list[Block]:
    blocks: list[Block] = [Heading("Heads initialised from pre-training"), Text(HEADS_NOTE, "under")]
    if verdicts := _verdict_sentences(comparison, heads, claims):
        note = (
            f"Differences of accuracy, with 95{NBSP}% intervals over the test images and over draws of the labelled "
            f"images for one training (over trainings from three on). {describe_adjustment(claims)}"
        )
        blocks += [Text(note), ItemList(verdicts)]
    for number, group in enumerate(group_by(heads, lambda curve: curve.label_unit).values()):
        blocks += _head_panels(comparison, number, group)
    return [*blocks, *_wordnet_label_blocks(comparison, heads)]


def _shares_left_out(curves: Sequence[Curve]) -> list[str]:
    return [note] if (note := describe_shares_left_out(curves)) else []


def _head_panels(comparison: ComparisonRecords, number: int, curves: Sequence[Curve]) -> list[Block]:
    """Draw the heads of each tower on each task; the charts of one task have equal axes.

    The random-init baseline has a chart of its own only where no tower was trained.
    """
    panels, tables = [], []
    for task_index, (task, own) in enumerate(group_by(curves, lambda curve: curve.task).items()):
        tables.append(heads_table(comparison, own))
        subjects = list(dict.fromkeys(curve.subject for curve in own))
        subjects = [subject for subject in subjects if not subject.startswith(RANDOM_INIT)] or subjects
        lines = {subject: _head_and_baseline_lines(own, subject) for subject in subjects}
        highest = label_charts.highest_bound([line.curve for of_subject in lines.values() for line in of_subject])
        for index, subject in enumerate(subjects):
            title = f"{comparison.label(subject)} on {task}"
            name = f"heads-{number}-{task_index}-{index}"
            chart = label_charts.label_chart(name, f"{title}, heads", lines[subject], highest)
            panels.append(Chart(chart, title, _shares_left_out(own)))
    note = (
        f"{describe_repetition(curves)} Circles are copied rows, triangles class names, inverted "
        "triangles prompt templates, squares on dashed lines a random head. Grey dashed lines are a random head on the "
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
    own = [curve for curve in curves if curve.subject == subject]
    images = choose_curve_per_subject(own)[0].images
    heads = sorted((c for c in own if c.images == images), key=lambda curve: curve.head == RANDOM_HEAD)
    random_inits = {RANDOM_INIT, f"{RANDOM_INIT} of {subject}"} - {subject}
    baselines = [curve for curve in curves if curve.subject in random_inits and curve.head == RANDOM_HEAD]
    return [*map(_head_line, heads), *label_charts.reference_lines(choose_curve_per_subject(baselines))]


def _head_line(curve: Curve) -> CurveLine:
    head = curve.head
    series, marker = STYLES.get(head, (4, "D"))
    return CurveLine(head, curve, SERIES[series], marker, RANDOM_DASHES if head == RANDOM_HEAD else ())


def _verdict_sentences(comparison: ComparisonRecords, curves: Sequence[Curve], claims: Claims) -> list[str]:
    """Report for each head the numbers of labels per class with which it is better than the random head."""
    sentences = []
    for curve in curves:
        gains = {labels: claim for labels in curve.answers if (claim := claims.get((*curve.key, labels))) is not None}
        if gains:
            tower = f"{comparison.label(curve.subject)} of {pluralize(curve.images, 'image')}"
            verdicts = _format_verdicts(gains)
            sentences.append(f"{curve.task}, {tower}: {curve.head} against a random head: {verdicts}.")
    return sentences


def _format_verdicts(gains: Mapping[float, JudgedAccuracyDifference]) -> str:
    """Group the numbers of labels by verdict."""
    found: dict[Difference, list[str]] = {}
    for labels, claim in gains.items():
        where, one = f"{format_labels(PER_CLASS, labels)} per class" if labels else "no labels", claim.difference
        text = f"{where} ({format_accuracy_gain(one.value)}{format_interval(one, format_accuracy_gain, ', ')})"
        found.setdefault(claim.verdict, []).append(text)
    return "; ".join(f"{verdict} with {join_words(found[verdict])}" for verdict in VERDICTS if verdict in found)


def _wordnet_label_blocks(comparison: ComparisonRecords, curves: Sequence[Curve]) -> list[Block]:
    """Show the nearest label of each class with the path to it, and the number of classes without one."""
    table = nearest_label_table(comparison)
    if not table.cells:
        return []
    sizes = {curve.task: curve.num_classes for curve in curves}
    named = {task: len({row[0].text for row in rows}) for task, rows in table.groups.items()}
    without = {task: sizes[task] - number for task, number in named.items() if task in sizes}
    classes = [f"{number} of the classes of {task}" for task, number in without.items() if number]
    if classes:
        unnamed = f" WordNet has no noun for {join_words(classes)}: their rows of a copied head are random."
        table = replace(table, note=table.note + unnamed)
    return [Heading(table.title, 4), table]
