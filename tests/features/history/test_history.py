"""Charts over commits, on a page that names changed counters and trusts no name of a document."""

from pathlib import Path
from typing import Any

import pytest

from bench.features.history.history_page import render_history_page
from bench.measure.metric_values import read_metric_values
from reports.series import build_history
from tests.documents import commits, document, written
from tests.report_command import main
from tests.reports.conftest import speed_record
from tests.reports.conftest import written as write_records
from tests.reports.test_page import HOSTILE, Document, require_self_contained


def page_of(folder: Path, *documents: dict[str, Any]) -> str:
    history = build_history(read_metric_values([written(folder, *documents)], []))
    return render_history_page(history)


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def test_page_and_terminal_name_counters_that_changed_and_charts_show_times(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = commits(*[1] * 8, processes=3)
    for late in documents[-3:]:
        late["benchmarks"][0]["extra_info"]["parameters"] = 1001
    folder = written(tmp_path / "in", *documents)
    assert run("history", folder, "--out", tmp_path / "charts.html") == 0
    assert "parameters  1,000 1,001 00000006 … 00000007 machine 1" in capsys.readouterr().out
    text = (tmp_path / "charts.html").read_text(encoding="utf-8")
    page = Document(text)
    row = ["test_a", "parameters", "1,000", "1,001", "00000006 … 00000007", "machine 1"]
    assert page.tables["Changed counters"][1:] == [row]
    labels = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert any("test_a, time over 8 commits" in label for label in labels)
    require_self_contained(text)


def test_equal_counters_are_in_no_table(tmp_path: Path) -> None:
    assert "No counter changed." in Document(page_of(tmp_path, *commits(1, 2, 3))).words()


def test_document_strings_are_escaped(tmp_path: Path) -> None:
    documents = commits(1, 1, 1, 3, 3, 3, processes=2)
    for content in documents:
        content["machine_info"]["fingerprint"] = content["datetime"] = content["commit_info"][
            "time"
        ] = HOSTILE
        content["commit_info"]["id"] = HOSTILE + content["commit_info"]["id"]
        for benchmark in content["benchmarks"]:
            benchmark |= {"name": HOSTILE, "fullname": HOSTILE, "group": HOSTILE}
    text = page_of(tmp_path, *documents)
    Document(text)
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_empty_measurement_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (written(tmp_path / "in", document({})), tmp_path / "none"):
        assert run("history", folder) == 2
        text = capsys.readouterr().err
        assert "measured nothing" in text or "there is no" in text
        assert text.count("\n") == 1


def test_damaged_files_of_a_folder_are_named_and_the_others_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = write_records(
        [speed_record(name, 0) for name in ("clip-tiny", "catlip-tiny")], tmp_path / "records"
    )
    broken = records / "2026-11-25-tiny.memory.clip-tiny.json"
    broken.write_text("{")
    assert run("history", records) == 3
    assert f"{broken}: not a record" in capsys.readouterr().err
    shown = Document((records / "charts.html").read_text(encoding="utf-8"))
    assert f"{broken}: not a record" in shown.words()
