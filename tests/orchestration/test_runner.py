"""What a person meets on the command line when something is wrong, and what is kept."""

import os
import shlex
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from bench.__main__ import main
from bench.orchestration.comparison import Comparison
from bench.orchestration.runner import Runner
from bench.orchestration.runs import FunctionRun, call_function, decode_run_from_json
from bench.records.record import Failure, Memory, Speed, StepFlops, read_record, read_records
from tests.processes import LONGEST_SECONDS, Parting, have_ended, run_of, wait_until
from tests.small import few_images

ROOT = Path(__file__).parents[2]


def make_run(results: Path, kind: str = "speed", **changes: object) -> FunctionRun:
    """Return a run of a small experiment."""
    comparison = Comparison(
        "c", results, [few_images("catlip", **changes)], cores=1, on_gpu=False, runner=Runner()
    )
    if kind == "speed":
        return comparison.make_speed_runs(0, 1)[0]
    function = "bench.measure.memory:measure_memory"
    return comparison.new_run(function, kind, comparison.experiments[0], "memory of catlip")


def execute(*runs: FunctionRun, max_parallel: int = 1, kind: type[Runner] = Runner) -> Runner:
    runner = kind()
    runner.run(runs, max_parallel=max_parallel, threads=1)
    return runner


def test_a_run_leaves_its_record_and_is_not_run_again(
    results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = make_run(results)
    assert not execute(run, kind=Parting).failures
    record = read_record(run.first_file)
    assert isinstance(record.measured, Speed)
    assert record.experiment == run.experiment
    assert len(record.measured.window_seconds) >= 2
    written = run.first_file.stat().st_mtime_ns
    capfd.readouterr()
    execute(run)
    assert run.first_file.stat().st_mtime_ns == written
    assert not capfd.readouterr().err


def test_failed_run_is_recorded_and_the_others_continue(results: Path) -> None:
    bad = make_run(results, tower="no-such-tower", seed=7)
    good = make_run(results, "memory")
    runner = execute(bad, good, max_parallel=2, kind=Parting)
    assert len(runner.failures) == 1
    contents = [record.measured for record in read_records(results, "c")]
    failure = next(content for content in contents if isinstance(content, Failure))
    assert "no tower named 'no-such-tower'" in failure.reason
    memory = read_record(good.first_file).measured
    assert isinstance(memory, Memory)
    assert memory.peak_rss_bytes is None or memory.peak_rss_bytes > 0


def test_function_gets_its_arguments_by_its_annotations() -> None:
    """They come as JSON; what the run knows is passed where the signature names it."""
    run = FunctionRun(
        function=f"{__name__}:check_arguments",
        label="x",
        results="/r",
        comparison="c",
        files=("/r/x.json",),
        arguments={"flops": FLOPS, "names": ("a", "b")},
    )
    decoded = decode_run_from_json(run.encode_as_json())
    known = {"results": Path(decoded.results), "device": None}
    failure = call_function(decoded.function, known, decoded.arguments)
    assert failure == Failure(what="x", reason="called")


FLOPS = StepFlops(image_forward=1, text_forward=2, forward=3, step=9)


def check_arguments(results: Path, flops: StepFlops, names: tuple[str, ...]) -> Failure:
    assert (results, flops, names) == (Path("/r"), FLOPS, ("a", "b"))
    return Failure(what="x", reason="called")


@pytest.mark.usefixtures("forked_runs")
def test_comparison_resumes_where_it_stopped(
    own_results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = (
        "--set untimed_steps=1 --set timed_windows=2 --set steps_per_window=1 --set batch_size=16"
    )
    options = f"{short} --set subset=random:96 --rounds 1 --results {own_results}"
    arguments = shlex.split(f"measure catlip-tiny superclass-tiny {options}")
    assert main([*arguments, "--resume"]) == 2
    assert "no 'measure' comparison to resume" in capsys.readouterr().err
    assert main(arguments) == 0
    records = {path: path.read_bytes() for path in own_results.glob("*.*.json")}
    lost = next(path for path in records if ".speed." in path.name)
    lost.unlink()
    assert main([*arguments, "--resume"]) == 0
    assert "decoding" not in capsys.readouterr().err
    assert {*own_results.glob("*.*.json")} == records.keys()
    assert all(path.read_bytes() == content for path, content in records.items() if path != lost)
    assert lost.read_bytes() != records[lost]
    assert main(shlex.split(f"measure clip-tiny {options} --resume")) == 2
    assert "is of other experiments, catlip-tiny[" in capsys.readouterr().err


def replace_python(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs start a script in place of Python."""
    path = folder / "script"
    path.write_text(script)
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


HANGS = """#!{python}
import signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
open({file!r}, "w").close()
time.sleep({seconds})
"""


def test_child_that_does_not_end_in_time_after_a_signal_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = tmp_path / "begun"
    script = HANGS.format(python=sys.executable, file=str(begun), seconds=LONGEST_SECONDS)
    replace_python(tmp_path, script, monkeypatch)
    monkeypatch.setattr("bench.orchestration.runner.END_MARGIN_SECONDS", 0.5)
    runner = Runner()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(runner.run, [make_run(tmp_path)], threads=1)
        wait_until(begun.exists)
        runner.stop()
    running.result()
    assert "is killed: it has not ended 0.5 s after it was asked to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("kill -KILL $$", "killed by signal 9"),
        (f"sleep {LONGEST_SECONDS} & echo $! > $PIDS; exit 1", "ended with exit code 1"),
    ],
)
def test_child_that_says_nothing_is_reported_with_how_it_ended(
    end: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it leaves behind does not hold the command line."""
    monkeypatch.setenv("PIDS", str(tmp_path / "pid"))
    replace_python(tmp_path, f"#!/bin/sh\ncat > {tmp_path}/request\n{end}\n", monkeypatch)
    label = f"speed of {few_images('catlip').name}, round 1 of 1"
    assert execute(make_run(tmp_path)).failures == [f"{label}: {reason}"]
    if (tmp_path / "pid").exists():
        psutil.Process(int((tmp_path / "pid").read_text())).kill()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("mesure", "did you mean 'measure'"),
        ("measure clip-tiny catlip-vit-b32", "cannot be compared, they differ in tower: catlip-"),
        ("transfer clip-tiny --results /nowhere", "make one with: python -m bench train clip-tiny"),
        (
            "transfer clip-tiny --task imagenet",
            "--score-on is missing: name the folder that holds",
        ),
        ("--smoke --full", "exclude each other"),
        ("--results /dev/null/results", "the results folder /dev/null/results cannot be written"),
    ],
)
def test_wrong_command_is_answered_with_what_is_missing_or_the_nearest_name(
    arguments: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shlex.split(arguments)) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sent", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_interrupt_keeps_finished_runs_and_prints_the_resume_hint(
    sent: signal.Signals, code: int, own_results: Path
) -> None:
    """SIGINT comes once the first record is there, SIGTERM while the first run starts; no child is left behind."""
    words = f"measure catlip-tiny --rounds 1 --set batch_size=16 --set subset=random:96 --results {own_results}"
    command = [sys.executable, "-m", "bench", *shlex.split(words)]
    finished = int(sent is signal.SIGINT)
    child = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_until(
        lambda: (
            len(list(own_results.glob("*.memory.*.json"))) == finished and run_of(child.pid, "")
        ),
        child,
    )
    workers = psutil.Process(child.pid).children(recursive=True)
    # A terminal's Ctrl-C reaches the whole group.
    (os.killpg if finished else os.kill)(child.pid, sent)
    _, text = child.communicate(timeout=LONGEST_SECONDS)
    assert child.returncode == code, text
    assert "--resume" in text
    assert "Traceback" not in text, text
    assert [type(record.measured) for record in read_records(own_results)] == [Memory] * finished
    assert have_ended(workers)
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)
