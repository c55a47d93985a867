"""What accuracy costs: the front is what the definition says, energy is what the records say or not there."""

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bench.interfaces.catalog import RANDOM_INIT
from bench.measure.comparison_records import select_comparison_records
from bench.records.record import Record
from bench.statistics.accuracies import MeanEstimate
from bench.transfer.pareto import (
    TowerCostAxis,
    make_time_and_energy_cost_axes,
    pareto_front,
)
from bench.transfer.subject_scores import TowerOrReferenceAccuracy, collect_full_label_scores
from tests.reports.conftest import words
from tests.reports.test_page import Document

Make = dict[str, Callable[..., Any]]
DEVICE = TowerCostAxis(
    name="seconds",
    title="",
    axis_label="",
    format_value=str,
    cost_per_image={"fast": 0.5, "slow": 1.0},
)
POINTS = st.lists(
    st.tuples(
        st.sampled_from(["fast", "slow", "untimed", "random init"]),
        st.integers(1, 6),
        st.integers(0, 6),
    ),
    max_size=14,
)


def point(subject: str, images: int, tenths: int) -> TowerOrReferenceAccuracy:
    accuracy = MeanEstimate(tenths / 10, None, None, "")
    return TowerOrReferenceAccuracy(subject, subject == RANDOM_INIT, images, (), (), accuracy, None)


@given(POINTS)
def test_pareto_front_is_not_dominated(drawn: list[tuple[str, int, int]]) -> None:
    found = [point(*one) for one in drawn]
    paid = [
        (one, cost)
        for one in found
        if not one.is_reference and (cost := DEVICE.cost_of(one)) is not None
    ]

    def beats(
        first: tuple[TowerOrReferenceAccuracy, float],
        second: tuple[TowerOrReferenceAccuracy, float],
    ) -> bool:
        least = first[1] <= second[1] and first[0].accuracy.value >= second[0].accuracy.value
        return least and (
            first[1] < second[1] or first[0].accuracy.value > second[0].accuracy.value
        )

    expected = [one for one in paid if not any(beats(other, one) for other in paid)]
    front = pareto_front(found, DEVICE)
    assert sorted(map(id, front)) == sorted(id(one) for one, _ in expected)
    costs = [DEVICE.cost_of(one) or 0.0 for one in front]
    assert costs == sorted(costs)
    assert [one.accuracy.value for one in front] == sorted(one.accuracy.value for one in front)
    assert sorted(map(id, pareto_front(found[::-1], DEVICE))) == sorted(map(id, front))


def test_the_page_marks_the_front(whole: list[Record], whole_page: str) -> None:
    comparison = select_comparison_records("x", whole)
    device, energy = make_time_and_energy_cost_axes(comparison)
    found = collect_full_label_scores(comparison).main_accuracies("unseen subgroup")
    front = pareto_front(found, device)
    assert 0 < len(front) < len([one for one in found if not one.is_reference])
    rows = Document(whole_page).tables["Accuracy on unseen subgroup"]
    marked = {(row[0].split("|")[-1], row[1]) for row in rows if row[-1] == "device seconds"}
    assert marked == {(one.subject, f"{one.images_seen:,}") for one in front}
    assert energy.cost_per_image == {}
    assert "kJ" not in words(whole_page)
