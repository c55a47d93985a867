"""The table of zero-shot scores, each beside what both phases cost. No torch here."""

from collections.abc import Sequence
from typing import Any

from bench.features.lit.records import ZeroShot
from bench.interfaces.catalog import describe_concept_overlap
from bench.records.record import Record
from bench.statistics.intervals import accuracy_with_wilson_interval
from bench.tables.tables import Table

UNKNOWN = "not known here"
NOTE = (
    "Device seconds are seconds times GPUs, or times the share of the CPU's cores in use. They are known if the "
    "record of the training lies beside the tower, from this machine. The second phase computes the features of its "
    "images once, and trains the text tower on them. Intervals are over the test items, for this one tower; one tower "
    "does not rank methods."
)


def make_zero_shot_table(records: Sequence[Record]) -> Table:
    """Return a table with a row for each tower: the costs of both phases, and the accuracy on each task."""
    rows = []
    tasks = dict[str, None]()
    data = set[str]()
    for record in records:
        result = record.measured
        if not isinstance(result, ZeroShot):
            continue
        assert record.experiment is not None
        data.add(record.experiment.input.data)
        row = {"tower": result.tower, "method": result.method, **_list_costs(result)}
        for score in result.scores:
            tasks[score.task] = None
            share = accuracy_with_wilson_interval([int(bit) for bit in score.correct])
            row[f"{score.task}, of {score.num_candidates:,}"] = (share.value, share.low, share.high)
        rows.append(row)
    note = f"{NOTE} {describe_concept_overlap(tasks, data)}"
    return Table.from_dicts("Zero-shot, with its cost", rows, note, is_transposed=True)


def _list_costs(result: ZeroShot) -> dict[str, Any]:
    """Return images and device seconds of pre-training, of the second phase and of both, by column."""
    phase = result.second_phase
    text_tower = "trained with the tower"
    images = 0
    seconds = 0.0
    if phase is not None:
        text_tower = f"LiT, by the loss of {phase.loss}"
        images = phase.images
        seconds = phase.feature_seconds + phase.text_seconds
    before = result.pretraining_seconds
    return {
        "text tower": text_tower,
        "images, pre-training": result.pretraining_images,
        "device seconds, pre-training": UNKNOWN if before is None else before,
        "images, second phase": images,
        "device seconds, second phase": seconds,
        "images, both": result.pretraining_images + images,
        "device seconds, both": UNKNOWN if before is None else before + seconds,
    }
