"""Charts over commits: what is joined, what is called a change, and a page that says it and trusts nothing."""

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.features.history.changes import Change, ChangeKind, find_changes, is_change, mann_whitney_p
from bench.features.history.detection import COMMITS_AFTER, detection_rates_table, few_commits_table
from bench.features.history.history_page import history_page
from bench.measure.observations import BenchmarkId, Commit, Metric, read_observations
from reports.__main__ import main
from reports.series import CommitPoint, Series, build_history
from tests.documents import commits, document, written
from tests.reports.conftest import speed_record
from tests.reports.conftest import written as write_records
from tests.reports.test_command_line import HOSTILE as CONTROLS
from tests.reports.test_command_line import SPELLED_OUT
from tests.reports.test_page import HOSTILE, Document, require_self_contained

pytest.importorskip("asv", reason="the extra `history` is not installed")
pytest.importorskip("ruptures", reason="the extra `history` is not installed")

laws = settings(derandomize=True, deadline=None, database=None, max_examples=60)
TIME = Metric("time", "s", "less", is_counter=False)
PARAMETERS = Metric("parameters", "", "same", is_counter=True)
FLOPS = Metric("FLOPs of a step", "FLOP", "less", is_counter=True)


def line(levels: Sequence[float], *, processes: int = 1, noise: float = 0.005, measure: Metric = TIME) -> Series:
    draw = random.Random(7)
    points = [
        CommitPoint(Commit(f"{at:040}"), tuple(level * math.exp(draw.gauss(0, noise)) for _ in range(processes)))
        for at, level in enumerate(levels)
    ]
    return Series(BenchmarkId("suite.py::part", "group"), measure, "here", tuple(points))


def history(folder: Path, *documents: dict[str, Any]) -> Any:
    return build_history(read_observations([written(folder, *documents)]))


def page_of(found: Any) -> str:
    return history_page(found, [change for one in found.series for change in find_changes(one)])


@pytest.mark.parametrize("factor", [1.1, 0.9])
@pytest.mark.parametrize(("count", "processes"), [(8, 3), (40, 1)])
def test_jump_is_confirmed_at_its_commit(factor: float, count: int, processes: int) -> None:
    half = count // 2
    (change,) = find_changes(line([1.0] * half + [factor] * half, processes=processes))
    assert (change.kind, change.at, change.is_worse) == ("confirmed", half, factor > 1)
    assert change.size == pytest.approx(factor, rel=0.01)
    assert (change.before.id, change.after.id) == (f"{half - 1:040}", f"{half:040}")
    assert change.sides == (half * processes, half * processes)


def test_one_slow_commit_of_eight_gives_two_confirmed_changes() -> None:
    found = find_changes(line([1, 1, 1, 1.2, 1, 1, 1, 1], processes=3))
    assert [(change.kind, change.at, change.is_worse) for change in found] == [
        ("confirmed", 3, True),
        ("confirmed", 4, False),
    ]


def test_jump_over_few_commits_is_at_most_suspected() -> None:
    found = find_changes(line([1.0] * 40 + [1.06] * 5, noise=0.02))
    assert [change.kind for change in found] in (["suspected"], ["confirmed"])


@laws
@given(st.integers(1, 40), st.floats(1e-9, 1e9))
def test_constant_series_has_no_change(count: int, level: float) -> None:
    assert find_changes(line([level] * count, noise=0.0)) == []


@laws
@given(st.floats(0.01, 100))
def test_unit_does_not_affect_detection(scale: float) -> None:
    levels = [1.0] * 12 + [1.2] * 12
    (change,) = find_changes(line([scale * level for level in levels]))
    assert (change.kind, change.at) == ("confirmed", 12)


@pytest.mark.parametrize(("measure", "values", "worse"), [(PARAMETERS, (5, 5, 4), [True]), (FLOPS, (5, 5, 4), [False])])
def test_counter_changes_are_exact(measure: Metric, values: tuple[float, ...], worse: list[bool]) -> None:
    found = find_changes(line(values, noise=0.0, measure=measure))
    assert [(change.kind, change.at, change.is_worse) for change in found] == [("counted", 2, one) for one in worse]


