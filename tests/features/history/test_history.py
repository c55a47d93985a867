"""Charts over commits: which steps are changes, and a page that names them and trusts no name of a document."""

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.features.history.changes import find_series_jumps
from bench.features.history.history_page import render_history_page
from bench.measure.metric_values import BenchmarkId, CommitOrWorkTree, Metric, read_metric_values
from reports.series import CommitValues, MetricSeries, build_history
from tests.documents import commits, document, written
from tests.report_command import main
from tests.reports.conftest import speed_record, write_records
from tests.reports.test_page import HOSTILE, Document, require_self_contained

TIME = Metric("time", "s", "less", is_counter=False)
PARAMETERS = Metric("parameters", "", "same", is_counter=True)
FLOPS = Metric("FLOPs of a step", "FLOP", "less", is_counter=True)


def series_of_runs(
    runs_by_commit: Sequence[Sequence[float]],
    metric: Metric = TIME,
    turns: Sequence[str] = ("a", "b", "c", "d"),
) -> MetricSeries:
    points = [
        CommitValues(CommitOrWorkTree(f"{at:040}"), tuple(runs), tuple(turns[: len(runs)]))
        for at, runs in enumerate(runs_by_commit)
    ]
    return MetricSeries(BenchmarkId("suite.py::part", "group"), metric, "here", tuple(points))


def series(
    levels: Sequence[float], *, processes: int = 1, noise: float = 0.005, metric: Metric = TIME
) -> MetricSeries:
    draw = random.Random(7)
    return series_of_runs(
        [[level * math.exp(draw.gauss(0, noise)) for _ in range(processes)] for level in levels],
        metric,
    )


def page_of(folder: Path, *documents: dict[str, Any]) -> str:
    history = build_history(read_metric_values([written(folder, *documents)], []))
    changes = [change for series in history.series for change in find_series_jumps(series)]
    return render_history_page(history, changes)


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize(("factor", "count", "processes"), [(1.1, 8, 3), (0.9, 40, 1)])
def test_jump_is_a_change_at_its_commit(factor: float, count: int, processes: int) -> None:
    half = count // 2
    for unit in (1.0, 1e-6):
        levels = [unit] * half + [unit * factor] * half
        (change,) = find_series_jumps(series(levels, processes=processes))
        assert (change.at, change.is_worse) == (half, factor > 1)
        assert change.new / change.old == pytest.approx(factor, rel=0.01)


def test_slow_commits_that_are_mended_are_two_changes_and_a_slow_process_is_none() -> None:
    changes = find_series_jumps(series([1] * 8 + [1.2] * 4 + [1] * 8, processes=3))
    assert [(change.at, change.is_worse) for change in changes] == [(8, True), (12, False)]
    assert find_series_jumps(series([1, 1, 1, 1.2, 1, 1, 1, 1])) == []
    assert find_series_jumps(series([1.0] * 20 + [1.015] * 20, noise=0.001)) == []  # below 2 %


@pytest.mark.parametrize(("metric", "is_worse"), [(PARAMETERS, True), (FLOPS, False)])
def test_counter_changes_are_exact(metric: Metric, is_worse: bool) -> None:
    (change,) = find_series_jumps(series((5, 5, 4), noise=0.0, metric=metric))
    assert (change.at, change.is_worse) == (2, is_worse)
    assert (
        find_series_jumps(series_of_runs([(5, 5), (5, 6)], metric)) == []
    )  # it varies within a commit


def test_a_state_of_the_machine_that_processes_share_neither_hides_nor_creates_changes() -> None:
    draw = random.Random(5)
    turns = [math.exp(draw.gauss(0, 0.2)) for _ in range(4)]

    def changes(levels: Sequence[float]) -> list[int]:
        runs = [[level * turn * draw.gauss(1, 0.01) for turn in turns] for level in levels]
        return [change.at for change in find_series_jumps(series_of_runs(runs))]

    assert changes([1.0] * 4 + [1.08] * 4) == [4]
    assert changes([1.0] * 8) == []
    drifts = [math.exp(draw.gauss(0, 0.05)) for _ in range(8)]
    runs = [[drift * draw.gauss(1, 0.001) for _ in range(3)] for drift in drifts]
    assert (
        find_series_jumps(series_of_runs(runs, turns=("", "", ""))) == []
    )  # each commit on its day


@pytest.mark.parametrize(
    ("noise", "slowdown", "at", "commits", "bound"),
    [
        (0.02, 0.05, 4, 8, 0.4),
        (0.04, 0.25, 4, 8, 0.95),
        (0.04, 1.00, 3, 4, 0.95),
    ],
)
def test_slowdowns_are_found_in_three_processes_of_each_commit_and_nothing_else(
    noise: float, slowdown: float, at: int, commits: int, bound: float
) -> None:
    """The rates in docs/results/performance.md are of 400 series."""
    draw = np.random.default_rng(0)
    later = np.arange(commits)[:, None] >= at
    logs = draw.normal(0, noise, (80, commits, 3))
    logs[40:] += math.log1p(slowdown) * later
    changes = [find_series_jumps(series_of_runs(np.exp(log).tolist()), 25) for log in logs]
    assert not any(changes[:40])
    assert sum(any(change.at == at for change in found) for found in changes[40:]) >= bound * 40


def test_page_and_terminal_name_what_changed_and_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = commits(1, 1, 1, 1, 1.2, 1.2, 1.2, 1.2, processes=3)
    for late in slow[-3:]:
        late["benchmarks"][0]["extra_info"]["parameters"] = 1001
    folder = written(tmp_path / "in", *slow)
    assert run("history", folder, "--out", tmp_path / "charts.html") == 0
    printed = capsys.readouterr().out
    assert "worse: bench/suites/test_losses.py::test_a, time: " in printed
    assert "2 changes for the worse." in printed
    text = (tmp_path / "charts.html").read_text(encoding="utf-8")
    page = Document(text)
    row = next(row for row in page.tables["Changes"] if row[0].endswith("|time"))
    assert row[1] == "▼ worse"
    assert row[3] == "00000003 … 00000004"
    counted = next(row for row in page.tables["Changes"] if row[0].endswith("|parameters"))
    assert counted[2:4] == ["1,000 to 1,001 (1.001 times)", "00000006 … 00000007"]
    assert "2 changes for the worse" in page.words()
    labels = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert any("test_a, time over 8 commits" in label for label in labels)
    require_self_contained(text)


def test_a_commit_that_was_timed_once_has_no_verdict(tmp_path: Path) -> None:
    words = Document(page_of(tmp_path, *commits(1, 1, 1, 1))).words()
    assert "No verdict on 00000003: a test needs two processes" in words
    assert "for the worse." not in words


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
