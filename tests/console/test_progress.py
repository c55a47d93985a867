"""The elapsed and the remaining time of runs, and bars of one run."""

import sys
from types import SimpleNamespace

import pytest

from bench.console import progress
from bench.console.console import log
from bench.console.progress import RunProgressLog, iterate_with_progress_bar


def test_remaining_time_is_shown_once_it_is_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(progress, "time", clock)
    shown = RunProgressLog()
    shown.log_run_start("the first run")
    clock.now = 61.0
    shown.set_remaining_seconds(120.0)
    shown.log_run_start("the second run")
    shown.log_run_start("a run that starts within a minute of it")
    clock.now = 600.0
    shown.log_run_start("a late run")
    assert capsys.readouterr().err.splitlines() == [
        "0:00:00 elapsed, estimating | the first run",
        "0:01:01 elapsed, about 0:02:00 left | the second run",
        "0:10:00 elapsed, about 0:00:00 left | a late run",
    ]


def test_without_a_terminal_a_job_shows_whole_lines_and_none_if_it_is_short(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(iterate_with_progress_bar("abc", 3, "a job", "letters")) == ["a", "b", "c"]
    assert not capsys.readouterr().err
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    assert list(iterate_with_progress_bar("abc", 3, "a job\n\u202e", "letters")) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith(r"a job\n\u202e: ") for line in lines)
    assert "3/3" in lines[-1]


def test_line_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else lines of several processes run into each other where standard error is not buffered."""
    written = list[str]()
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=written.append, flush=lambda: None))
    log("a\tb")
    assert written == ["a\\tb\n"]
