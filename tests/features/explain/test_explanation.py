"""An explanation's page: the chart, the table and the words say what the records say."""

import math

from msgspec.structs import replace

from bench.features.explain.decomposition import decompose_ratio_by_ladder
from bench.features.explain.ladder import HEAD, PADDING, TEXT_TOWER
from bench.features.explain.tables import cause_table
from bench.records.record import Record, Speed
from reports.page import render_comparison_page
from tests.features.explain.ladders import ladder_of, measured
from tests.reports.hostile import hostile
from tests.reports.test_hostile import require_text
from tests.reports.test_page import Document

LOGS = [5.0, 5.1, 5.1 + math.log(1.3), 5.1 + math.log(1.56), 5.1 + math.log(1.5)]


def records() -> list[Record]:
    ladder, experiments = ladder_of(chosen=["attention=fp32_softmax"])
    ladder = replace(ladder, note="a cause is not measured")
    return measured(ladder, experiments, LOGS, spread=0.002, flops=LOGS)


def test_explanation_page_lists_the_causes() -> None:
    result = decompose_ratio_by_ladder(records())
    assert result is not None
    document = Document(render_comparison_page("x", records()))
    assert "Where does the ratio come from? catlip" in document.words()
    assert "The answer in figures" not in document.tables
    rows = document.tables[cause_table(result).title][1:]
    causes = ["attention", PADDING, TEXT_TOWER, HEAD]
    assert [row[0] for row in rows] == [*causes, "whole ratio"]
    for row, cause in zip(rows, result.causes, strict=False):
        assert cause.forward_backward is not None
        ratio = cause.forward_backward
        assert row[2] == f"{ratio.value:.2f}|{ratio.low:.2f} to {ratio.high:.2f}"
        assert row[4] == cause.flops_verdict
    assert "a cause is not measured" in document.words()
    label = next(
        value
        for _, name, value in document.attributes
        if name == "aria-label" and "after and before a cause" in value
    )
    assert all(f"{cause}: whole step" in label for cause in causes)


def test_records_without_a_ladder_have_no_such_section() -> None:
    rest = [one for one in records() if isinstance(one.measured, Speed)]
    assert "#explanation" not in render_comparison_page("x", rest)


def test_every_string_of_an_explanation_is_escaped() -> None:
    require_text(render_comparison_page("x", list(map(hostile, records()))))