def test_autocorrelated_neighbours_count_for_fewer() -> None:
    before, after = [1.0 + at / 100 for at in range(10)], [1.08 + at / 100 for at in range(10)]
    independent = mann_whitney_p(before, after)
    assert independent < mann_whitney_p(before, after, 0.5) < mann_whitney_p(before, after, 0.9) < 1


def in_turns(levels: Sequence[float], *, luck: float, known: bool) -> Series:
    """Eight commits in four turns, each of which is as lucky for all."""
    draw = random.Random(5)
    lucks = [math.exp(draw.gauss(0, luck)) for _ in range(4)]
    points = [
        CommitPoint(
            Commit(f"{at:040}"),
            tuple(level * of * math.exp(draw.gauss(0, 0.01)) for of in lucks),
            tuple("abcd") if known else (),
        )
        for at, level in enumerate(levels)
    ]
    return Series(BenchmarkId("suite.py::part", "group"), TIME, "here", tuple(points))


def test_shared_slot_effects_neither_hide_nor_create_changes() -> None:
    slower = [1.0] * 4 + [1.08] * 4
    assert [(one.at, one.is_worse) for one in find_changes(in_turns(slower, luck=0.2, known=True))] == [(4, True)]
    assert find_changes(in_turns(slower, luck=0.2, known=False)) == []
    assert find_changes(in_turns([1.0] * 8, luck=0.2, known=True)) == []
    few = in_turns([1.0, 1.0], luck=0.2, known=True)
    assert few.processes()[0] == [run for point in few.points for run in point.runs]  # two commits tell of no turn


def test_over_eight_commits_a_25_percent_change_is_found() -> None:
    for row in few_commits_table(30).rows:
        assert row["25% found"] >= 0.8
        assert row["confirmed falsely"] + row["suspected falsely"] <= 0.1


def test_detection_rates_match_the_readme() -> None:
    table, _ = detection_rates_table(40)
    first = table.rows[0]
    assert first["confirmed falsely"] <= 0.05
    assert first[f"found after {COMMITS_AFTER[-1]}"] >= 0.7
    assert [row["noise"] for row in table.rows] == ["2 % iid", "2 % AR(1) 0.5", "2 % iid, 5 % outliers"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    slow = commits(1, 1, 1, 1, 1.2, 1.2, 1.2, 1.2, processes=3)
    slow[-1]["benchmarks"][0]["extra_info"]["parameters"] = 1001
    slow[-2]["benchmarks"][0]["extra_info"]["parameters"] = 1001
    slow[-3]["benchmarks"][0]["extra_info"]["parameters"] = 1001
    return page_of(history(tmp_path_factory.mktemp("history"), *slow))


def test_the_page_names_what_changed_and_where(text: str) -> None:
    page = Document(text)
    row = next(row for row in page.tables["Changes"] if row[0].endswith("|time"))
    assert row[1:3] == ["▼ confirmed, worse", row[2]]
    assert row[5] == "00000003 … 00000004"
    assert row[7] == "12 + 12"
    counted = next(row for row in page.tables["Changes"] if row[0].endswith("|parameters"))
    assert counted[3:6] == ["1,000", "1,001", "00000006 … 00000007"]
    assert "2 changes for the worse" in page.words()


def test_chart_has_a_description_and_a_table(text: str) -> None:
    page = Document(text)
    labels = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert any("test_a, time over 8 commits" in label and "confirmed 1.20 times" in label for label in labels)
    assert len(page.tables["test_a"]) == 1 + 1 + 8  # a heading, the machine, the commits


def test_page_loads_nothing_and_its_anchors_resolve(text: str) -> None:
    require_self_contained(text)
    assert text.count("<script") == 1


def test_document_strings_are_escaped(tmp_path: Path) -> None:
    documents = commits(1, 1, 1, 3, 3, 3, processes=2)
    for one in documents:
        one["machine_info"]["fingerprint"] = one["datetime"] = one["commit_info"]["time"] = HOSTILE
        one["commit_info"]["id"] = HOSTILE + one["commit_info"]["id"]
        for benchmark in one["benchmarks"]:
            benchmark |= {"name": HOSTILE, "fullname": HOSTILE, "group": HOSTILE}
    text = page_of(history(tmp_path, *documents))
    Document(text)
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def test_command_line_draws_the_page_and_prints_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "in", *commits(1, 1, 1, 1, 1.3, 1.3, 1.3, 1.3, processes=2))
    assert run("history", folder, "--out", tmp_path / "charts.html") == 0
    text = capsys.readouterr().out
    assert "confirmed, worse: bench/suites/test_losses.py::test_a, time: " in text
    assert "after 00000003, by 00000004" in text
    assert (tmp_path / "charts.html").read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("documents", [[], [document({})]])
