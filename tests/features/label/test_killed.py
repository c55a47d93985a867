"""A killed labelling leaves nothing that is not whole, and the same command gives the same bytes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.labels.label_files import read_label_origin
from tests.processes import LONGEST_SECONDS, have_ended, wait_until

ROOT = Path(__file__).parents[3]
KILLS, ROWS = 2, 15_000


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six files, large enough for two processes and for a second or more."""
    folder = tmp_path_factory.mktemp("captions")
    for shard in range(6):
        texts = [
            f"a dog number {number} of {shard} and {'very ' * 10} many cats"
            for number in range(ROWS)
        ]
        pq.write_table(
            pa.table({"uid": [f"{shard}-{n}" for n in range(ROWS)], "text": texts}),
            folder / f"{shard}.parquet",
        )
    return folder


def command(captions: Path, out: Path) -> list[str]:
    options = ["--vocabulary", "pack-synsets", "--out", str(out), "--workers", "2"]
    return [sys.executable, "-m", "bench", "label", str(captions), *options]


def being_written(folder: Path) -> set[Path]:
    return set(folder.glob(".*.part"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


@pytest.fixture(scope="module")
def undisturbed(captions: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("out")
    subprocess.run(command(captions, out), cwd=ROOT, check=True, capture_output=True)
    return content(out)


def test_repeatedly_killed_labelling_ends_with_the_same_bytes(
    captions: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """Killed itself, and then one process of its pool, which it reports."""
    for whole in [True] * KILLS + [False]:
        left = being_written(tmp_path)
        child = subprocess.Popen(
            command(captions, tmp_path), cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        wait_until(lambda left=left: being_written(tmp_path) - left, child)
        workers = psutil.Process(child.pid).children(recursive=True)
        of_pool = [process for process in workers if "spawn_main" in " ".join(process.cmdline())]
        (child if whole else of_pool[0]).kill()
        _, text = child.communicate(timeout=LONGEST_SECONDS)
        assert have_ended(workers), "a process of the pool outlived its parent"
        finished = {
            name: data for name, data in content(tmp_path).items() if not name.startswith(".")
        }
        assert finished.items() <= undisturbed.items()
        assert all(read_label_origin(tmp_path / name) for name in finished)
    assert child.returncode == 3, text
    assert "a labelling process was killed: check the free memory, or lower --workers" in text
    assert "Traceback" not in text
    subprocess.run(command(captions, tmp_path), cwd=ROOT, check=True, capture_output=True)
    assert content(tmp_path) == undisturbed


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt_ends_soon_without_a_traceback(
    sent: signal.Signals, code: int, captions: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    child = subprocess.Popen(
        command(captions, tmp_path),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: being_written(tmp_path), child)
    workers = psutil.Process(child.pid).children(recursive=True)
    (os.killpg if sent is signal.SIGINT else os.kill)(child.pid, sent)
    _, text = child.communicate(timeout=LONGEST_SECONDS)
    assert child.returncode == code, text
    assert "finished work is kept" in text
    assert "Traceback" not in text, text
    assert workers
    assert have_ended(workers)
    assert not list(tmp_path.glob(".*.part"))
    assert content(tmp_path).items() <= undisturbed.items()
