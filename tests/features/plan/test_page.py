"""The page of a plan shows the plan, and trusts none of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.experiment.experiments import EXPERIMENTS
from bench.features.plan.section import plan_page
from reports.__main__ import main
from reports.page import page
from tests.reports.test_page import Document
from tests.timed_runs import speed

RECORDS = [speed(EXPERIMENTS["clip-tiny"], 5.0, 0.0, 0)]
HOSTILE = "<script>alert(1)</script>$x_1$"


def document(**changes: Any) -> bytes:
    curve = [
        {"experiment": name, "GPUs": gpus, "of one alone": share, "communication, share": 1 - share, "images/s": 9.5}
        for name, shares in {"clip": (1.0, 0.4), HOSTILE: (1.0, 0.9)}.items()
        for gpus, share in zip((1, 4096), shares, strict=True)
    ]
    wide = {"experiment": "clip"} | {f"figure {number}": float(number) for number in range(20)}
    tables = {
        "Plan for 64 GPUs": {"rows": [wide, wide | {"figure 3": None}], "note": "one line\nanother"},
        "Assumptions": {"rows": [{"assumption": "captions", "value": HOSTILE, "from": "nowhere"}], "note": ""},
        "As GPUs grow": {"rows": curve, "note": "shares"},
        "Nothing": {"rows": [], "note": ""},
    }
    return json.dumps(tables | changes).encode()


def test_plan_page_is_reproducible() -> None:
    text = plan_page(document(), "plan.json")
    assert text == plan_page(document(), "plan.json")
    assert "<h1>Plan for 64 GPUs</h1>" in text
    assert "clip 40" in text  # what is heard instead of the chart
    assert "figure 19" in text
    assert "another" in text
    assert text.count("<script") == 1
    assert "&lt;script&gt;" in text
    assert "Nothing" not in text


def test_plan_page_is_written_beside_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.json").write_bytes(document())
    assert main(["plan", str(tmp_path / "plan.json")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'plan.html'}\n"
    assert (tmp_path / "plan.html").read_text() == plan_page(document(), "plan.json")


POINT = b'"experiment": "clip", "GPUs": 1, "of one alone": 1.0, "communication, share": 0.0'
RAGGED = b'{"As GPUs grow": {"rows": [{%b, "more": 1}, {%b}]}}' % (POINT, POINT)


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"{}", b'{"As GPUs grow": {"rows": [{}]}}', b'{"As GPUs grow": {"rows": []}}', RAGGED]
)
def test_other_document_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    (tmp_path / "plan.json").write_bytes(content)
    assert main(["plan", str(tmp_path / "plan.json")]) == 2
    assert (
        "plan.json is not a document of" in (text := capsys.readouterr().err)
        or "plan.json: the plan has no curve" in text
    )


def test_a_plan_beside_the_records_is_on_the_page() -> None:
    text = page("x", RECORDS, documents={"plan.json": document()})
    shown = Document(text)
    assert "On more GPUs" in shown.words()
    assert "As GPUs grow" in shown.tables
    assert text.count("<script") == 1
    with pytest.raises(ValueError, match=r"plan\.json is not a document of"):
        page("x", RECORDS, documents={"plan.json": b"{}"})
