"""Figures that are no share of right answers (mAP, mIoU, AP), beside what knows nothing of the pictures."""

from collections.abc import Mapping, Sequence

from bench.record import Metric, Transfer
from bench.transfer.classification.init_tables import PROTOCOL
from reports.accuracy.label_curves import Run, over_draws
from reports.accuracy.label_tables import images_cell
from reports.accuracy.score_tables import NOT_SCORED, NOT_TRAINED, subject_cell
from reports.accuracy.scores import FLOOR
from reports.render.formats import accuracy, count
from reports.render.frames import Comparison
from reports.render.tables import Cell, Column, Group, Table, absent, estimate_cell, figure

NO_BASELINE = "no baseline of this figure"
BASELINE = "trivial baseline"
Key = tuple[str, int, int | None]  # subject, images seen, labelled images of each class
Runs = Mapping[Run, Mapping[int, float]]  # a figure by training and draw


def metric_tables(comparison: Comparison) -> list[tuple[str, Table, str]]:
    """Return title, table and note of each task and protocol with figures of their own, trivial baselines last."""
    found = [
        (transfer, (record.experiment.name, record.experiment.seed) if record.experiment else ("", None), metric)
        for record, transfer in comparison.of(Transfer)
        for metric in transfer.metrics
        if metric.protocol != PROTOCOL  # which tells what its heads begin from
    ]
    pairs = dict.fromkeys((metric.task, metric.protocol) for _, _, metric in found)
    return [_metrics(comparison, [one for one in found if (one[2].task, one[2].protocol) == pair]) for pair in pairs]


def _metrics(comparison: Comparison, found: Sequence[tuple[Transfer, Run, Metric]]) -> tuple[str, Table, str]:
    first, names = found[0][2], list(dict.fromkeys(metric.name for _, _, metric in found))
    rows: dict[Key, dict[str, dict[Run, dict[int, float]]]] = {}
    for transfer, run, metric in found:
        of = rows.setdefault((transfer.subject, transfer.images, metric.per_class), {})
        of.setdefault(metric.name, {}).setdefault(run, {})[metric.draw] = metric.value
    baselines = {metric.name: metric.baseline for _, _, metric in found if metric.baseline is not None}
    last = [Cell(BASELINE), absent(NOT_TRAINED), absent(NOT_TRAINED)]
    last += [figure(baselines.get(name), accuracy, NO_BASELINE) for name in names]
    columns = [Column("features", numeric=False), Column("images seen"), Column("seeds"), *map(Column, names)]
    title, order = f"{first.task} by {first.protocol}", [*comparison.experiments, FLOOR]
    keys = sorted(rows, key=lambda key: (order.index(key[0]) if key[0] in order else len(order), key[:2]))
    groups = [
        Group("Towers and features", [_row(comparison, key, rows[key], names) for key in keys]),
        Group("What knows nothing of the pictures", [last]),
    ]
    sizes = f"{count(first.num_test)} test pictures; {count(first.num_train)} for training and validation."
    return title, Table(title, columns, groups), sizes


def _row(comparison: Comparison, key: Key, found: Mapping[str, Runs], names: Sequence[str]) -> list[Cell]:
    subject, images, per_class = key
    name, seeds = subject_cell(comparison, subject), len({run for runs in found.values() for run in runs})
    if per_class is not None:
        name = Cell(name.text, f"{per_class} labelled of each class", name.sort)
    return [name, images_cell(images), Cell(str(seeds), "", seeds), *(_cell(found.get(one)) for one in names)]


def _cell(runs: Runs | None) -> Cell:
    """Show a figure; one test of one training has no interval, which is not said again in every cell."""
    if runs is None:
        return absent(NOT_SCORED)
    cell = estimate_cell(over_draws(runs), accuracy, "")
    return cell if sum(map(len, runs.values())) > 1 else Cell(cell.text, "", cell.sort)
