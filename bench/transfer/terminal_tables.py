"""The tables of accuracy on a terminal: those of the page, under the names of experiments, with notes below them."""

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
from bench.tables.formats import format_accuracy
from bench.tables.tables import Cell, Table
from bench.transfer.label_curves import (
    SHARE,
    Curve,
    describe_repetition,
    describe_shares_left_out,
    describe_small_classes,
    few_label_curves,
)
from bench.transfer.label_tables import (
    METRICS_NOTE,
    heads_table,
    labels_table,
    metric_tables,
    nearest_label_table,
)
from bench.transfer.pareto import cost_axes, describe_unknown_costs
from bench.transfer.score_tables import TASKS_NOTE, protocol_table, task_note, task_table
from bench.transfer.subject_scores import PROBE, WholeTaskScores, whole_task_scores

SEED_UNIT = "A claim about a method needs several training seeds; one tower does not rank methods."
TOWER_NOTE = f"Accuracy on the test images, with its 95 % interval over these images for this one tower. {SEED_UNIT}"
COSTS_NOTE = (
    f"{TASKS_NOTE} A gain is over the random-init baseline. The hyperparameter is chosen on validation. {SEED_UNIT}\n"
    "Device time is images seen over the median images/s of the speed records, and energy is at their mean power, of "
    "all devices. A tower on the Pareto front is the most accurate one up to its cost."
)
SAME_STEPS = "All batches have the same size, so that equal steps are equal images and no budget of their own."
INIT_NOTE = (
    "Accuracy on the test images of a head on the frozen tower; the gain over the random head is that on the same "
    "draw. No labels: the initial head. A draw's rate is chosen on validation images of its own, no more than are "
    "fitted; all labels are one draw."
)


def transfer_tables(records: Sequence[Record]) -> list[Table]:
    """Return all tables of accuracy: towers by protocol, tasks, few labels, other metrics, and initialised heads."""
    comparison = replace(group_comparison("", records), labels={RANDOM_INIT: RANDOM_INIT})
    answers = whole_task_scores(comparison)
    return [
        *_protocol_tables(comparison, answers),
        *_task_tables(comparison, answers),
        *_curve_tables(comparison),
        *(
            replace(table, note=f"{table.note}\n{METRICS_NOTE}")
            for table in metric_tables(comparison)
        ),
        nearest_label_table(comparison),
    ]


def _protocol_tables(comparison: ComparisonRecords, answers: WholeTaskScores) -> list[Table]:
    data = dict.fromkeys(
        scored.experiment.input.data for scored in answers if scored.experiment is not None
    )
    drawings = describe_out_of_domain_scoring(answers.tasks, data)
    protocols = dict.fromkeys(
        protocol for task in answers.tasks for protocol in answers.protocols(task)
    )
    tables = list[Table]()
    for protocol in sorted(protocols, key=lambda name: (name != PROBE, name)):
        scores = [scored.score for scored in answers if scored.score.protocol == protocol]
        note = TOWER_NOTE + describe_task_trainings(scores)
        names = [score.task for score in scores]
        remarks = [
            describe_default_tasks(names) if not tables else "",
            describe_concept_overlap(names, data),
        ]
        note = "\n".join([note, *filter(None, remarks)])
        if drawings and not tables:
            note += f"\n{drawings}: --root FOLDER scores them on classes of your own, with a folder of images for each."
        tables.append(replace(protocol_table(comparison, answers, protocol), note=note))
    return tables


def _task_tables(comparison: ComparisonRecords, answers: WholeTaskScores) -> list[Table]:
    """Return a table for each task by its main protocol, the last with the notes on all."""
    tables = [
        replace(
            task_table(comparison, answers, task, [answers.main_protocol(task)]),
            note=task_note(answers, task),
        )
        for task in answers.tasks
    ]
    device, energy = cost_axes(comparison)
    trained = list(dict.fromkeys(scored.subject for scored in answers if not scored.is_reference))
    notes = [COSTS_NOTE]
    if not device.per_image:
        notes.append("Device time and energy need speed records, and this comparison has none.")
    else:
        unknown = describe_unknown_costs(comparison, trained, energy)
        if unknown:
            notes.append(f"Energy was not measured. {' '.join(f'{reason}.' for reason in unknown)}")
    batch_sizes = {
        scored.experiment.training.batch_size for scored in answers if scored.experiment is not None
    }
    if len(batch_sizes) == 1:
        notes.append(SAME_STEPS)
    return [
        *tables[:-1],
        *(replace(table, note="\n".join([table.note, *notes])) for table in tables[-1:]),
    ]


def _curve_tables(comparison: ComparisonRecords) -> list[Table]:
    """Return the tables of few labels, of probes and of initialised heads."""
    groups: dict[tuple[str, str, str], list[Curve]] = {}
    for curve in few_label_curves(comparison):
        protocol = "" if curve.head else curve.protocol
        groups.setdefault((protocol, curve.label_unit, curve.task), []).append(curve)
    tables = []
    for (protocol, unit, _), curves in groups.items():
        table = labels_table(comparison, curves) if protocol else heads_table(comparison, curves)
        shares = [
            f"{column.title}: {column.note}"
            for column in table.columns
            if column.note and unit == SHARE
        ]
        notes = [
            "" if protocol else INIT_NOTE,
            f"{describe_repetition(curves)} One draw has no interval.",
            "; ".join(shares),
            describe_shares_left_out(curves),
            describe_small_classes(curves),
        ]
        rows = {
            heading: [[*map(_shorten, row)] for row in rows]
            for heading, rows in table.groups.items()
        }
        tables.append(replace(table, groups=rows, note="\n".join(filter(None, notes))))
    return tables


def _shorten(cell: Cell) -> Cell:
    """Write the interval of a mean over draws or seeds, which is symmetric, by its half; there is none for one draw."""
    if cell.interval is None:
        return cell
    low, high = cell.interval
    half = "" if low is None or high is None else f" ±{format_accuracy((high - low) / 2)}"
    return replace(cell, text=cell.text + half, note="")
