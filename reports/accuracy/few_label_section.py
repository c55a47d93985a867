"""The section on few labels, metrics of other tasks, and heads initialised from pre-training."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from reports.accuracy.heads import head_lines, heads_table, is_of_heads, nearest_table, standing, subjects_of
from reports.accuracy.label_charts import curve_lines, highest_of, label_chart
from reports.accuracy.label_curves import (
    PER_CLASS,
    Curve,
    curves_of,
    describe_shares_left_out,
    drawn,
    over_words,
    sets_of,
)
from reports.accuracy.label_tables import labels_table, metric_tables
from reports.render.frames import ComparisonRecords
from reports.render.svg import swatch
from reports.render.tables import HtmlTable
from reports.speed.charts import series_index


@dataclass(frozen=True, slots=True)
class Facet:
    """One small chart of a set, with its table where no other chart shares it."""

    title: str
    chart: Markup
    table: HtmlTable | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Facets:
    """Small charts under one heading."""

    title: str
    note: str
    panels: Sequence[Facet]
    tables: Sequence[HtmlTable] = ()  # of all panels


def section(comparison: ComparisonRecords) -> dict[str, object] | None:
    """Return the results beside accuracies on whole tasks; None where there are none."""
    found = curves_of(comparison)
    heads, curves = [c for c in found if is_of_heads(c)], [c for c in found if not is_of_heads(c)]
    metrics = metric_tables(comparison)
    if not found and not metrics:
        return None
    protocols = sets_of(curves, lambda curve: (curve.protocol, curve.along)).values()
    kinds = sets_of(heads, lambda curve: curve.along).values()
    trained = list(dict.fromkeys(curve.subject for curve in curves if not curve.is_reference))
    return {
        "legend": [(comparison.label(name), swatch(series_index(comparison, name))) for name in trained],
        "curves": [_curves(comparison, number, of) for number, of in enumerate(protocols)],
        "metrics": metrics,
        "heads": [_heads(comparison, number, of) for number, of in enumerate(kinds)],
        "standing": standing(comparison, heads),
        "nearest": nearest_table(comparison, heads),
    }


def _curves(comparison: ComparisonRecords, number: int, curves: Sequence[Curve]) -> Facets:
    """Draw one protocol, one chart per task."""
    panels = []
    for place, (task, of) in enumerate(sets_of(curves, lambda curve: curve.task).items()):
        shown = drawn(of)
        chart = label_chart(
            f"labels-{number}-{place}",
            f"{task}, {curves[0].protocol}",
            curve_lines(comparison, shown),
            highest_of(shown),
        )
        panels.append(Facet(task, chart, labels_table(comparison, of), describe_shares_left_out(of)))
    what = "few labels per class" if curves[0].along == PER_CLASS else "the share of the labels"
    return Facets(f"Accuracy against {what}", over_words(curves), panels)


def _heads(comparison: ComparisonRecords, number: int, curves: Sequence[Curve]) -> Facets:
    """Draw the heads of each tower on each task; the charts of one task have equal axes."""
    panels, tables = [], []
    for place, (task, of) in enumerate(sets_of(curves, lambda curve: curve.task).items()):
        tables.append(heads_table(comparison, of))
        drawings = {subject: head_lines(of, subject) for subject in subjects_of(of)}
        highest = highest_of([line.curve for lines in drawings.values() for line in lines])
        for index, (subject, lines) in enumerate(drawings.items()):
            title = f"{comparison.label(subject)} on {task}"
            name = f"heads-{number}-{place}-{index}"
            panels.append(
                Facet(title, label_chart(name, f"{title}, heads", lines, highest), None, describe_shares_left_out(of))
            )
    return Facets(f"Against the {curves[0].along}", over_words(curves), panels, tables)
