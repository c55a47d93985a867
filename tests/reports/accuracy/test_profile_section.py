"""All tasks together: ranks that intervals allow, and a mean that takes tasks and seeds as drawn at random."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from bench.interfaces.catalog import image_set_of_task
from bench.interfaces.sections import Block, Download, PageContext, Text
from bench.measure.comparison_records import group_comparison
from bench.records.record import Record
from bench.statistics.accuracies import estimate_over_tasks
from bench.tables.tables import Table
from reports.accuracy.profile_section import SECTION

Make = dict[str, Callable[..., Any]]
CLIP, CATLIP, SIGLIP, SUPERCLASS = NAMES = (
    "clip-tiny",
    "catlip-tiny",
    "siglip-tiny",
    "superclass-tiny",
)
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


def built(found: Sequence[Record]) -> Sequence[Block] | None:
    return SECTION.blocks(
        PageContext(comparison=group_comparison("x", found), largest=None, records=found)
    )


def table(found: Sequence[Record], title: str) -> dict[str, dict[str, Any]]:
    """The rows of a table by their first cell."""
    blocks = built(found)
    assert blocks is not None
    rows = next(block for block in blocks if isinstance(block, Table) and block.title == title).rows
    return {row["features"]: row for row in rows}


def words(found: Sequence[Record]) -> str:
    return " ".join(block.text for block in built(found) or () if isinstance(block, Text))


def test_equal_methods_have_no_rank_and_none_is_above(make: Make) -> None:
    ranks = table(records(make, dict.fromkeys(NAMES, equal), 5), "Rank on every task")
    for row in ranks.values():
        assert [row[task] for task in TASKS] == [(1, 1, 4)] * 4
        assert (row["above"], row["not apart"], row["below"]) == (0, 12, 0)


def test_rank_is_the_span_of_places_that_the_intervals_leave_open(make: Make) -> None:
    """CatLIP is far above, SigLIP and CLIP are equal, SuperCLASS is far below on one task alone."""
    accuracies: Accuracies = {
        CATLIP: lambda _, seed: 0.8 + 0.005 * (seed % 2),
        CLIP: equal,
        SIGLIP: equal,
        SUPERCLASS: lambda task, seed: (0.2 if task == "mnist" else 0.5) + 0.005 * (seed % 2),
    }
    ranks = table(records(make, accuracies, 5), "Rank on every task")
    assert [row["mnist"] for row in ranks.values()] == [(2, 2, 3), (2, 2, 3), (1, 1, 1), (4, 4, 4)]
    assert [row["rooms"] for row in ranks.values()] == [(2, 2, 4), (2, 2, 4), (1, 1, 1), (2, 2, 4)]
    assert [row["above"] for row in ranks.values()] == [1, 1, 12, 0]
    assert sum(row["above"] for row in ranks.values()) == sum(
        row["below"] for row in ranks.values()
    )
    assert all(row["above"] + row["not apart"] + row["below"] == 12 for row in ranks.values())


@pytest.mark.parametrize("seeds", [1, 2, 3, 4])
def test_no_method_is_ranked_under_five_paired_seeds(make: Make, seeds: int) -> None:
    found = records(make, {CLIP: equal, CATLIP: lambda _, __: 0.9}, seeds)
    assert not any(
        isinstance(block, Table) and block.title == "Rank on every task"
        for block in built(found) or ()
    )
    assert "Methods are not ranked: that needs 5 paired seeds." in words(found)


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
    found = records(make, accuracies, seeds)
    expected, row = (
        estimate_over_tasks(gains.tolist()),
        table(found, "Mean over all tasks")["CatLIP"],
    )
    assert row["mean difference"] == pytest.approx(
        (expected.mean.value, expected.mean.low, expected.mean.high)
    )
    assert row["smallest difference"] == pytest.approx(expected.smallest)
    assert row["mean accuracy"] == pytest.approx(0.5 + gains.mean())
    cells = next(block for block in built(found) or () if isinstance(block, Table)).cells
    assert cells[1][2].note.endswith(f"; {over}")


def test_tasks_on_the_same_images_count_as_one(make: Make) -> None:
    """The task that is added shares the images of another, and has the mean of both."""
    clevr = ("wds_vtab-clevr_count_all", "wds_vtab-clevr_closest_object_distance")
    assert len({image_set_of_task(task) for task in clevr}) == 1
    gains = {"rooms": 0.1, "dtd": 0.2, clevr[0]: 0.0, clevr[1]: 0.1}
    accuracies: Accuracies = {CLIP: equal, CATLIP: lambda task, _: 0.5 + gains[task]}
    found = table(records(make, accuracies, 1, [*gains]), "Mean over all tasks")["CatLIP"]
    expected = estimate_over_tasks([[0.1, 0.2, 0.05]]).mean
    assert found["mean difference"] == pytest.approx((expected.value, expected.low, expected.high))


@pytest.mark.parametrize("tasks", [TASKS[:1], TASKS[:2]])
def test_one_or_two_tasks_of_one_seed_have_no_section(make: Make, tasks: Sequence[str]) -> None:
    assert built(records(make, {CLIP: equal, CATLIP: equal}, 1, tasks)) is None


def test_too_few_tasks_for_a_mean_are_reported_beside_the_ranks(make: Make) -> None:
    found = records(make, {CLIP: equal, CATLIP: equal}, 5, TASKS[:2])
    assert "on 2 sets of test images; a mean over tasks needs 3: add others with --task." in words(
        found
    )
    assert table(found, "Rank on every task")["CLIP"]["rooms"] == (1, 1, 2)


def test_one_method_has_no_section(make: Make) -> None:
    assert built(records(make, {CLIP: equal}, 5)) is None


def test_task_that_not_all_towers_have_is_left_out_and_named(make: Make) -> None:
    found = [*records(make, {CLIP: equal}, 5), *records(make, {CATLIP: equal}, 5, TASKS[:3])]
    assert "Not all of them were scored on food101, which is left out." in words(found)
    assert all("food101" not in row for row in table(found, "Rank on every task").values())


def test_both_tables_are_files_of_the_page_at_full_precision(make: Make) -> None:
    found = records(
        make, {CLIP: equal, CATLIP: lambda task, seed: 0.6 + 0.1 * (task == "dtd") + 0.01 * seed}, 5
    )
    files = {
        block.name: block.content for block in built(found) or () if isinstance(block, Download)
    }
    assert [*files] == ["mean-over-tasks.csv", "ranks.csv"]
    rows = list(csv.DictReader(io.StringIO(files["mean-over-tasks.csv"].decode())))
    shown = table(found, "Mean over all tasks")["CatLIP"]
    assert float(rows[1]["mean difference"]) == shown["mean difference"][0]
    assert float(rows[1]["mean difference, low"]) == shown["mean difference"][1]
