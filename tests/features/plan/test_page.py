"""The section of a plan shows the plan, and trusts none of it."""

import json
from typing import Any

import pytest

from bench.experiment.experiments import EXPERIMENTS
from reports.page import page
from tests.reports.test_page import Document
from tests.timed_runs import speed

RECORDS = [speed(EXPERIMENTS["clip-tiny"], 5.0, 0.0, 0)]
HOSTILE = "<script>alert(1)</script>$x_1$"


def document(**changes: Any) -> bytes:
    wide = {"experiment": "clip"} | {f"figure {number}": float(number) for number in range(20)}
    tables = {
        "Plan for 64 GPUs": {
            "rows": [wide, wide | {"figure 3": None}],
            "note": "one line\nanother",
        },
        "Assumptions": {
            "rows": [{"assumption": "captions", "value": HOSTILE, "from": "nowhere"}],
            "note": "",
        },
        "Nothing": {"rows": [], "note": ""},
    }
    return json.dumps(tables | changes).encode()


def test_plan_beside_the_records_is_on_the_page() -> None:
    text = page("x", RECORDS, documents={"plan.json": document()})
    assert text == page("x", RECORDS, documents={"plan.json": document()})
    shown = Document(text)
    assert "On more GPUs" in shown.words()
    assert shown.tables["Plan for 64 GPUs"][-1][0] == "figure 19"
    assert "another" in shown.words()
    assert "Nothing" not in shown.words()
    assert text.count("<script") == 1
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"{}", b'{"a": {"rows": [{"x": 1}, {"y": 1}]}}', b'{"a": {"rows": 1}}']
)
def test_other_document_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"plan\.json (is not a document of|has no tables)"):
        page("x", RECORDS, documents={"plan.json": content})
