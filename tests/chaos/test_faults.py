"""What happens when something breaks: a row or a clear error, the other rows stand, the exit code says so.

It breaks for real: a loss becomes infinite, memory runs out, a disk is full, a process is killed.
"""

import errno
import fcntl
import json
import os
import re
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bench.__main__ import main
from bench.cli.doctor import TRIED
from bench.experiment.config import change
from bench.experiment.experiments import EXPERIMENTS
from bench.measure.memory import is_out_of_memory
from bench.profilers.memory import read_status_bytes
from bench.records.record import BatchTrial, Failure, Speed, read_records
from tests.chaos.commands import child_runs
from tests.processes import answered, have_ended, in_child, wait_until

ROOT = Path(__file__).parents[2]
SHORT = [
    "--set",
    "warmup_steps=1",
    "--set",
    "windows=2",
    "--set",
    "steps_per_window=1",
    "--set",
    "batch_size=16",
]
ONE_ROUND = ["--rounds", "1", *SHORT]


def failures(results: Path) -> list[str]:
    return [
        record.measured.reason
        for record in read_records(results)
        if isinstance(record.measured, Failure)
    ]


def timed(results: Path) -> set[str]:
    found = [record for record in read_records(results) if isinstance(record.measured, Speed)]
    return {record.experiment.method for record in found if record.experiment}


@pytest.mark.usefixtures("forked_runs")
def test_nan_loss_is_a_recorded_failure(
    own_results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "measure",
        "clip-tiny",
        *ONE_ROUND,
        "--set",
        "learning_rate=1e30",
        "--set",
        "clip_norm=null",
    ]
    assert main([*arguments, "--set", "warmup_steps=4", "--results", str(own_results)]) == 3
    assert all(
        "NotFiniteError: loss or gradient of step" in reason for reason in failures(own_results)
    )
    assert len(failures(own_results)) == 2  # of the speed and of the memory run
    for reason in failures(own_results):
        text = re.fullmatch(r".*; its samples: (.*) and 8 more; all 16 are in (\S+)", reason)
        assert text
        keys = (own_results / text[2]).read_text().splitlines()
        assert len(keys) == 16
        assert text[1] == ", ".join(keys[:8])
    assert "loss or gradient of step" in capsys.readouterr().out


def without_flock(folder: Path, *words: str) -> tuple[int, str]:
    """Run a command line where locks are refused, as by Lustre mounted without `-o flock`."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "not here")

    fcntl.flock = refuse
    return answered(folder, words)


def test_file_system_without_flock_holds_the_records_and_is_reported_once(
    own_results: Path,
) -> None:
    words = ["measure", "catlip-tiny", *ONE_ROUND, "--results", str(own_results)]
    code, text = in_child(without_flock, own_results, *words)
    assert code == 0, text
    assert timed(own_results) == {"catlip"}
    assert text.count("no flock in ") == 1


def under(kind: int, limit: int, folder: Path, *words: str) -> tuple[int, str]:
    """Run a command line under a limit, which its processes inherit."""
    resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
    return answered(folder, words)


def with_full_disk(folder: Path, *words: str) -> tuple[int, str]:
    """Run a command line with a cache of its own, where a limit ends the writing as a full disk does."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "caches")
    return under(resource.RLIMIT_FSIZE, 2**20, folder, *words)


def test_disk_that_is_full_before_the_first_run_is_one_line(tmp_path: Path) -> None:
    """The decoded pack has 200 MB."""
    words = ["measure", "catlip-tiny", *ONE_ROUND, "--results", str(tmp_path / "results")]
    code, text = in_child(with_full_disk, tmp_path, *words)
    assert code == 2, text
    assert f"decoding the pack's images into {tmp_path / 'caches' / 'catlip-bench'}, once" in text
    assert "error: the pack's images cannot be decoded into" in text.splitlines()[-1]
    assert "Traceback" not in text


def short_of_memory(folder: Path, *words: str) -> tuple[int, str]:
    """Run a command line with 512 MiB more than this process has taken."""
    return under(resource.RLIMIT_DATA, (read_status_bytes("VmData") or 0) + 2**29, folder, *words)


def test_out_of_memory_run_is_a_recorded_failure(own_results: Path) -> None:
    words = [
        "measure",
        "catlip-tiny",
        *ONE_ROUND,
        "--results",
        str(own_results),
        "--set",
        "batch_size=4000",
    ]
    code, text = in_child(short_of_memory, own_results, *words)
    assert code == 3, text
    assert failures(own_results)
    for reason in failures(own_results):
        assert is_out_of_memory(RuntimeError(reason)), reason
        assert reason in text


