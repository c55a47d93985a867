"""Figures of documents and records: what is read of them."""

from pathlib import Path

import pytest

from bench.measure.metric_values import (
    read_metric_values,
)
from tests.documents import MACHINE, document, written


def test_metric_values_are_medians_and_known_counters(tmp_path: Path) -> None:
    extra = {
        "parameters": 12,
        "peak tensor bytes": 34,
        "images per second": 5.0,
        "least and most": [1, 2],
    }
    found = read_metric_values([written(tmp_path, document({"test_a": 0.5}, extra=extra))], [])
    assert {(f.metric.name, f.value) for f in found} == {
        ("time", 0.5),
        ("parameters", 12),
        ("peak tensor bytes", 34),
    }
    assert {f.machine for f in found} == {MACHINE}
    assert {f.benchmark.name_without_file for f in found} == {"test_a"}


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("suites.json", '{"benchmarks": []}', "measured nothing: it holds no benchmark"),
        ("suites.json", '{"benchmarks": [{}]}', "not a document of pytest-benchmark"),
        ("other.json", '{"rows": []}', "measured nothing: no figure"),
        ("one.speed.json", "{", "not a record"),
    ],
)
def test_empty_or_broken_document_is_an_error(
    tmp_path: Path, name: str, content: str, text: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=text):
        read_metric_values([tmp_path], [])
