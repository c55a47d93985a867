"""No run is started that would end after --max-minutes; the same command with --resume completes the rest."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from bench.__main__ import main
from bench.cli.verbs import VERBS
from bench.console.console import INCONCLUSIVE, OK, REQUEUE
from bench.environment.circumstances import current_commit
from bench.orchestration import preflight
from bench.orchestration.request_base import Request
from bench.orchestration.requests import MemoryRequest
from bench.orchestration.runner import Job, Runner
from bench.records.record import KINDS, Memory, Record, write_record
from tests.small import circumstances
from tests.speeds import speed

MEASURE = ["measure", "clip-tiny", "catlip-tiny", "--rounds", "3"]
EXPLAIN = ["explain", "catlip-tiny", "--baseline", "clip-tiny", "--factors", "batch"]
REFERENCE = ["reference", "open-clip", "--name", "clip-tiny", "--rounds", "2"]
MOST_COMMANDS = 50
PHASES = {"data": (0.1,), "image forward": (0.5,), "backward": (1.0,)}


class Clock:
    """A clock that runs advance; each takes its expected seconds times a factor."""

    def __init__(self, factor: float) -> None:
        self.now, self.factor = 1e6, factor
        self.expected = dict[Path, float]()  # seconds of each run, by its file
        self.runs = list[tuple[Path, float, float]]()  # file, expected and real end
        self._lock = threading.Lock()  # interleaved runs have threads of their own

    def __call__(self) -> float:
        return self.now

    def run(self, file: Path) -> None:
        with self._lock:
            expected_end = self.now + self.expected[file]
            self.now += self.factor * self.expected[file]
            self.runs.append((file, expected_end, self.now))


class Simulated(Runner):
    """Writes the records of runs without running them."""

    clock: Clock

    def _run(self, job: Job, *arguments: Any) -> None:
        self.clock.expected[job.request.paths[0]] = job.expected_seconds
        super()._run(job, *arguments)

    def _start(self, request: Request, *_: Any, **__: Any) -> str:
        self.clock.run(request.paths[0])
        measured: Any = speed(round=getattr(request, "round", 0), window_seconds=(2.0, 2.1), phase_seconds=PHASES)
        if isinstance(request, MemoryRequest):
            peaks = dict.fromkeys(("peak_rss_bytes", "peak_allocated_bytes", "peak_reserved_bytes"), 1)
            measured = Memory(steps=1, trained_parameters=1, peak_tensor_bytes=1, **peaks)
        elif request.kind == "ladder":
            measured = getattr(request, "ladder")  # noqa: B009
        elif request.kind == "reference":
            of_run: Any = request
            times = {"round": of_run.round, "window_seconds": (1.0,), "losses": (1.0,) * 40}
            measured = KINDS["reference"](side=of_run.side, tokens_per_caption=None, **times)
        where, of = circumstances(commit=current_commit()), {"comparison": request.comparison}
        record = Record(experiment=request.experiment, circumstances=where, measured=measured, **of)
        write_record(record, request.paths[0])
        return ""


Simulate = Callable[..., tuple[Clock, list[int]]]


@pytest.fixture
def simulate(own_results: Path, monkeypatch: pytest.MonkeyPatch) -> Simulate:
    """Repeat a command line with --resume until it is done; return the clock, and the exit codes."""

    def run(arguments: list[str], minutes: float, factor: float, *, on_gpu: bool) -> tuple[Clock, list[int]]:
        clock, codes = Clock(factor), list[int]()
        monkeypatch.setattr(Simulated, "clock", clock, raising=False)
        monkeypatch.setattr(preflight, "Runner", Simulated)
        monkeypatch.setattr(preflight, "count_gpus", lambda: int(on_gpu))
        monkeypatch.setattr(preflight, "first_gpu_handle", lambda: None)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda _: "NVIDIA H100 80GB HBM3")
        monkeypatch.setattr(time, "monotonic", clock)
        command = [*arguments, "--max-minutes", str(minutes), "--results", str(own_results / str(minutes))]
        while len(codes) < MOST_COMMANDS and (not codes or codes[-1] == REQUEUE):
            start, before = clock.now, len(clock.runs)
            codes.append(main(command if not codes else [*command, "--resume"]))
            assert len(clock.runs) > before
            for _, expected_end, end in clock.runs[before:]:
                assert min(expected_end, end) <= start + 60 * minutes
        return clock, codes

    return run


def names(clock: Clock) -> list[str]:
    """Return the runs without the time at which their comparison began."""
    return sorted(file.name.partition("-")[2] for file, *_ in clock.runs)


_CUT = [(MEASURE, 1.5), ([*EXPLAIN, "--rounds", "2"], 4), (REFERENCE, 2.5)]
CUT = [(words, minutes) for words, minutes in _CUT if words[0] in VERBS]  # commands and their minutes


@pytest.mark.parametrize(("on_gpu", "factor"), [(False, 1.6), (True, 0.5)])
@pytest.mark.parametrize(("arguments", "minutes"), CUT)
def test_commands_that_are_cut_end_in_time_and_complete_what_one_command_would(
    arguments: list[str],
    minutes: float,
    on_gpu: bool,
    factor: float,
    simulate: Simulate,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock, (*cut, last) = simulate(arguments, minutes, factor, on_gpu=on_gpu)
    printed = capsys.readouterr().err.splitlines()
    assert {*cut} <= {REQUEUE}
    assert last in (OK, INCONCLUSIVE)
    if cut:
        (line, *_) = [line for line in printed if "would end too late" in line]
        assert f"continue with: python -m bench {arguments[0]} " in line
        assert line.endswith("--resume")
    whole, codes = simulate(arguments, 1000, factor, on_gpu=on_gpu)
    assert codes == [last]
    assert names(clock) == names(whole)


def test_limit_in_which_no_run_ends_starts_none(own_results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*MEASURE, "--max-minutes", "0.01", "--results", str(own_results)]) == REQUEUE
    assert "continue with: " in capsys.readouterr().err.splitlines()[-1]
    assert not [*own_results.glob("*.json")]
