"""The remaining time: what was expected at first, and the pace of finished jobs at last."""

import re
import sys
from types import SimpleNamespace

import pytest

from bench.console import progress
from bench.console.console import log
from bench.console.progress import Progress, show_progress


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    return clock


def minutes_left(one: Progress, capsys: pytest.CaptureFixture[str]) -> float:
    one.log_start("a job")
    found = re.search(r"about +(\d+):(\d\d) left \| a job", capsys.readouterr().err)
    assert found
    return int(found[1]) + int(found[2]) / 60


@pytest.mark.parametrize("times", [0.5, 1.0, 2.0])
def test_estimate_approaches_the_pace_of_the_machine_and_neither_doubles_nor_halves_at_once(
    times: float, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of sixty jobs of ten seconds each, two run in parallel: the first ends with half of the time of both."""
    one, totals = Progress(600.0), list[float]()
    for done in range(1, 60):
        clock.now = 10 * times * (done + done % 2)
        one.finish(10.0)
        totals.append(clock.now / 60 + minutes_left(one, capsys))
    assert totals[0] == pytest.approx(10, rel=0.4)
    assert totals[-1] == pytest.approx(10 * times, rel=0.05)
    steps = [after / before for before, after in zip([10.0, *totals], totals, strict=False)]
    assert all(0.75 < step < 1.25 for step in steps)


def test_without_a_terminal_jobs_that_start_within_a_minute_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    one = Progress(600.0)
    for job in range(100):
        one.log_start(f"job {job}")
    assert capsys.readouterr().err.splitlines() == ["  0:00 elapsed, about 10:00 left | job 0"]


def test_without_a_terminal_a_job_shows_whole_lines_and_none_if_it_is_short(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(show_progress("abc", 3, "a job", "letters")) == ["a", "b", "c"]
    assert not capsys.readouterr().err
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    assert list(show_progress("abc", 3, "a job\n\u202e", "letters")) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(", about")[0] for line in lines] == [
        rf"a job\n\u202e: {done}/3 letters" for done in range(4)
    ]


def test_line_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else lines of several processes run into each other where standard error is not buffered."""
    written = list[str]()
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=written.append, flush=lambda: None))
    log("a\nb")
    assert written == ["a\\nb\n"]
