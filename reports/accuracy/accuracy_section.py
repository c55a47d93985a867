"""The section on accuracy on whole tasks, and the chart beside the answer."""

from collections.abc import Sequence

from markupsafe import Markup

from bench.catalog import RANDOM_INIT, describe_concept_overlap
from bench.formats import NBSP, join_words
from bench.record import Transfer
from bench.sections import Block, Chart, ComparisonRecords, Fold, Group, Heading, Legend, PageContext, Section, Text
from reports.accuracy import score_tables, scores
from reports.accuracy.pareto import IMAGES, CostAxis, cost_axes, describe_front, describe_unknown_costs
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
TASKS_NOTE = (
    "With one seed, intervals of accuracy are Wilson’s over test images, and those of gain are paired over the same "
    "test images. With three seeds or more, both are over seeds and test images."
)
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
    answers, (device, _) = scores.whole_task_scores(comparison), cost_axes(comparison)
    if not answers:
        return []
    task = scores.scored_tasks(answers)[0]
    found = scores.main_points(answers, task)
    if not any(not point.is_reference and device.of(point) is not None for point in found):
        return []
    front = f"{describe_front(comparison, found, device)} The steps are the Pareto front; its towers are ringed."
    chart = accuracy_chart(comparison, answers, task, device, "lead")
    notes = [f"{'' if comparison.is_smoke_test else front} Dashed lines are references.".lstrip()]
    return [Chart(chart, f"{task}: accuracy against device seconds", notes, width="narrow")]


def _build(page: PageContext) -> Sequence[Block]:
    comparison = page.comparison
    answers = scores.whole_task_scores(comparison)
    if not answers:
        where: str = "in this comparison"
        if any(transfer.scores or transfer.metrics for _, transfer in comparison.of(Transfer)):
            link = '<a href="#learned">Few labels, other tasks, other heads</a>'
            where = Markup(f"on a whole task by one probe; see {link}")  # noqa: S704 - our own text
        return [Text(Markup("No tower was scored {}.").format(where), "empty")]
    names, seeds = scores.scored_tasks(answers), min(scores.fewest_seeds(answers), 3)
    protocol = join_words(list(dict.fromkeys(scores.main_protocol(answers, task) for task in names)))
    intervals = INTERVALS.get(seeds, "over test images")
    data = {one.input.data for one in comparison.experiments.values()}
    known = filter(None, [PROTOCOL, RANKING.get(seeds), describe_concept_overlap(names, data)])
    return [
        Text(" ".join(known), "protocol"),
        score_tables.overview_table(comparison, answers),
        Text(f"Accuracy by {protocol} with its 95{NBSP}% interval: {intervals}.", "under"),
        *_chart_blocks(comparison, answers, protocol),
        Heading("Every task"),
        *(_task_fold(comparison, answers, task) for task in names),
        Text(TASKS_NOTE, "under"),
        *csv_file("scores.csv", "every tower, task and protocol", scores.scores_frame(comparison)),
    ]


def _task_fold(comparison: ComparisonRecords, answers: Sequence[scores.SubjectScore], task: str) -> Fold:
    note = Text(score_tables.task_note(answers, task), "under")
    table = score_tables.task_table(comparison, answers, task)
    return Fold(task, [note, table], "task", is_open=task == scores.scored_tasks(answers)[0])


def _chart_blocks(comparison: ComparisonRecords, answers: Sequence[scores.SubjectScore], protocol: str) -> list[Block]:
    """Return the charts against images seen, device seconds and energy; none without a trained tower."""
    trained = list(dict.fromkeys(one.subject for one in answers if not one.is_reference))
    if not trained:
        return []
    device, energy = cost_axes(comparison)
    start = "lines start at the random-init baseline; " if any(one.subject == RANDOM_INIT for one in answers) else ""
    note = (
        f"Accuracy is by {protocol}. Marks are towers after cool-down with their 95{NBSP}% interval; {start}dashed "
        "lines are references. The axis of images starts at zero. The tables of the tasks below give the figures."
    )
    unpriced = describe_unknown_costs(comparison, trained, energy)
    return [
        Legend(legend(comparison, trained)),
        Heading("Accuracy against images seen"),
        Text(note, "under"),
        Group(_charts(comparison, answers, IMAGES), "panels"),
        Heading("Accuracy against device seconds"),
        *_cost_chart_blocks(
            _charts(comparison, answers, device),
            SECONDS_NOTE + _left_out(describe_unknown_costs(comparison, trained, device)),
            "No speed was measured, so device seconds are unknown.",
        ),
        Heading("Accuracy against energy"),
        *_cost_chart_blocks(
            _charts(comparison, answers, energy),
            ENERGY_NOTE + _left_out(unpriced),
            " ".join(["Energy was not measured.", *(f"{reason}." for reason in unpriced)]),
        ),
    ]


def _charts(comparison: ComparisonRecords, answers: Sequence[scores.SubjectScore], cost_axis: CostAxis) -> list[Chart]:
    trained = {one.subject for one in answers if not one.is_reference}
    if cost_axis.per_image is not None and trained.isdisjoint(cost_axis.per_image):
        return []
    tasks = scores.scored_tasks(answers)
    return [Chart(accuracy_chart(comparison, answers, task, cost_axis), task) for task in tasks]


def _cost_chart_blocks(charts: Sequence[Chart], note: str, unknown: str) -> list[Block]:
    return [Text(note, "under"), Group(charts, "panels")] if charts else [Text(unknown, "empty")]


def _left_out(reasons: Sequence[str]) -> str:
    return "".join(f" Left out, {reason}." for reason in reasons)


SECTION = Section("accuracy", "Accuracy", "Accuracy", _build)
