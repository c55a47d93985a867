"""The tables of metrics that are no accuracy: mAP, mIoU and AP. No torch here."""

from typing import Any

from bench.interfaces.sections import ComparisonRecords
from bench.records.record import Transfer
from bench.records.scores import MetricScore, describe_task_trainings
from bench.statistics.accuracies import estimate_over_draws
from bench.tables.formats import INTERVAL, format_count
from bench.tables.tables import Table
from bench.transfer.score_tables import subject_name_cell

METRICS_NOTE = (
    "Metrics other than accuracy, with a trivial baseline that ignores the images. With three or more seeds, a figure "
    f"is their mean with its {INTERVAL} interval. One seed gives no ranking."
)
Subject = tuple[str, int]  # name, and images seen in pre-training
Values = dict[int | None, dict[int, float]]  # by seed and draw


def metric_tables(comparison: ComparisonRecords) -> list[Table]:
    """Return a table for each task and protocol with metrics other than accuracy, trivial baselines last."""
    metrics = dict[tuple[str, str], list[MetricScore]]()
    values = dict[tuple[str, str], dict[Subject, dict[str, Values]]]()
    for record, transfer in comparison.of(Transfer):
        seed = record.experiment.seed if record.experiment else None
        for metric in transfer.metrics:
            key = (metric.task, metric.protocol)
            metrics.setdefault(key, []).append(metric)
            subjects = values.setdefault(key, {})
            names = subjects.setdefault((transfer.subject, transfer.images), {})
            names.setdefault(metric.name, {}).setdefault(seed, {})[metric.draw] = metric.value
    tables = []
    for (task, protocol), subjects in values.items():
        metrics_of_table = metrics[task, protocol]
        rows = list[dict[str, Any]]()
        for (subject, images), names in subjects.items():
            seeds = {seed for by_seed in names.values() for seed in by_seed}
            row = {
                "features": subject_name_cell(comparison, subject).text,
                "images seen": images or None,
                "seeds": len(seeds),
            }
            rows.append(row | {name: _figure(by_seed) for name, by_seed in names.items()})
        baselines = {metric.name: metric.baseline for metric in metrics_of_table}
        rows.append({"features": "trivial baseline"} | baselines)
        first = metrics_of_table[0]
        note = (
            f"{format_count(first.num_test)} test images; {format_count(first.num_train)} for training and validation."
            + describe_task_trainings(metrics_of_table)
        )
        tables.append(Table.of_figures(f"{task} by {protocol}", rows, note))
    return tables


def _figure(values: Values) -> tuple[float, float | None, float | None]:
    estimate = estimate_over_draws(values)
    return estimate.value, estimate.low, estimate.high