def test_empty_measurement_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], documents: list[dict[str, Any]]
) -> None:
    folder = written(tmp_path / "in", *documents)
    for verb in (["history", folder], ["compare", folder, folder], ["history", tmp_path / "none"]):
        assert run(*verb) == 2
        text = capsys.readouterr().err
        assert "measured nothing" in text or "there is no" in text
        assert text.count("\n") == 1


def test_compare_fails_only_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = written(tmp_path / "old", *commits(1, 1, 1, 1, 1, 1, 1, 1))
    new = written(tmp_path / "new", *commits(1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1))
    assert run("compare", old, new) == 0
    assert run("compare", old, new, "--fail", "slower") == 1
    assert "regressed: bench/suites/test_losses.py::test_a is slower" in capsys.readouterr().out
    assert run("compare", new, old, "--fail", "slower") == 0
    assert run("compare", old, old, "--fail", "slower") == 0
    there = written(tmp_path / "there", *commits(1, machine="there"))
    assert run("compare", old, there) == 2
    assert "figures of several machines are not comparable, name files of one: here / there" in capsys.readouterr().err


def test_simulated_detection_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("history", "--simulate", "--lines", "10") in (0, 1)
    assert "Detection of changes over commits" in capsys.readouterr().out


def test_change_has_the_level_before_it() -> None:
    change = Change(line([0, 1], noise=0.0, measure=PARAMETERS), "counted", 1, 0.0, 1.0, None, (1, 1))
    assert change.size is None
    assert "times" not in change.text


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return write_records([speed_record(name, 0) for name in ("clip-tiny", "catlip-tiny")], tmp_path / "records")


@pytest.mark.parametrize("verb", ["history", "compare"])
def test_damaged_files_of_a_folder_are_named_and_the_others_used(
    verb: str, records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = records / "2026-11-25-tiny.memory.clip-tiny.json"
    broken.write_text("{")
    assert run(verb, *[records] * (2 if verb == "compare" else 1)) == 3
    assert f"{broken}: not a record" in capsys.readouterr().err
    if verb == "history":
        shown = Document((records / "charts.html").read_text(encoding="utf-8"))
        assert f"{broken}: not a record" in shown.words()
    assert run("compare", broken, records) == 2  # a file that is named is not left out


def test_names_in_foreign_documents_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = (
        written(
            tmp_path / str(count), document({CONTROLS: 1.0, f"{CONTROLS}{count}": 1.0}, extra={"parameters": count})
        )
        for count in (1, 2)
    )
    assert run("compare", old, new, "--fail", "slower") == 1
    out = capsys.readouterr().out
    assert f"{SPELLED_OUT}: parameters went from 1 to 2" in out
    assert f"{SPELLED_OUT}1 (only before)" in out
    assert out.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("kind", "new", "processes", "p", "expected"),
    [
        ("confirmed", 1.021, (2, 2), 1.0, True),
        ("confirmed", 1.019, (9, 9), 0.0, False),
        ("confirmed", 2.0, (1, 9), 0.0, False),
        ("suspected", 1.031, (3, 3), 0.0009, True),
        ("suspected", 1.031, (3, 3), 0.001, False),
        ("suspected", 1.029, (3, 3), 0.0, False),
        ("suspected", 2.0, (2, 9), 0.0, False),
    ],
)
def test_a_change_needs_processes_size_and_p(
    kind: ChangeKind, new: float, processes: tuple[int, int], p: float, expected: bool
) -> None:
    assert is_change(kind, 1.0, new, processes, p) is expected
    assert is_change(kind, new, 1.0, processes, p) is expected
