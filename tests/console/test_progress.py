"""The remaining time: what was expected at first, and the pace of finished jobs at last."""

import re

import pytest

from bench.console import progress
from bench.console.progress import Progress


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
