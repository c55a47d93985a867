"""The answer as one table: speeds, FLOP-predicted ratios, MFU, and accuracies with their device time."""

from collections.abc import Sequence

from bench.measure.summary import Throughput
from reports.accuracy.scores import Scored, ScorePoint, answered_tasks, answering, at_budget, points, protocols
from reports.render.formats import NBSP, accuracy, format_seconds, percent, ratio
from reports.render.frames import ComparisonRecords, sized_family
from reports.render.tables import Cell, Column, HtmlTable, experiment_cell

INTERVAL = f"95{NBSP}%"
NOT_TRAINED = "its tower was not scored at this budget"
NOT_TIMED = "its speed was not measured"
IS_BASE = "it is the base of the ratios"


def headline_table(
    comparison: ComparisonRecords,
    rows: Sequence[Throughput],
    largest: tuple[ComparisonRecords, Sequence[Throughput]] | None,
    answers: Sequence[Scored],
) -> HtmlTable:
    """Show the speed of each experiment and the accuracy of its tower."""
    task = answered_tasks(answers)[0] if answers else ""
    found = points(answers, task, protocols(answers)[0]) if answers else []
    budgets = [budget for budget in answering(answers) if at_budget(found, budget)]
    base = comparison.label(comparison.base or "") if rows else "the base"
    columns = [
        Column.text("experiment"),
        Column("images/s at equal batch size", f"times {base}’s, {INTERVAL}"),
        *([Column("at its largest batch size", f"times {base}’s, {INTERVAL}")] if largest else []),
        Column("FLOP-predicted ratio", "at equal batch size"),
        Column("MFU"),
        *(Column(f"{task} at {budget}", f"accuracy, {INTERVAL}") for budget in budgets),
    ]
    by_name = {row.experiment: row for row in rows}
    at_largest = {sized_family(largest[0].experiments[row.experiment]): row for row in largest[1]} if largest else {}
    shown = []
    for name, experiment in comparison.experiments.items():
        row = by_name.get(name)
        cells = [experiment_cell(comparison, name), _ratio_cell(comparison, row)]
        if largest:
            cells.append(_largest_cell(largest[0], at_largest.get(sized_family(experiment))))
        cells.append(_flops_cell(comparison, row))
        cells.append(Cell.figure(row.mfu if row else None, percent, row.peak_source if row else NOT_TIMED))
        cells += [_accuracy_cell(at_budget(found, budget), name, row) for budget in budgets]
        shown.append(cells)
    return HtmlTable.of_rows("The answer in figures", columns, shown)


def _ratio_cell(comparison: ComparisonRecords, row: Throughput | None) -> Cell:
    if row is None:
        return Cell.unmeasured(NOT_TIMED)
    if row.experiment == comparison.base:
        return Cell("1", "base", 1)
    return Cell.estimate(row.ratio, ratio, comparison.incomparable or IS_BASE)


def _largest_cell(largest: ComparisonRecords, row: Throughput | None) -> Cell:
    if row is None:
        return Cell.unmeasured("no batch size fits, or its runs failed")
    batch = f"batch {largest.experiments[row.experiment].batch_size:,}"
    if row.ratio is None:
        is_base = row.experiment == largest.base
        return Cell("1", f"base, {batch}", 1) if is_base else Cell.absent(largest.incomparable or IS_BASE)
    cell = Cell.estimate(row.ratio, ratio, "")
    return Cell(cell.text, ", ".join(filter(None, [cell.note, batch])), cell.sort)


def _flops_cell(comparison: ComparisonRecords, row: Throughput | None) -> Cell:
    if row is not None and row.experiment == comparison.base:
        return Cell("1", "base", 1)
    why = comparison.incomparable if row else None
    return Cell.figure(row.flop_ratio if row else None, ratio, why or NOT_TIMED)


def _accuracy_cell(found: Sequence[ScorePoint], name: str, row: Throughput | None) -> Cell:
    point = next((point for point in found if point.subject == name), None)
    if point is None:
        return Cell.absent(NOT_TRAINED)
    cell = Cell.estimate(point.accuracy, accuracy, "")
    taken = f"; in {format_seconds(point.images / row.images_per_second)}" if row else ""
    return Cell(cell.text, cell.note + taken, cell.sort)
