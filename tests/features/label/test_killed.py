"""An interrupted count ends soon, with all of its processes, and says so in one line."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.processes import LONGEST_SECONDS, have_ended, wait_until

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that take two processes many seconds."""
    folder = tmp_path_factory.mktemp("captions")
    texts = [f"a dog number{number} {'very ' * 10} many cats" for number in range(200_000)]
    for name in ("a", "b", "c", "d"):
        pq.write_table(pa.table({"text": texts}), folder / f"{name}.parquet")
    return folder


@pytest.mark.parametrize(
    ("sent", "code", "message"),
    [
        (signal.SIGKILL, 2, "a labelling process was killed: check the free memory"),
        (signal.SIGINT, 130, "finished work is kept"),
        (signal.SIGTERM, 143, "finished work is kept"),
    ],
)
def test_interrupt_ends_all_processes_without_a_traceback(
    sent: signal.Signals, code: int, message: str, captions: Path, tmp_path: Path
) -> None:
    """SIGKILL hits a process of the pool, Ctrl-C the whole group, SIGTERM the command alone."""
    words = [str(captions), "--out", str(tmp_path / "v.json"), "--workers", "2"]
    command = subprocess.Popen(
        [sys.executable, "-m", "bench", "label", *words],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    process = psutil.Process(command.pid)

    def find_workers() -> list[psutil.Process]:
        """Return the processes of the pool once both have been told what to run; before, an end is an EOFError."""
        pool = list[psutil.Process]()
        with suppress(psutil.Error):  # a process has not quite begun
            for child in process.children(recursive=True):
                pool += (
                    [child] if any("libarrow" in one.path for one in child.memory_maps()) else []
                )
        return pool if len(pool) == 2 else []

    workers = wait_until(find_workers, command)
    if sent is signal.SIGINT:
        os.killpg(command.pid, sent)
    else:
        os.kill(workers[0].pid if sent is signal.SIGKILL else command.pid, sent)
    _, text = command.communicate(timeout=LONGEST_SECONDS)
    assert command.returncode == code, text
    assert message in text
    assert "Traceback" not in text, text
    assert have_ended(workers)
    assert not (tmp_path / "v.json").exists()
