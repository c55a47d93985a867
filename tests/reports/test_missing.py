"""Records of any kind may be missing: the page says so and stands."""

from collections.abc import Callable
from typing import Any

import pytest

from bench.records.record import Record
from bench.records.record_kind import kind_tag
from reports.page import render_comparison_page
from tests.reports.conftest import short

Make = dict[str, Callable[..., Any]]
Words = Callable[[str], str]


def test_failed_experiment_keeps_its_row(make: Make, words: Words) -> None:
    text = words(
        render_comparison_page("x", [make["speed"]("clip-tiny", 0), make["failure"]("catlip-tiny")])
    )
    assert "✕ failed" in text.split("CatLIP catlip-tiny", maxsplit=1)[1]


@pytest.mark.parametrize("kind", ["memory", "training", "transfer"])
def test_page_with_each_kind_of_record_only(whole: list[Record], words: Words, kind: str) -> None:
    records = [short(one) for one in whole if kind_tag(type(one.measured)) == kind]
    assert "No speed was measured" in words(render_comparison_page(kind, records))
