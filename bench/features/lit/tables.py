"""The table of zero-shot scores, each beside what both phases cost. No torch here."""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from bench.experiment.experiments import HEADLINE_METHODS
from bench.features.lit.records import ZeroShot
from bench.interfaces.catalog import describe_concept_overlap
from bench.interfaces.sections import Block, PageContext
from bench.records.record import Record
from bench.statistics.intervals import accuracy_with_wilson_interval
from bench.tables.tables import Table
from bench.transfer.subject_scores import estimate_mean

UNKNOWN = "not known"
SECONDS_PER_HOUR = 3600
CLIP, _ = HEADLINE_METHODS
NOTE = (
    "Device seconds are seconds times GPUs, or times the share of the CPU's cores in use. Those of the image tower are "
    "known if the record of its training lies beside it, from this machine. The second phase computes the features of "
    "its images once, and trains a text tower on them. Costs are means over seeds. With one seed, intervals are over "
    "test items and do not cover another training; two seeds give means without intervals; with three or more, "
    "intervals are over seeds and test items."
)


def make_zero_shot_table(records: Sequence[Record]) -> Table:
    """Return a table with a row for each tower: the costs of both phases, and the accuracy on each task.

    CLIP's own text tower is first.
    """
    towers = _group_by_tower(records)
    tasks = [score.task for results in towers for score in results[0].scores]
    data = {record.experiment.input.data for record in records if record.experiment is not None}
    rows = [_list_costs(results) | _list_accuracies(results) for results in towers]
    note = f"{NOTE} {describe_concept_overlap(tasks, data)}"
    return Table.from_dicts("Zero-shot, with its cost", rows, note, is_transposed=True)


def build_zero_shot(page: PageContext) -> Sequence[Block] | None:
    """Return the table of all zero-shot scores of the page's folder; None without any."""
    table = make_zero_shot_table(page.folder_records)
    return [table] if table.all_rows else None


def _group_by_tower(records: Sequence[Record]) -> list[list[ZeroShot]]:
    """Return the newest result of each seed by tower, CLIP's own first."""
    groups: dict[tuple[Any, ...], dict[int, ZeroShot]] = defaultdict(dict)
    for record in sorted(records, key=lambda record: record.circumstances.started_at):
        result = record.measured
        if not isinstance(result, ZeroShot):
            continue
        experiment = record.experiment
        assert experiment is not None
        is_clip = experiment.method == CLIP and result.second_phase is None
        key = (
            not is_clip,
            record.circumstances.machine_and_gpu,
            experiment.name,
            result.pretraining_images,
            result.total_seconds or result.second_images,
            tuple((score.task, len(score.correct)) for score in result.scores),
        )
        groups[key][experiment.seed] = result
    keys = sorted(groups, key=lambda key: key[0])
    return [list(groups[key].values()) for key in keys]


def _list_costs(results: Sequence[ZeroShot]) -> dict[str, Any]:
    """Return what names a tower, and the costs of both phases, means over seeds, by column."""
    first = results[0]
    phase = first.second_phase
    images = math.nan
    if first.pretraining_images is not None:
        second_images = fmean(result.second_images for result in results)
        images = first.pretraining_images + round(second_images)
    before = fmean(_nan_if_none(result.pretraining_seconds) for result in results)
    second = fmean(result.second_seconds for result in results)
    costs = {
        "images, both phases": images,
        "device seconds, image tower": before,
        "device seconds, second phase": second,
        "device seconds, both phases": before + second,
    }
    if first.price is not None:
        costs["price, both phases"] = first.price * (before + second) / SECONDS_PER_HOUR
    return {
        "tower": first.tower,
        "text tower": f"LiT, loss of {phase.loss}" if phase else "trained with it",
        "seeds": len(results),
        **{name: UNKNOWN if math.isnan(cost) else cost for name, cost in costs.items()},
    }


def _list_accuracies(results: Sequence[ZeroShot]) -> dict[str, Any]:
    """Return the mean accuracy on each task, with its interval, by column."""
    columns = {}
    for number, score in enumerate(results[0].scores):
        correct = [np.array([*result.scores[number].correct], float) for result in results]
        column = f"{score.task}, of {score.num_candidates:,}"
        columns[column] = estimate_mean(correct, accuracy_with_wilson_interval)
    return columns


def _nan_if_none(value: float | None) -> float:
    return math.nan if value is None else value