@pytest.mark.minutes
@pytest.mark.usefixtures("forked_runs")
def test_largest_batch_under_a_memory_limit_gives_a_second_ratio(
    own_results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some twenty runs, each in a process with a limit of its own."""
    figures = own_results / "figures.json"
    arguments = [
        "measure",
        "clip-tiny",
        "catlip-tiny",
        *ONE_ROUND,
        "--memory-gib",
        "0.04",
        "--json",
        str(figures),
    ]
    # So that the text tower takes more than the search's grain.
    arguments += [
        "--set",
        "text_padding=max_length",
    ]
    assert main([*arguments, "--results", str(own_results)]) == 0
    fits = [
        record for record in read_records(own_results) if isinstance(record.measured, BatchTrial)
    ]
    titles = ["Throughput of each experiment", "Throughput of each at its largest batch"]
    equal, largest = (json.loads(figures.read_text())[title]["rows"] for title in titles)
    sizes = {
        one.name: one.training.batch_size
        for record in read_records(own_results)
        if (one := record.experiment)
    }
    assert [sizes[row["experiment"]] for row in equal] == [16, 16]
    assert {row["verdict"] for row in (equal[1], largest[1])} == {"inconclusive"}  # one round
    for method, row in zip(("clip", "catlip"), largest, strict=True):
        tries = {
            r.experiment.training.batch_size: r.measured
            for r in fits
            if r.experiment and r.experiment.method == method
        }
        batch = sizes[row["experiment"]]
        assert tries[batch].fits
        beyond = [size for size, fit in tries.items() if size > batch and not fit.fits]
        assert min(beyond) <= 1.1 * batch + 1
        assert all(is_out_of_memory(RuntimeError(tries[size].reason)) for size in beyond)
    # No text tower takes its share.
    assert sizes[largest[1]["experiment"]] > sizes[largest[0]["experiment"]]
    assert "no: " in capsys.readouterr().out


@pytest.mark.usefixtures("forked_runs")
def test_memory_limit_that_nothing_fits_keeps_the_equal_batch_comparison(own_results: Path) -> None:
    assert (
        main(
            [
                "measure",
                "catlip-tiny",
                *ONE_ROUND,
                "--memory-gib",
                "0.001",
                "--results",
                str(own_results),
            ]
        )
        == 0
    )
    assert not any(
        record.measured.fits
        for record in read_records(own_results)
        if isinstance(record.measured, BatchTrial)
    )
    assert timed(own_results) == {"catlip"}


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "inf", "1e-320", "1e308"])
def test_invalid_memory_limit_is_refused(
    limit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure", "clip-tiny", f"--memory-gib={limit}", "--results", str(tmp_path)]) == 2
    assert "--memory-gib must be from 1e-06 to 1e+06" in capsys.readouterr().err


@pytest.mark.usefixtures("forked_runs")
def test_doctor_checks_the_machine_and_times_a_run(
    own_results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer_steps = change(EXPERIMENTS[TRIED], warmup_steps=1, windows=2, steps_per_window=1)
    monkeypatch.setitem(EXPERIMENTS, TRIED, fewer_steps)
    monkeypatch.setattr("bench.cli.machine_checks.OBSERVED_SECONDS", 0.01)
    figures = own_results / "figures.json"
    assert (
        main(["doctor", "--json", str(figures), "--results", str(own_results / "none" / "yet")])
        == 0
    )
    rows = {row["check"]: row for row in json.loads(figures.read_text())["This machine"]["rows"]}
    expected = {
        "cores",
        "other processes",
        "memory",
        "swap",
        "governor",
        "C++ compiler",
        "Python.h",
        "disk",
        "commit",
    }
    assert expected <= rows.keys()
    assert "images/s" in rows["trial of clip-tiny"]["found"]
    assert "NVML" in rows or "GPU 0" in rows
    assert not (own_results / "none").exists()
    assert "images/s" in capsys.readouterr().out


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_signal_during_import_ends_the_command_line_cleanly(number: str, code: int) -> None:
    """It comes where tyro is asked for, which is before a verb is known."""
    signalled = (
        "import os, signal, sys\n"
        "class Signal:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == 'tyro': os.kill(os.getpid(), signal.{number})\n"
        "sys.meta_path.insert(0, Signal())\n"
        "from bench.__main__ import main\n"
        "sys.exit(main(['list']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", signalled], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def computes(run: psutil.Process) -> bool:
    """Whether a run has come as far as torch."""
    with suppress(psutil.Error):
        return any("torch" in mapped.path for mapped in run.memory_maps())
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends a process with its parent")
def test_killing_the_command_line_kills_its_run(own_results: Path) -> None:
    """Else it would go on beside the run of the same name that is started when the comparison is resumed."""
    words = ["measure", "clip-tiny", "--rounds", "1", "--set", "windows=10000"]
    command = [sys.executable, "-m", "bench", *words]
    parent = subprocess.Popen(
        [*command, "--results", str(own_results)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: any(map(computes, child_runs(parent))), parent)
        runs = child_runs(parent)
    finally:
        parent.kill()
        parent.wait()
    assert runs
    assert have_ended(runs)
