"""A task without a linear probe is shown by its own protocol, without a setting that was chosen or a majority class."""

from msgspec.structs import replace

from bench.interfaces.catalog import UNSEEN_TASKS
from bench.measure.comparison_records import select_comparison_records
from bench.records.record import Record
from bench.transfer.pareto import make_time_and_energy_cost_axes
from bench.transfer.subject_scores import collect_full_label_scores
from reports.accuracy.charts import CHANCE, accuracy_chart
from tests.reports.conftest import speed_record, transfer_records

QUERIES, GALLERY = 40, 60


def with_retrieval() -> list[Record]:
    """The towers of one seed and their speeds, each also with a retrieval of 40 queries."""
    made = [speed_record(name, 0) for name in ("clip-tiny", "catlip-tiny")]
    for index, one in enumerate(transfer_records(0)):
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


def test_chart_of_a_retrieval_has_no_majority_class() -> None:
    comparison = select_comparison_records("x", with_retrieval())
    scores, (device, _) = (
        collect_full_label_scores(comparison),
        make_time_and_energy_cost_axes(comparison),
    )
    assert CHANCE not in accuracy_chart(comparison, scores, UNSEEN_TASKS[1], device)
