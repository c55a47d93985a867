"""Records of any kind may be missing: the page says so and stands."""

from collections.abc import Callable
from typing import Any

import pytest

from bench.records.record import Failure, Record
from bench.records.record_kind import kind_tag
from reports.page import render_comparison_page
from tests.reports.conftest import short

Make = dict[str, Callable[..., Any]]
Words = Callable[[str], str]


def test_page_with_speed_records_only(make: Make, words: Words) -> None:
    names = ("clip-tiny", "catlip-tiny")
    text = words(
        render_comparison_page(
            "speeds", [make["speed"](name, number) for name in names for number in range(5)]
        )
    )
    assert "CatLIP trains 1.2" in text
    assert "No tower was scored in this comparison" in text
    assert "This comparison has no record of a training." in text
    assert "No run failed." in text


def test_failed_experiment_keeps_its_row(make: Make, words: Words) -> None:
    text = words(
        render_comparison_page("x", [make["speed"]("clip-tiny", 0), make["failure"]("catlip-tiny")])
    )
    assert "✕ failed" in text.split("CatLIP catlip-tiny", maxsplit=1)[1]


def test_a_failed_run_without_an_experiment_is_shown(make: Make, words: Words) -> None:
    found = make["record"](Failure(what="scoring", reason="no file"), None)
    assert "none scoring no file" in words(render_comparison_page("x", [found]))


@pytest.mark.parametrize("kind", ["memory", "training", "transfer"])
def test_page_with_each_kind_of_record_only(whole: list[Record], words: Words, kind: str) -> None:
    records = [short(one) for one in whole if kind_tag(type(one.measured)) == kind]
    assert "No speed was measured" in words(render_comparison_page(kind, records))
