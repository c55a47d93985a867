"""The tables of metrics that are no accuracy: mAP, mIoU and AP. No torch here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.interfaces.sections import ComparisonView
from bench.records.record import TransferScores
from bench.records.scores import MetricScore, format_task_trainings_note
from bench.statistics.accuracies import estimate_mean_over_seeds
from bench.tables.formats import CONFIDENCE_TEXT, format_count
from bench.tables.groups import group_by
from bench.tables.tables import Table
from bench.transfer.score_tables import tower_or_reference_name_cell

METRICS_NOTE = (
    "Metrics other than accuracy, with a trivial baseline that ignores the images. With three or more seeds, a figure "
    f"is their mean with its {CONFIDENCE_TEXT} interval. One seed gives no ranking."
)


@dataclass(frozen=True, slots=True)
class TowerOrReferenceMetric:
    """A metric other than accuracy, of one tower or one kind of reference features."""

    subject: str
    images_seen: int  # in pre-training
    seed: int | None
    metric: MetricScore


def non_accuracy_metric_tables(comparison: ComparisonView) -> list[Table]:
    """Return a table for each task and protocol with metrics other than accuracy, trivial baselines last."""
    scored = list[TowerOrReferenceMetric]()
    for record, transfer in comparison.records_and_contents_of(TransferScores):
        seed = record.experiment.seed if record.experiment else None
        scored += [
            TowerOrReferenceMetric(transfer.subject, transfer.images, seed, metric)
            for metric in transfer.metrics
        ]
    groups = group_by(scored, lambda row: f"{row.metric.task} by {row.metric.protocol}")
    return [_non_accuracy_metric_table(comparison, title, rows) for title, rows in groups.items()]


def _non_accuracy_metric_table(
    comparison: ComparisonView, title: str, scored: Sequence[TowerOrReferenceMetric]
) -> Table:
    """Return the table of one task and protocol, one row per tower or reference."""
    subjects = group_by(scored, lambda row: (row.subject, row.images_seen))
    rows = []
    for (subject, images), scored_of_subject in subjects.items():
        cells: dict[str, Any] = {
            "features": tower_or_reference_name_cell(comparison, subject).text,
            "images seen": images or None,
            "seeds": len({row.seed for row in scored_of_subject}),
        }
        rows_by_metric = group_by(scored_of_subject, lambda row: row.metric.name)
        for name, rows_of_metric in rows_by_metric.items():
            value_by_seed = {row.seed: row.metric.value for row in rows_of_metric}
            cells[name] = estimate_mean_over_seeds(list(value_by_seed.values()))
        rows.append(cells)
    metrics = [row.metric for row in scored]
    baselines: dict[str, Any] = {"features": "trivial baseline"}
    for metric in metrics:
        baselines[metric.name] = metric.baseline
    rows.append(baselines)
    num_test = format_count(metrics[0].num_test)
    num_train = format_count(metrics[0].num_train)
    note = f"{num_test} test images; {num_train} for training and validation."
    return Table.from_dicts(title, rows, note + format_task_trainings_note(metrics))
