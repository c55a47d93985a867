"""The tables of accuracy on a terminal, under the names of experiments, with notes below them."""

from collections.abc import Sequence
from dataclasses import replace

from bench.interfaces.catalog import (
    RANDOM_INIT,
    describe_concept_overlap,
    describe_default_tasks,
    describe_out_of_domain_scoring,
)
from bench.interfaces.sections import ComparisonRecords
from bench.measure.comparison_records import group_comparison
from bench.records.record import Record
from bench.records.scores import describe_task_trainings
from bench.tables.groups import group_by
from bench.tables.tables import Table
from bench.transfer.label_curves import CURVES_NOTE, curve_table, few_label_curves
from bench.transfer.metric_tables import METRICS_NOTE, metric_tables
from bench.transfer.score_tables import describe_seen_images, protocol_table
from bench.transfer.subject_scores import PROBE, FullLabelScores, collect_full_label_scores

TOWER_NOTE = (
    "Accuracy on the test images, with its 95 % interval over these images for this one tower. A claim about a method "
    "needs several training seeds; one tower does not rank methods."
)


def make_accuracy_tables(records: Sequence[Record]) -> list[Table]:
    """Return all tables of transfer records: accuracies by protocol, accuracies with few labels, and other metrics."""
    comparison = replace(group_comparison("", records), labels={RANDOM_INIT: RANDOM_INIT})
    tables = _protocol_tables(comparison, collect_full_label_scores(comparison))
    for curves in group_by(few_label_curves(comparison), lambda curve: curve.table_key).values():
        tables.append(replace(curve_table(comparison, curves), note=CURVES_NOTE))
    for table in metric_tables(comparison):
        tables.append(replace(table, note=f"{table.note}\n{METRICS_NOTE}"))
    seen = describe_seen_images(comparison)
    if seen:
        tables[0] = replace(tables[0], note=f"{seen}\n{tables[0].note}")
    return tables


def _protocol_tables(
    comparison: ComparisonRecords, full_label_scores: FullLabelScores
) -> list[Table]:
    """Return a table for each protocol; the first says what its scores can show."""
    data = dict.fromkeys(
        scored.experiment.input.data
        for scored in full_label_scores
        if scored.experiment is not None
    )
    scores_by_protocol = group_by(
        (scored.score for scored in full_label_scores), lambda score: score.protocol
    )
    tables: list[Table] = []
    for protocol in sorted(scores_by_protocol, key=lambda name: (name != PROBE, name)):
        scores = scores_by_protocol[protocol]
        tasks = [score.task for score in scores]
        notes = [TOWER_NOTE + describe_task_trainings(scores)]
        if not tables:
            notes.append(describe_default_tasks(tasks))
        notes.append(describe_concept_overlap(tasks, data))
        if not tables:
            notes.append(describe_out_of_domain_scoring(full_label_scores.tasks, data))
        note = "\n".join(line for line in notes if line)
        tables.append(replace(protocol_table(comparison, full_label_scores, protocol), note=note))
    return tables
