"""An explanation's page: the waterfall, the table and the words say what the records say."""

import math
from pathlib import Path

from msgspec.structs import replace

from bench.features.explain.decomposition import decompose
from bench.features.explain.ladder import HEAD, PADDING, TEXT_TOWER, Coordinates, ExpectedRatio
from bench.features.explain.tables import summarize
from bench.record import Record, read_records
from reports.page import page
from tests.features.explain.ladders import ladder_of, measured
from tests.reports.hostile import hostile
from tests.reports.test_hostile import require_text
from tests.reports.test_page import HOSTILE, Document

TABLE = "The causes of the ratio"
KEPT = Path(__file__).parents[2] / "records" / "explain-tiny"


def log(at: Coordinates) -> float:
    return 5 + (0.0, math.log(1.3), math.log(1.56), math.log(1.5))[at[0]] + 0.1 * len(at[1])


def records(*, whole: bool = True) -> list[Record]:
    ladder, cells = ladder_of(chosen=["kernel"], whole=whole)
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
    rows = document.tables[TABLE][1:]
    assert [row[0].partition("|")[0] for row in rows] == [
        *("kernel", PADDING, TEXT_TOWER, HEAD, "objective, all else equal"),
        *("product of the parts", "whole, measured apart", "unexplained", "published"),
    ]
    for row, part in zip(rows, found.parts, strict=False):
        assert part.chain is not None
        assert part.shapley is not None
        assert row[1] == f"{part.chain.value:.2f}|{part.chain.low:.2f} to {part.chain.high:.2f}"
        assert row[3].startswith(f"{part.shapley.value:.2f}|")
        assert part.shapley_flop_ratio is not None
        assert row[4] == f"{part.shapley_flop_ratio:.2f}"
        assert row[5].startswith(f"{part.verdict}|")
    assert rows[-2][5] == found.verdict_text
    assert "Left out, precision: no units." in document.words()
    label = next(value for _, name, value in document.attributes if name == "aria-label" and "Causes" in value)
    assert all(f"{part.cause} {part.best.value:.2f}" in label for part in found.parts if part.best is not None)


def test_a_kept_explanation_is_still_read() -> None:
    """Ten rounds on two shared cores, some of them disturbed: they can tell of one cause, and of the product."""
    document = Document(page("x", read_records(KEPT)))
    rows = {row[0]: row[1:] for row in document.tables[TABLE][1:]}
    assert rows["whole, measured apart"][:2] == ["1.45|1.36 to 1.54", "1.38"]
    assert rows[PADDING][2] == "cannot be told|+0.00 ± 0.13"
    assert rows["unexplained"][2] == "agree within 10.0 %"
    assert "consistent with FLOPs: the text tower (+0.04 ± 0.02); cannot be told: captions' padding" in document.words()


def test_the_same_records_give_the_same_bytes_and_others_have_no_such_section() -> None:
    assert page("x", records(whole=False)) == page("x", records(whole=False))
    rest = [one for one in records() if type(one.measured).__name__ == "Speed"]
    text = page("x", rest)
    assert TABLE not in Document(text).tables
    assert "#explanation" not in text


def test_interrupted_explanation_has_a_page() -> None:
    for many in range(1, 12, 3):
        Document(page("x", records()[:many]))


def test_ladder_strings_are_escaped() -> None:
    first, *runs = records()
    hostile = replace(
        first.measured,
        left_out={HOSTILE: HOSTILE},
        references=(ExpectedRatio(what=HOSTILE, ratio=2.0, source=HOSTILE),),
    )
    text = page("x", [replace(first, measured=hostile), *runs])
    assert text.count("<script") == 1
    assert "<script>alert(1)" in Document(text).words()


def test_every_string_of_an_explanation_is_escaped() -> None:
    require_text(page("x", list(map(hostile, records()))))
