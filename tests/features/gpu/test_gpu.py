"""The verb `gpu`, with steps of a second: the end of each is recorded, and only the first can stop the others."""

import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import psutil
import pytest

from bench.__main__ import main
from bench.cli.compare import Measure
from bench.cli.main import parse
from bench.cli.options import experiment_from
from bench.environment.child_processes import kill_at_end
from bench.environment.circumstances import current_commit
from bench.experiment.config import require_comparable_experiments
from bench.experiment.settings import FEWEST_STEPS
from bench.features.gpu.steps import (
    STEPS,
    STEPS_FILE,
    Step,
    StepResult,
    StepResults,
    batch_size_to_resume,
    fastest_batch_size,
    is_resumable,
)
from bench.features.gpu.verb import DEADLINE_FACTOR, SPARE_MINUTES, known_steps
from bench.orchestration.pace import TWO_CORES
from bench.records.record import Record, read_record, record_files, record_path, write_record
from tests.processes import LONGEST_SECONDS, wait_until
from tests.small import circumstances, small
from tests.speeds import speed

ROOT = Path(__file__).parents[3]
FIRST, LAST = Step("preflight", "-c 'print(1)'", 0.1), Step("last", "-c 'print(2)'", 0.1)
COUNTS = Step("counts", """-c 'import sys; open(sys.argv[1], "a").write("x")' {results}/count""", 0.1)
FAILS = Step("fails", """-c 'import sys; print("a line"); sys.exit("the reason")'""", 0.1)
FAILS_ONCE = Step("fails-once", """-c 'import pathlib, sys; pathlib.Path(sys.argv[1]).rmdir()' {results}/mended""", 0.1)
HANGING = """
import os, pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
pathlib.Path(sys.argv[1]).write_text("%d %d end" % (os.getpid(), child.pid))
child.wait()
"""
HANGS = Step("hangs", f"-c '{HANGING}' {{results}}/processes", 0.02)
COPYING = """
import pathlib, shutil, sys
pathlib.Path(sys.argv[1]).mkdir()
for path in pathlib.Path("tests/records").glob("*.speed.*.json"):
    shutil.copy(path, sys.argv[1])
"""
MEASURES = Step("measures", f"-c '{COPYING}' {{folder}}", 1)
# A command line whose steps have no deadline that a busy machine misses.
PATIENT = (
    "import sys; from bench.__main__ import main; from bench.features.gpu import verb; verb.DEADLINE_FACTOR = 60; "
    "sys.exit(main(sys.argv[1:]))"
)
# A command line of its own that has these steps.
PROGRAM = (
    "import sys; from bench.__main__ import main; from bench.features.gpu.steps import STEPS, Step; "
    f"STEPS['cpu'] = {(FIRST, MEASURES, replace(HANGS, minutes=4), LAST)!r}; sys.exit(main(sys.argv[1:]))"
)


def run(monkeypatch: pytest.MonkeyPatch, results: Path, steps: tuple[Step, ...], *options: str) -> int:
    monkeypatch.setitem(STEPS, "cpu", steps)
    return main(["gpu", "--device", "cpu", "--results", str(results), *options])


def found(results: Path) -> dict[str, StepResult]:
    return {one.step: one for one in msgspec.json.decode((results / STEPS_FILE).read_bytes(), type=StepResults).steps}


def statuses(results: Path) -> dict[str, str]:
    return {name: one.status for name, one in found(results).items()}


def has_ended(results: Path, whose: int) -> bool:
    """Whether the command of the step that hangs (0), or its child (1), has ended."""
    number = int((results / "processes").read_text().split()[whose])
    return not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE


def test_step_that_fails_is_recorded_with_its_last_lines_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path, (FIRST, FAILS, LAST)) == 3
    assert statuses(tmp_path) == {"preflight": "ok", "fails": "failed", "last": "ok"}
    failed = found(tmp_path)["fails"]
    assert failed.last_lines == ("a line", "the reason")
    assert shlex.split(failed.command) == ["python", *shlex.split(FAILS.command)]
    assert (tmp_path / "fails.log").read_text() == "a line\nthe reason\n"
    out, err = capsys.readouterr()
    assert f"preflight, about 0.1 min: python -c {shlex.quote('print(1)')}" in err
    assert "  the reason" in err
    assert "the reason" in out


