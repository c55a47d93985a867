"""What asks a training to save and end, and the exit code that it ends with."""

import os
import signal
import time

import pytest

from bench.console.console import (
    END_MARGIN_SECONDS,
    EXIT_CODE_BY_SIGNAL,
    StopRequest,
    handle_stop_signals,
)
from bench.environment.variables import END_TIME


def test_no_request_has_the_code_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(END_TIME, raising=False)
    assert StopRequest().exit_code == 0


@pytest.mark.parametrize(
    ("expected_seconds_left", "code"),
    [(END_MARGIN_SECONDS + 100, 0), (END_MARGIN_SECONDS - 1, 75), (-9, 75)],
)
def test_end_of_the_jobs_time_asks_to_requeue(
    expected_seconds_left: float, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(END_TIME, str(int(time.time() + expected_seconds_left)))
    assert StopRequest().exit_code == code


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 75)]
)
def test_signals_are_kept_once_a_state_can_be_saved_and_end_the_process_before(
    number: signal.Signals, code: int
) -> None:
    assert EXIT_CODE_BY_SIGNAL[number] == code
    with handle_stop_signals() as stop:
        with pytest.raises(SystemExit) as ended:
            os.kill(os.getpid(), number)
        assert ended.value.code == code
        stop.can_save = True
        os.kill(os.getpid(), number)
        assert stop.exit_code == code
