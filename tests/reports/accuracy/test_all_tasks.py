"""The mean over all tasks takes tasks and seeds as drawn at random."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from bench.interfaces.catalog import image_set_of_task
from bench.measure.comparison_records import group_comparison
from bench.records.record import Record
from bench.statistics.accuracies import estimate_mean_over_tasks
from bench.tables.tables import Table
from bench.transfer.subject_scores import whole_task_scores
from reports.accuracy.all_tasks import mean_over_tasks_table

Make = dict[str, Callable[..., Any]]
CLIP, CATLIP = "clip-tiny", "catlip-tiny"
TASKS = ("rooms", "dtd", "mnist", "food101")
NUM_TEST = 200
Accuracies = Mapping[str, Callable[[str, int], float]]  # by method: of a task and a seed


def equal(_: str, __: int) -> float:
    return 0.5


def records(
    make: Make, accuracies: Accuracies, seeds: int, tasks: Sequence[str] = TASKS
) -> list[Record]:
    """Towers at equal images, with these accuracies by the linear probe."""
    made = []
    for seed in range(seeds):
        for one in make["transfers"](seed):
            if "equal images" not in one.measured.budgets or one.measured.subject not in accuracies:
                continue
            scores = []
            for task in tasks:
                right = round(NUM_TEST * accuracies[one.measured.subject](task, seed))
                answers = "1" * right + "0" * (NUM_TEST - right)
                scores.append(
                    replace(
                        one.measured.scores[0], task=task, protocol="linear probe", correct=answers
                    )
                )
            made.append(replace(one, measured=replace(one.measured, scores=tuple(scores))))
    return made


def mean_table(records: Sequence[Record]) -> Table | None:
    comparison = group_comparison("x", records)
    return mean_over_tasks_table(comparison, whole_task_scores(comparison))


def row_of_catlip(records: Sequence[Record]) -> dict[str, Any]:
    table = mean_table(records)
    assert table is not None
    return next(row for row in table.rows if row["features"] == "CatLIP")


@pytest.mark.parametrize(
    ("seeds", "over"), [(1, "4 tasks, of these trainings"), (3, "4 tasks and 3 seeds")]
)
def test_mean_difference_is_over_tasks_and_from_three_seeds_on_over_seeds(
    make: Make, seeds: int, over: str
) -> None:
    gains = np.random.default_rng(0).integers(-20, 60, (seeds, len(TASKS))) / NUM_TEST
    accuracies: Accuracies = {
        CLIP: equal,
        CATLIP: lambda task, seed: 0.5 + gains[seed, TASKS.index(task)],
    }
    towers = records(make, accuracies, seeds)
    expected = estimate_mean_over_tasks(gains.tolist())
    row = row_of_catlip(towers)
    assert row["mean difference"] == pytest.approx(
        (expected.mean.value, expected.mean.low, expected.mean.high)
    )
    assert row["smallest difference"] == pytest.approx(expected.smallest_detectable)
    assert row["mean accuracy"] == pytest.approx(0.5 + gains.mean())
    table = mean_table(towers)
    assert table is not None
    assert table.all_rows[1][2].note.endswith(f"; {over}")


def test_tasks_on_the_same_images_count_as_one(make: Make) -> None:
    """The task that is added shares the images of another, and has the mean of both."""
    clevr = ("wds_vtab-clevr_count_all", "wds_vtab-clevr_closest_object_distance")
    assert len({image_set_of_task(task) for task in clevr}) == 1
    gains = {"rooms": 0.1, "dtd": 0.2, clevr[0]: 0.0, clevr[1]: 0.1}
    accuracies: Accuracies = {CLIP: equal, CATLIP: lambda task, _: 0.5 + gains[task]}
    row = row_of_catlip(records(make, accuracies, 1, [*gains]))
    expected = estimate_mean_over_tasks([[0.1, 0.2, 0.05]]).mean
    assert row["mean difference"] == pytest.approx((expected.value, expected.low, expected.high))


def test_one_method_and_fewer_than_three_tasks_have_no_table(make: Make) -> None:
    assert mean_table(records(make, {CLIP: equal}, 5)) is None
    assert mean_table(records(make, {CLIP: equal, CATLIP: equal}, 1, TASKS[:2])) is None
    towers = [*records(make, {CLIP: equal}, 1), *records(make, {CATLIP: equal}, 1, TASKS[:2])]
    assert mean_table(towers) is None  # the other tasks are not those of all towers