def test_step_that_hangs_is_ended_with_its_children_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run(monkeypatch, tmp_path, (FIRST, HANGS, LAST)) == 3
    assert statuses(tmp_path) == {"preflight": "ok", "hangs": "timeout", "last": "ok"}
    wait_until(lambda: has_ended(tmp_path, 0) and has_ended(tmp_path, 1))


def test_step_that_does_not_fit_is_skipped_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path, (FIRST, Step("long", "-c 1", 61), LAST)) == 0
    assert statuses(tmp_path) == {"preflight": "ok", "long": "skipped", "last": "ok"}
    assert re.search(r"long is skipped: it needs 61 minutes, and (60|59)\.\d are left", capsys.readouterr().err)


def test_failed_first_step_stops_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run(monkeypatch, tmp_path, (FAILS, COUNTS)) == 3
    assert statuses(tmp_path) == {"fails": "failed", "counts": "skipped"}
    assert found(tmp_path)["counts"].last_lines == ("fails did not end well",)
    assert not (tmp_path / "count").exists()


def test_resume_runs_the_steps_that_are_not_ok_and_only_runs_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = (FIRST, COUNTS, FAILS_ONCE)
    assert run(monkeypatch, tmp_path, steps) == 3
    assert run(monkeypatch, tmp_path, steps) == 2
    assert f"{tmp_path / STEPS_FILE} exists: continue with --resume" in capsys.readouterr().err
    (tmp_path / "mended").mkdir()
    kept = found(tmp_path)["counts"]
    assert run(monkeypatch, tmp_path, steps, "--resume") == 0
    assert found(tmp_path)["counts"] == kept
    assert (tmp_path / "count").read_text() == "x"
    assert run(monkeypatch, tmp_path, steps, "--only", "counts") == 0
    assert (tmp_path / "count").read_text() == "xx"
    assert statuses(tmp_path) == dict.fromkeys(("preflight", "counts", "fails-once"), "ok")
    assert run(monkeypatch, tmp_path, steps, "--only", "count") == 2
    assert "did you mean 'counts'" in capsys.readouterr().err
    assert main(["gpu", "--results", str(tmp_path), "--resume"]) == 2
    assert "is of --device cpu, not cuda" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code", "ended"), [(signal.SIGKILL, -9, (0,)), (signal.SIGTERM, 143, (0, 1))])
