"""The section on results of the folder that cannot be compared with those of the page: a short table of each group."""

import shlex
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from markupsafe import Markup

from bench.interfaces.catalog import REFERENCES
from bench.interfaces.sections import (
    Block,
    ComparisonRecords,
    Heading,
    OtherResults,
    PageContext,
    Section,
    Text,
)
from bench.measure.comparison_records import group_comparison
from bench.measure.tables import failure_table
from bench.records.record import Training
from bench.tables.tables import Table
from bench.transfer.subject_scores import FullLabelScores, collect_full_label_scores, is_random_init

ALONE = Markup(
    "Each table has results that can be compared with each other, but not with those above. "
    "<code>catlip-bench report build {} --comparison NAME</code> shows one comparison alone."
)
Figures = dict[str, Any]  # by column


def _build(page: PageContext) -> Sequence[Block] | None:
    """Return a heading, the reason and a table for each group of results; None without any."""
    if not page.others:
        return None
    blocks: list[Block] = [Text(ALONE.format(shlex.quote(page.results)), "under")]
    for results in page.others:
        names = ", ".join(results.comparisons)
        blocks += [Heading(names), Text(results.reason)]
        tables = [_result_table(results), failure_table(results.records)]
        blocks += [table for table in tables if table.all_rows]
    return blocks


SECTION = Section("others", "Other results in this folder", "Other results", _build)


def _result_table(results: OtherResults) -> Table:
    """Show the speed of each experiment, and the images, the last loss and the accuracies of its towers."""
    comparison = group_comparison("", results.records)
    scores = collect_full_label_scores(comparison)
    towers = _tower_figures(comparison, scores)
    ratio_column = f"times {comparison.base}"
    speeds = dict[str, Figures]()
    for timed in comparison.throughputs:
        speed: Figures = {"images/s": timed.images_per_second}
        if timed.ratio is not None:
            speed[ratio_column] = (timed.ratio.value, timed.ratio.low, timed.ratio.high)
        speeds[timed.experiment] = speed
    rows = []
    for subject in dict.fromkeys([*speeds, *towers]):
        towers_of_subject = towers.get(subject, {0: {}})
        for images, figures in sorted(towers_of_subject.items()):
            row: Figures = {"experiment": subject, "images seen": images or None}
            row |= speeds.get(subject, {})
            row |= figures
            rows.append(row)
    columns = ["experiment", "images/s", ratio_column, "images seen", "last loss"]
    columns += [f"accuracy, {task}" for task in scores.tasks]
    filled = [column for column in columns if any(row.get(column) for row in rows)]
    shown = [{column: row.get(column) for column in filled} for row in rows]
    title = f"Results of {', '.join(results.comparisons)}"
    return Table.from_dicts(title, shown)


def _tower_figures(
    comparison: ComparisonRecords, scores: FullLabelScores
) -> dict[str, dict[int, Figures]]:
    """Return the last loss and the accuracies of trained towers by experiment and images, as means over seeds."""
    losses = defaultdict[tuple[str, int], list[float]](list)
    for experiment, training in comparison.runs(Training):
        branches = zip(training.branches, training.cooldown_losses, strict=True)
        for branch, cooldown in branches:
            steps = [*training.trunk_losses, *cooldown]
            losses[experiment.name, branch.images] += steps[-1:]
    towers = defaultdict[str, dict[int, Figures]](dict)
    for (name, images), last_losses in losses.items():
        figures: Figures = {}
        if last_losses:
            figures["last loss"] = fmean(last_losses)
        towers[name][images] = figures
    for task in scores.tasks:
        for point in scores.main_points(task):
            if point.subject in REFERENCES or is_random_init(point.subject):
                continue
            accuracy = point.accuracy
            figures = towers[point.subject].setdefault(point.images_seen, {})
            figures[f"accuracy, {task}"] = (accuracy.value, accuracy.low, accuracy.high)
    return towers
