"""The section on accuracy on whole tasks, and the chart beside the answer."""

from collections.abc import Sequence

import pandas as pd
from markupsafe import Markup

from bench.interfaces.catalog import RANDOM_INIT, describe_concept_overlap, describe_default_tasks
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
)
from bench.records.record import Transfer
from bench.statistics.intervals import accuracy_interval
from bench.tables.formats import NBSP, join_words
from bench.transfer import score_tables
from bench.transfer.pareto import IMAGES, CostAxis, cost_axes, describe_front
from bench.transfer.subject_scores import WholeTaskScores, whole_task_scores
from reports.accuracy.training_charts import accuracy_chart
from reports.render.document import csv_file
from reports.speed.charts import legend

PROTOCOL = (
    "Features are frozen, and nothing is zero-shot. The regularisation of each probe is chosen on a validation split "
    "of the training images, the probe is refitted on both, and the test split is used once."
)
RANKING = {  # by the fewest training seeds, three standing for more
    1: "With one training seed, intervals are over test images and do not cover another training run, so methods are "
    "not ranked.",
    2: "Two training seeds give means without intervals, so methods are not ranked.",
    3: "Intervals of towers with three seeds or more are over their training seeds; a method is called better only "
    "from five paired seeds on.",
}
INTERVALS = {
    2: "none for towers of two seeds",
    3: "over training seeds for towers, over test images for the other features",
}
SECONDS_NOTE = (
    "Device seconds are images seen over the experiment’s measured images per second. The charts show the towers of "
    "all budgets and seeds; short dashes are single seeds. The steps are the Pareto front: the highest accuracy up to "
    "each cost, by means over seeds. Towers on it are ringed; where intervals overlap, another training may change it."
)
ENERGY_NOTE = (
    "Energy is images seen times energy per image: the mean power of all devices during the timing, over images per "
    "second."
)


def headline_chart(comparison: ComparisonRecords) -> list[Chart]:
    """Draw the first task against device seconds, beside the answer; nothing without a timed tower."""
    answers = whole_task_scores(comparison)
    device, _ = cost_axes(comparison)
    if not answers:
        return []
    task = answers.tasks[0]
    points = answers.main_points(task)
    if not any(not point.is_reference and device.of(point) is not None for point in points):
        return []
    front = f"{describe_front(comparison, points, device)} The steps are the Pareto front; its towers are ringed."
    chart = accuracy_chart(comparison, answers, task, device, "lead")
    notes = [f"{'' if comparison.is_smoke_test else front} Dashed lines are references.".lstrip()]
    return [Chart(chart, f"{task}: accuracy against device seconds", notes, width="narrow")]


def _build(page: PageContext) -> Sequence[Block]:
    comparison = page.comparison
    answers = whole_task_scores(comparison)
    if not answers:
        where: str = "in this comparison"
        if any(transfer.scores or transfer.metrics for _, transfer in comparison.of(Transfer)):
            link = '<a href="#learned">Few labels, other tasks, other heads</a>'
            where = Markup(f"on a whole task by one probe; see {link}")  # noqa: S704 - our own text
        return [Text(Markup("No tower was scored {}.").format(where), "empty")]
    names = answers.tasks
    seeds = min(answers.fewest_seeds, 3)
    protocol = join_words(list(dict.fromkeys(answers.main_protocol(task) for task in names)))
    intervals = INTERVALS.get(seeds, "over test images")
    data = {experiment.input.data for experiment in comparison.experiments.values()}
    known = filter(
        None,
        [
            describe_default_tasks(names),
            PROTOCOL,
            RANKING.get(seeds),
            describe_concept_overlap(names, data),
        ],
    )
    return [
        Text(" ".join(known), "protocol"),
        score_tables.overview_table(comparison, answers),
        Text(f"Accuracy by {protocol} with its 95{NBSP}% interval: {intervals}.", "under"),
        *_chart_blocks(comparison, answers, protocol),
        Heading("Every task"),
        *(_task_fold(comparison, answers, task) for task in names),
        Text(score_tables.TASKS_NOTE, "under"),
        *csv_file("scores.csv", "every tower, task and protocol", _scores_frame(answers)),
    ]


def _task_fold(comparison: ComparisonRecords, answers: WholeTaskScores, task: str) -> Fold:
    note = Text(score_tables.task_note(answers, task), "under")
    table = score_tables.task_table(comparison, answers, task, answers.protocols(task))
    return Fold(task, [note, table], "task", is_open=task == answers.tasks[0])


def _chart_blocks(
    comparison: ComparisonRecords, answers: WholeTaskScores, protocol: str
) -> list[Block]:
    """Return the charts against images seen, device seconds and energy; none without a trained tower."""
    trained = list(dict.fromkeys(scored.subject for scored in answers if not scored.is_reference))
    if not trained:
        return []
    device, energy = cost_axes(comparison)
    start = (
        "lines start at the random-init baseline; "
        if any(scored.subject == RANDOM_INIT for scored in answers)
        else ""
    )
    note = (
        f"Accuracy is by {protocol}. Marks are towers after cool-down with their 95{NBSP}% interval; {start}dashed "
        "lines are references. The axis of images starts at zero. The tables of the tasks below give the figures."
    )
    return [
        Legend(legend(comparison, trained)),
        Heading("Accuracy against images seen"),
        Text(note, "under"),
        Group(_charts(comparison, answers, IMAGES), "panels"),
        Heading("Accuracy against device seconds"),
        *_cost_chart_blocks(
            _charts(comparison, answers, device),
            SECONDS_NOTE,
            "No speed was measured, so device seconds are unknown.",
        ),
        Heading("Accuracy against energy"),
        *_cost_chart_blocks(
            _charts(comparison, answers, energy),
            ENERGY_NOTE,
            "Energy was not measured.",
        ),
    ]


def _charts(
    comparison: ComparisonRecords, answers: WholeTaskScores, cost_axis: CostAxis
) -> list[Chart]:
    trained = {scored.subject for scored in answers if not scored.is_reference}
    if cost_axis.per_image is not None and trained.isdisjoint(cost_axis.per_image):
        return []
    tasks = answers.tasks
    return [Chart(accuracy_chart(comparison, answers, task, cost_axis), task) for task in tasks]


def _cost_chart_blocks(charts: Sequence[Chart], note: str, unknown: str) -> list[Block]:
    return [Text(note, "under"), Group(charts, "panels")] if charts else [Text(unknown, "empty")]


def _scores_frame(answers: WholeTaskScores) -> pd.DataFrame:
    """Return one row per tower, task and protocol."""
    rows = []
    for scored in answers:
        score = scored.score
        interval = accuracy_interval(scored.correct.tolist())
        has_seed = not scored.is_reference or scored.subject == RANDOM_INIT
        rows.append(
            {
                "subject": scored.subject,
                "seed": scored.seed if has_seed else None,
                "images": scored.images,
                "budgets": "; ".join(scored.budgets),
                "task": score.task,
                "protocol": score.protocol,
                "accuracy": interval.value,
                "low": interval.low,
                "high": interval.high,
                "num_test": len(score.correct),
                "num_train": score.num_train,
                "num_classes": score.num_classes,
                "majority": score.majority,
                "chosen": score.chosen,
                "validation_accuracy": score.validation_accuracy,
                "converged": score.converged,
            }
        )
    frame = pd.DataFrame(rows)
    return frame.astype({"seed": "Int64"}) if rows else frame


SECTION = Section("accuracy", "Accuracy", "Accuracy", _build)