def test_killed_command_keeps_results_and_pages_and_ends_its_step(
    number: int, code: int, ended: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A process that is killed cannot end the children of its step; a step of ours ends them itself."""
    words = ["gpu", "--device", "cpu", "--results", str(tmp_path)]
    running = subprocess.Popen([sys.executable, "-c", PROGRAM, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    written = tmp_path / "processes"
    wait_until(lambda: written.exists() and written.read_text().endswith("end"), running)
    running.send_signal(number)
    _, text = running.communicate(timeout=LONGEST_SECONDS)
    assert running.returncode == code, text
    assert statuses(tmp_path) == {"preflight": "ok", "measures": "ok"}
    assert "clip-tiny" in (tmp_path / "measures.html").read_text()
    wait_until(lambda: all(has_ended(tmp_path, whose) for whose in ended))
    assert run(monkeypatch, tmp_path, (FIRST, MEASURES, LAST), "--resume") == 0
    assert statuses(tmp_path) == {"preflight": "ok", "measures": "ok", "last": "ok"}


def write_speeds(folder: Path, method: str, batch_size: int, seconds: float) -> None:
    experiment = small(method, batch_size=batch_size, images=10_000)
    measured = speed(window_seconds=(seconds, seconds))
    record = Record(comparison="c", experiment=experiment, circumstances=circumstances(), measured=measured)
    write_record(record, record_path(folder, "c", "speed", method, batch_size))


def test_begun_batch_and_resumption_are_those_of_the_newest_comparison(tmp_path: Path) -> None:
    assert batch_size_to_resume(tmp_path / "absent") is None
    for comparison, commit, size in (("1", current_commit(), 16), ("2", "another", 32), ("3", current_commit(), 64)):
        where = circumstances(commit=commit)
        record = Record(
            comparison=comparison, experiment=small("clip", batch_size=size), circumstances=where, measured=speed()
        )
        write_record(record, record_path(tmp_path, comparison, "speed", "clip", size))
        is_ours = commit == current_commit()
        assert is_resumable(tmp_path) == is_ours
        assert batch_size_to_resume(tmp_path) == (size if is_ours else None)


def test_fastest_batch_is_that_of_the_pair(tmp_path: Path) -> None:
    assert fastest_batch_size([tmp_path, tmp_path / "absent"]) is None
    for method, of_16, of_32 in (("clip", 1.0, 1.8), ("catlip", 1.0, 1.9)):
        write_speeds(tmp_path, method, 16, of_16)
        write_speeds(tmp_path, method, 32, of_32)
    write_speeds(tmp_path, "clip", 64, 0.1)  # catlip ran out of memory
    assert fastest_batch_size([tmp_path]) == 32


def test_step_without_a_batch_is_skipped_and_with_one_gets_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = "-c 'import sys; print(*sys.argv)' batch_size={batch} {resume}"
    best = Step("best", command, 0.1, batch_size_folders=("pair",))
    assert run(monkeypatch, tmp_path, (FIRST, best)) == 0
    assert found(tmp_path)["best"].last_lines == ("no pair was timed by pair",)
    for method in ("clip", "catlip"):
        write_speeds(tmp_path / "pair", method, 32, 1.0)
    assert run(monkeypatch, tmp_path, (FIRST, best), "--resume") == 0
    assert found(tmp_path)["best"].last_lines == ("-c batch_size=32",)


@pytest.mark.parametrize("device", STEPS)
def test_every_command_line_of_the_tables_is_accepted(device: str) -> None:
    values = {"results": "results", "folder": "folder", "resume": "--resume", "limit": "--max-minutes=8"}
    values |= {"gpus": 2, "batch": 64}
    for step in known_steps(device):
        words = [word.format(**values) for word in shlex.split(step.command)]
        modules = [after for word, after in pairwise(words) if word == "-m"]
        assert importlib.util.find_spec(modules[0]), step.name
        if "bench" in modules:
            command = parse(words[words.index("bench") + 1 :])
            if isinstance(command, Measure):
                require_comparable_experiments(experiment_from(name, command.settings) for name in command.names)
    names = [step.name for step in STEPS[device]]
    assert len({*names}) == len(names)
    assert {name for step in STEPS[device] for name in step.batch_size_folders} <= {*names}


def test_steps_of_both_devices_are_of_the_same_kinds_in_the_same_order() -> None:
    cuda, cpu = ([*STEPS[device]] for device in ("cuda", "cpu"))
    names = [step.name.replace("b16", "tiny").replace("l14", "larger") for step in cuda]
    sizes = {"tiny-512": "tiny-32", "tiny-1024": "tiny-64", "larger-256": "larger-64"}
    assert [sizes.get(name, name) for name in names] == [step.name for step in cpu]
    for one, other in zip(cuda, cpu, strict=True):
        assert [one.minutes, one.min_gpus, one.accepted] == [other.minutes, other.min_gpus, other.accepted]
        assert one.can_be_continued == other.can_be_continued


def test_ladder_of_the_hour_leaves_fp32_out() -> None:
    (ladder,) = (step for step in STEPS["cuda"] if step.name == "b16-ladder")
    assert "precision" not in shlex.split(ladder.command)


def test_steps_at_larger_batches_time_about_as_many_images() -> None:
    for name, size in (("b16-512", 512), ("b16-1024", 1024), ("l14-256", 256)):
        (step,) = (step for step in STEPS["cuda"] if step.name == name)
        words = [word.format(folder="f", resume="", limit="--max-minutes=8") for word in shlex.split(step.command)]
        verb = parse([word for word in words[words.index("bench") + 1 :] if word])
        assert isinstance(verb, Measure)
        for one in verb.names:
            larger, own = experiment_from(one, verb.settings), experiment_from(one, ())
            assert larger.training.batch_size == size
            assert larger.images_per_window <= max(own.images_per_window, FEWEST_STEPS * size)


def test_step_with_runs_left_is_unfinished_and_resume_finishes_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import os, sys; print(sys.argv[2]); os.path.exists(sys.argv[1]) or (os.mkdir(sys.argv[1]), sys.exit(75))"
    pieces = Step("pieces", f"-c '{code}' {{results}}/begun {{limit}}", 3)
    assert run(monkeypatch, tmp_path, (FIRST, pieces, LAST), "--minutes", "8") == 75
    assert statuses(tmp_path) == {"preflight": "ok", "pieces": "unfinished", "last": "ok"}
    (line,) = found(tmp_path)["pieces"].last_lines
    assert 7.3 < float(line.removeprefix("--max-minutes=")) < 8 - (SPARE_MINUTES + TWO_CORES.page_seconds / 60)
    assert "Run the steps that are not ok with the same command and --resume" in capsys.readouterr().out
    assert run(monkeypatch, tmp_path, (FIRST, pieces, LAST), "--minutes", "8", "--resume") == 0
    assert statuses(tmp_path)["pieces"] == "ok"


def test_drawing_of_a_page_ends_within_the_minutes_of_its_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now, limits = [0.0], list[float]()

    def spend(words: list[str], _output: Path, seconds: float, _settings: object) -> int:
        if "reports" not in words and "copied" in words:
            write_speeds(tmp_path / "measures", "clip", 16, 1.0)
        limits.append(seconds)
        now[0] += 100.0
        return 0

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("bench.features.gpu.verb.run_command", spend)
    assert run(monkeypatch, tmp_path, (FIRST, Step("measures", "-c 1 copied", 1))) == 0
    assert limits[1:] == [DEADLINE_FACTOR * 60, DEADLINE_FACTOR * 60 - 100]


@pytest.mark.minutes
def test_cheap_steps_run_in_a_copy_without_git_and_without_nox(tmp_path: Path) -> None:
    copy, blocked = tmp_path / "copy", tmp_path / "blocked"
    for folder in ("bench", "losses", "models", "reports"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    blocked.mkdir()
    (blocked / "nox.py").write_text("raise ImportError('no nox here')\n")
    words = [word for name in ("preflight", "tiny", "shards", "tiny-shards") for word in ("--only", name)]
    command = [sys.executable, "-c", PATIENT, "gpu", "--device", "cpu", "--results", str(tmp_path / "r"), *words]
    paths = {"PYTHONPATH": os.pathsep.join(map(str, (copy, blocked)))}
    done = subprocess.run(command, cwd=copy, env=os.environ | paths, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {*statuses(tmp_path / "r").values()} == {"ok"}
    for name in ("tiny", "tiny-shards"):
        commits = {read_record(path).circumstances.commit for path in record_files(tmp_path / "r" / name)}
        assert len(commits) == 1
        assert commits.pop().startswith("sources-")


@pytest.mark.minutes
def test_real_pair_has_its_page_when_what_follows_is_killed_and_resume_completes_it(tmp_path: Path) -> None:
    chosen = [word for name in ("preflight", "tiny", "tiny-best") for word in ("--only", name)]
    command = [sys.executable, "-c", PATIENT, "gpu", "--device", "cpu", "--results", str(tmp_path), *chosen]
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    with kill_at_end(running):
        wait_until((tmp_path / "tiny-best.log").exists, running)
        running.kill()
    assert statuses(tmp_path) == {"preflight": "ok", "tiny": "ok"}
    assert "catlip-tiny" in (tmp_path / "tiny.html").read_text()
    done = subprocess.run([*command, "--resume"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {*statuses(tmp_path).values()} == {"ok"}
    assert (tmp_path / "tiny-best.html").exists()
