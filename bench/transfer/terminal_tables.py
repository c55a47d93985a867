"""The tables of accuracy on a terminal, under the names of experiments, with notes below them."""

from collections.abc import Sequence
from dataclasses import replace

from bench.interfaces.catalog import (
    RANDOM_INIT,
    describe_concept_overlap,
    describe_default_tasks,
    describe_out_of_domain_scoring,
)
from bench.measure.comparison_records import select_comparison_records
from bench.records.record import Record
from bench.records.scores import format_task_trainings_note
from bench.tables.groups import group_by
from bench.tables.tables import Table
from bench.transfer.label_curves import CURVES_NOTE, collect_label_curves, label_curve_tables
from bench.transfer.metric_tables import METRICS_NOTE, non_accuracy_metric_tables
from bench.transfer.score_tables import describe_leaked_test_images, seed_accuracy_table
from bench.transfer.subject_scores import PROBE, collect_full_label_scores

TOWER_NOTE = (
    "Accuracy on the test images, with its 95 % interval over these images for this one tower. A claim about a method "
    "needs several training seeds; one tower does not rank methods."
)


def make_transfer_tables(records: Sequence[Record]) -> list[Table]:
    """Return all tables of transfer records: accuracies by protocol, accuracies with few labels, and other metrics.

    The first one says what its scores can show.
    """
    comparison = replace(select_comparison_records("", records), labels={RANDOM_INIT: RANDOM_INIT})
    full_label_scores = collect_full_label_scores(comparison)
    scores = [scored.score for scored in full_label_scores]
    tables: list[Table] = []
    scores_by_protocol = group_by(scores, lambda score: score.protocol)
    for protocol in sorted(scores_by_protocol, key=lambda name: (name != PROBE, name)):
        note = TOWER_NOTE + format_task_trainings_note(scores_by_protocol[protocol])
        table = seed_accuracy_table(comparison, full_label_scores, protocol)
        tables.append(replace(table, note=note))
    tables += [
        replace(table, note=CURVES_NOTE)
        for table in label_curve_tables(comparison, collect_label_curves(comparison))
    ]
    tables += [
        replace(table, note=f"{table.note}\n{METRICS_NOTE}")
        for table in non_accuracy_metric_tables(comparison)
    ]
    if not tables:
        return []
    tasks = full_label_scores.tasks
    data = sorted({experiment.input.data for experiment in comparison.experiments.values()})
    notes = [tables[0].note, describe_default_tasks(tasks), describe_concept_overlap(tasks, data)]
    if tasks:
        notes.append(describe_out_of_domain_scoring(tasks, data))
    notes.append(describe_leaked_test_images(comparison))
    note = "\n".join(line for line in notes if line)
    return [replace(tables[0], note=note), *tables[1:]]
