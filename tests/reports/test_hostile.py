"""Every string of every kind of record is text on the page."""

import re

from bench.interfaces.sections import IncomparableResults
from bench.records.record import Record
from reports.page import render_comparison_page
from tests.reports.accuracy.test_few_labels import curve_record, head_record, metric_record
from tests.reports.conftest import failure_record, short, speed_record
from tests.reports.hostile import PAYLOAD, hostile
from tests.reports.test_page import Document


def few_labels() -> list[Record]:
    """Curves of few labels, heads that begin from pre-training, and figures of another task."""
    names = ("clip-tiny", "catlip-tiny", "random init")
    return [
        *(curve_record(name, 0) for name in names),
        *(head_record(name, {1: 0.1, 4: 0.05}) for name in names[1:]),
        metric_record("catlip-tiny", {"macro mAP": 0.4}, {"macro mAP": 0.1}),
    ]


def hostile_page(whole: list[Record]) -> str:
    """A page of every kind of record, each string a payload."""
    records = [*map(short, whole), *few_labels(), failure_record()]
    hostile_records = list(map(hostile, records))
    others = [IncomparableResults([PAYLOAD], hostile_records, PAYLOAD)]
    return render_comparison_page(PAYLOAD, hostile_records, incomparable_results=others)


def require_text(text: str) -> None:
    document = Document(text)  # and every element is closed in its place
    assert "<script>window.hit=1</script>" in document.words()
    assert "{{7*7}}" in document.words()
    assert text.count("<script") == 1
    assert not re.search(r"<img|<svg onload|<textarea", text)
    assert not any(name.startswith("on") for _, name, _ in document.attributes)


def test_every_record_string_is_escaped(whole: list[Record]) -> None:
    require_text(hostile_page(whole))


def test_hostile_payloads_reach_every_string_field() -> None:
    one = hostile(speed_record("clip-tiny", 0))
    assert one.experiment is not None
    assert one.experiment.name == f"{PAYLOAD}clip-tiny"
    assert one.experiment.method == f"{PAYLOAD}clip"
    assert one.circumstances.machine.startswith(PAYLOAD)
    assert all(name.startswith(PAYLOAD) for name in one.circumstances.packages)
