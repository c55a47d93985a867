"""What happens when something breaks: a row or a clear error, the other rows stand, the exit code says so.

It breaks for real: a loss becomes infinite, memory runs out, a disk is full, a process is killed.
"""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.measure.memory import is_out_of_memory_error
from bench.profilers.memory import read_process_status_bytes
from bench.records.record import Failure, Speed, read_records
from tests.processes import answered, in_child

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "untimed_steps=1",
    "timed_windows=2",
    "steps_per_window=1",
    "batch_size=16",
    "subset=random:96",
)
ONE_ROUND = ["--rounds", "1", *(word for setting in SETTINGS for word in ("--set", setting))]


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
    settings = "--set learning_rate=1e30 --set clip_norm=null --set untimed_steps=4"
    words = ["measure", "clip-tiny", *ONE_ROUND, *settings.split()]
    assert main([*words, "--results", str(own_results)]) == 3
    assert all(
        "NotFiniteError: loss or gradient of step" in reason for reason in failures(own_results)
    )
    assert len(failures(own_results)) == 2  # of the speed and of the memory run
    for reason in failures(own_results):
        assert len(reason.partition("; first samples: ")[2].split(", ")) == 8
    assert "loss or gradient of step" in capsys.readouterr().out


def under(kind: int, limit: int, folder: Path, *words: str) -> tuple[int, str]:
    """Run a command line under a limit, which its processes inherit."""
    resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
    return answered(folder, words)


def with_full_disk(folder: Path, *words: str) -> tuple[int, str]:
    """Run a command line with a cache of its own, where a limit ends the writing as a full disk does."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "caches")
    return under(resource.RLIMIT_FSIZE, 2**20, folder, *words)


@pytest.mark.slow
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
    return under(
        resource.RLIMIT_DATA, (read_process_status_bytes("VmData") or 0) + 2**29, folder, *words
    )


def test_out_of_memory_run_is_a_recorded_failure(own_results: Path) -> None:
    settings = ["--set", "batch_size=4000", "--set", "subset=null"]
    words = ["measure", "catlip-tiny", *ONE_ROUND, *settings, "--results", str(own_results)]
    code, text = in_child(short_of_memory, own_results, *words)
    assert code == 3, text
    assert failures(own_results)
    for reason in failures(own_results):
        assert is_out_of_memory_error(RuntimeError(reason)), reason
        assert reason in text


def test_signal_during_import_ends_the_command_line_cleanly() -> None:
    """It comes where tyro is asked for, which is before a verb is known."""
    signalled = (
        "import os, signal, sys\n"
        "class Signal:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'tyro': os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.meta_path.insert(0, Signal())\n"
        "from bench.__main__ import main\n"
        "sys.exit(main(['list']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", signalled], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "")
