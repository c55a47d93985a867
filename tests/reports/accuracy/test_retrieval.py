"""A task without a linear probe is shown by its own protocol, without a setting that was chosen or a majority class."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from bench.interfaces.catalog import UNSEEN_TASKS
from bench.measure.comparison_records import group_comparison
from bench.records.record import Record
from bench.transfer.pareto import cost_axes
from bench.transfer.score_tables import overview_table, task_table
from bench.transfer.subject_scores import whole_task_scores
from reports.accuracy.training_charts import CHANCE, accuracy_chart
from reports.page import page

Make = dict[str, Callable[..., Any]]
QUERIES, GALLERY = 40, 60


def with_retrieval(make: Make) -> list[Record]:
    """The towers of one seed and their speeds, each also with a retrieval of 40 queries."""
    made = [make["speed"](name, 0) for name in ("clip-tiny", "catlip-tiny")]
    for index, one in enumerate(make["transfers"](0)):
        if one.measured.subject in ("clip-tiny", "catlip-tiny", "random init"):
            right = "1" * (5 + index) + "0" * (QUERIES - 5 - index)
            score = replace(
                one.measured.scores[0],
                task=UNSEEN_TASKS[1],
                protocol="retrieval",
                chosen=1.0,
                correct=right,
                num_classes=GALLERY,
                num_train=GALLERY,
                majority=1 / QUERIES,
            )
            made.append(
                replace(one, measured=replace(one.measured, scores=(*one.measured.scores, score)))
            )
    return made


def test_retrieval_has_columns_and_a_note_of_its_own(
    make: Make, words: Callable[[str], str]
) -> None:
    comparison = group_comparison("x", with_retrieval(make))
    answers = whole_task_scores(comparison)
    assert answers.main_protocol(UNSEEN_TASKS[1]) == "retrieval"
    assert answers.main_protocol("unseen subgroup") == "linear probe"
    table = task_table(comparison, answers, UNSEEN_TASKS[1], answers.protocols(UNSEEN_TASKS[1]))
    assert [column.title for column in table.columns][3:] == [
        "retrieval",
        "gain",
        "seeds",
        "on the Pareto front",
    ]
    assert {len(row) for row in table.cells} == {len(table.columns)}
    probed = task_table(
        comparison, answers, "unseen subgroup", answers.protocols("unseen subgroup")
    )
    assert [column.title for column in probed.columns].count("C") == 1
    notes = {column.title: column.note for column in overview_table(comparison, answers).columns}
    assert notes[UNSEEN_TASKS[1]] == f"retrieval, {QUERIES} test images"
    assert notes["unseen subgroup"] == "linear probe, 822 test images"
    text = words(page("x", with_retrieval(make)))
    assert f"{QUERIES} test queries; {GALLERY} images in the gallery." in text
    assert "Accuracy by linear probe and retrieval" in text


def test_chart_of_a_retrieval_has_no_majority_class(make: Make) -> None:
    comparison = group_comparison("x", with_retrieval(make))
    answers, (device, _) = whole_task_scores(comparison), cost_axes(comparison)
    assert CHANCE not in accuracy_chart(comparison, answers, UNSEEN_TASKS[1], device)
