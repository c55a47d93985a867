"""Records of any kind may be missing: the page says so and stands."""

import pytest

from bench.records.record import Record
from bench.records.record_kind import kind_tag
from reports.page import render_comparison_page
from tests.reports.conftest import failure_record, short, speed_record, words


def test_failed_experiment_keeps_its_row() -> None:
    text = words(
        render_comparison_page("x", [speed_record("clip-tiny", 0), failure_record("catlip-tiny")])
    )
    assert "✕ failed" in text.split("CatLIP catlip-tiny", maxsplit=1)[1]


@pytest.mark.parametrize("kind", ["memory", "training", "transfer"])
def test_page_with_each_kind_of_record_only(whole: list[Record], kind: str) -> None:
    records = [short(one) for one in whole if kind_tag(type(one.measured)) == kind]
    assert "No speed was measured" in words(render_comparison_page(kind, records))
