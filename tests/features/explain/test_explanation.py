"""An explanation's page: the waterfall, the table and the words say what the records say."""

import math

from msgspec.structs import replace

from bench.features.explain.decomposition import decompose
from bench.features.explain.ladder import HEAD, PADDING, TEXT_TOWER, Coordinates, ExpectedRatio
from bench.features.explain.tables import cause_table, summarize
from bench.records.record import Record, Speed
from reports.page import page
from tests.features.explain.ladders import ladder_of, measured
from tests.reports.hostile import hostile
from tests.reports.test_hostile import require_text
from tests.reports.test_page import Document


def log(at: Coordinates) -> float:
    return 5 + (0.0, math.log(1.3), math.log(1.56), math.log(1.5))[at[0]] + 0.1 * len(at[1])


def records() -> list[Record]:
    ladder, cells = ladder_of(chosen=["kernel"], whole=True)
    lines = (ExpectedRatio(what="published", ratio=2.7, source="figure 1c"),)
    ladder = replace(ladder, left_out={"precision": "no units"}, references=lines)
    return measured(ladder, cells, log, spread=0.002, flops=log)


def test_explanation_page_lists_the_causes() -> None:
    found = decompose(records())
    assert found is not None
    text = page("x", records())
    document = Document(text)
    assert summarize(found).replace("\N{NO-BREAK SPACE}", " ") in document.words()
    assert "Where does the ratio come from? catlip" in document.words()
    assert "The answer in figures" not in document.tables
    rows = document.tables[cause_table(found).title][1:]
    assert [row[0] for row in rows] == [
        *("kernel", PADDING, TEXT_TOWER, HEAD, "objective, all else equal"),
        *("product of the parts", "whole, measured apart", "unexplained"),
    ]
    for row, part in zip(rows, found.parts, strict=False):
        assert part.chain is not None
        assert part.shapley is not None
        assert row[2] == f"{part.chain.value:.2f}|{part.chain.low:.2f} to {part.chain.high:.2f}"
        assert row[4].startswith(f"{part.shapley.value:.2f}|")
        assert part.shapley_flop_ratio is not None
        assert row[5] == f"{part.shapley_flop_ratio:.2f}"
        assert row[7] == part.verdict
    assert rows[-1][7] == found.verdict_text
    assert document.tables["Counted and published"][1][0] == "published"
    assert "Left out, precision: no units." in document.words()
    label = next(value for _, name, value in document.attributes if name == "aria-label" and "Causes" in value)
    assert all(f"{part.cause} {part.best.value:.2f}" in label for part in found.parts if part.best is not None)


def test_records_without_a_ladder_have_no_such_section() -> None:
    rest = [one for one in records() if isinstance(one.measured, Speed)]
    assert "#explanation" not in page("x", rest)


def test_interrupted_explanation_has_a_page() -> None:
    for many in range(1, 12, 3):
        Document(page("x", records()[:many]))


def test_every_string_of_an_explanation_is_escaped() -> None:
    require_text(page("x", list(map(hostile, records()))))
