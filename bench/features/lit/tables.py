"""The table of zero-shot scores, each beside what both phases cost. No torch here."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
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
CLIP, _ = HEADLINE_METHODS
NOTE = (
    "Device seconds are seconds times GPUs, or times the share of the CPU's cores in use. Those of the image tower are "
    "known if the record of its training lies beside it, from this machine. The second phase computes the features of "
    "its images once, and trains a text tower on them. Costs are means over seeds. With one seed, intervals are over "
    "test items and do not cover another training; two seeds give means without intervals; with three or more, "
    "intervals are over seeds and test items."
)


@dataclass(frozen=True, slots=True)
class ResultsOverSeeds:
    """The newest results of a tower, one for each seed, with its own text tower or one of a second phase."""

    results: Sequence[ZeroShot]  # of one tower, kind of text tower and tasks
    machine: str
    is_clip: bool  # with the text tower that it was trained with
    # Device seconds, means over seeds; NaN: not known of all.
    pretraining_seconds: float
    second_seconds: float

    @property
    def total_seconds(self) -> float:
        """Device seconds of both phases; NaN: not known."""
        return self.pretraining_seconds + self.second_seconds


def make_zero_shot_table(records: Sequence[Record]) -> Table:
    """Return a table with a row for each tower: the costs of both phases, and the accuracy on each task."""
    towers = _group_by_tower(records)
    clips = [tower for tower in towers if tower.is_clip]
    tasks = [score.task for tower in towers for score in tower.results[0].scores]
    data = {record.experiment.input.data for record in records if record.experiment is not None}
    rows = [_list_costs(tower, clips) | _list_accuracies(tower) for tower in towers]
    note = f"{NOTE} {describe_concept_overlap(tasks, data)}"
    return Table.from_dicts("Zero-shot, with its cost", rows, note, is_transposed=True)


def build_zero_shot(page: PageContext) -> Sequence[Block] | None:
    """Return the table of all zero-shot scores of the page's folder; None without any."""
    table = make_zero_shot_table(page.folder_records)
    return [table] if table.all_rows else None


def _group_by_tower(records: Sequence[Record]) -> list[ResultsOverSeeds]:
    """Return the results by tower, CLIP's own first; of a seed that was scored again the newest."""
    groups: dict[tuple[Any, ...], dict[int, ZeroShot]] = defaultdict(dict)
    for record in sorted(records, key=lambda record: record.circumstances.started_at):
        result = record.measured
        if not isinstance(result, ZeroShot):
            continue
        experiment = record.experiment
        assert experiment is not None
        key = (
            record.circumstances.machine_and_gpu,
            experiment.method == CLIP and result.second_phase is None,
            experiment.name,
            result.pretraining_images,
            result.second_images,
            tuple((score.task, len(score.correct)) for score in result.scores),
        )
        groups[key][experiment.seed] = result
    towers = []
    for (machine, is_clip, *_), result_by_seed in groups.items():
        results = list(result_by_seed.values())
        before = fmean(_nan_if_none(result.pretraining_seconds) for result in results)
        second = fmean(result.second_seconds for result in results)
        towers.append(ResultsOverSeeds(results, machine, is_clip, before, second))
    return sorted(towers, key=lambda tower: not tower.is_clip)


def _list_costs(tower: ResultsOverSeeds, clips: Sequence[ResultsOverSeeds]) -> dict[str, Any]:
    """Return what names a tower, and the costs of both phases, by column; `clips` are CLIP's own rows."""
    first = tower.results[0]
    phase = first.second_phase
    images = math.nan
    if first.pretraining_images is not None:
        images = first.pretraining_images + first.second_images
    total = tower.total_seconds
    clip_seconds = [clip.total_seconds for clip in clips if clip.machine == tower.machine]
    ratios = [total / seconds for seconds in clip_seconds]
    costs = {
        "images, both phases": images,
        "device seconds, image tower": tower.pretraining_seconds,
        "device seconds, second phase": tower.second_seconds,
        "device seconds, both phases": total,
        # Of several rows of CLIP the one with the most similar cost.
        "times CLIP's device seconds": min(
            ratios, key=lambda ratio: abs(ratio - 1), default=math.nan
        ),
    }
    return {
        "tower": first.tower,
        "text tower": f"LiT, loss of {phase.loss}" if phase else "trained with it",
        "seeds": len(tower.results),
        **{name: UNKNOWN if math.isnan(cost) else cost for name, cost in costs.items()},
    }


def _list_accuracies(tower: ResultsOverSeeds) -> dict[str, Any]:
    """Return the mean accuracy on each task, with its interval, by column."""
    columns = {}
    for number, score in enumerate(tower.results[0].scores):
        correct = [np.array([*result.scores[number].correct], float) for result in tower.results]
        estimate = estimate_mean(correct, accuracy_with_wilson_interval)
        column = f"{score.task}, of {score.num_candidates:,}"
        columns[column] = (estimate.value, estimate.low, estimate.high)
    return columns


def _nan_if_none(value: float | None) -> float:
    return math.nan if value is None else value
