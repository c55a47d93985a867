"""A killed labelling leaves nothing that is not whole, and the same command gives the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.labels.shard_job import made

ROOT = Path(__file__).parent.parent.parent
KILLS = 4


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six files, large enough for two processes and for a second or more."""
    folder = tmp_path_factory.mktemp("captions")
    for shard in range(6):
        texts = [f"a dog number {number} of {shard} and {'very ' * 10} many cats" for number in range(60_000)]
        pq.write_table(
            pa.table({"uid": [f"{shard}-{n}" for n in range(60_000)], "text": texts}), folder / f"{shard}.parquet"
        )
    return folder


def command(captions: Path, out: Path) -> list[str]:
    options = ["--vocabulary", "pack-synsets", "--out", str(out), "--workers", "2"]
    return [sys.executable, "-m", "bench", "label", str(captions), *options]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


@pytest.fixture(scope="module")
def undisturbed(captions: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], float]:
    out, start = tmp_path_factory.mktemp("out"), time.monotonic()
    subprocess.run(command(captions, out), cwd=ROOT, check=True, capture_output=True)
    return content(out), time.monotonic() - start


def test_killed_again_and_again_it_ends_with_the_same_bytes(
    captions: Path, undisturbed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    whole, seconds = undisturbed
    draw, stopped_early = random.Random(0), 0
    for _ in range(KILLS):
        child = subprocess.Popen(command(captions, tmp_path), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(draw.uniform(0.3, 0.8) * seconds)
        workers = psutil.Process(child.pid).children(recursive=True) if child.poll() is None else []
        stopped_early += child.poll() is None
        child.kill()
        child.communicate()
        assert not psutil.wait_procs(workers, timeout=10)[1], "a process of the pool outlived its parent"
        finished = {name: data for name, data in content(tmp_path).items() if not name.startswith(".")}
        assert finished.items() <= whole.items()
        assert all(made(tmp_path / name) for name in finished)
    assert stopped_early
    subprocess.run(command(captions, tmp_path), cwd=ROOT, check=True, capture_output=True)
    assert content(tmp_path) == whole


def test_a_killed_process_of_the_pool_is_told_and_the_rest_goes_on_later(
    captions: Path, undisturbed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    child = subprocess.Popen(command(captions, tmp_path), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*.part")) and time.monotonic() < deadline:
        time.sleep(0.02)
    working = [
        process for process in psutil.Process(child.pid).children() if "spawn_main" in " ".join(process.cmdline())
    ]
    working[0].kill()
    _, told = child.communicate(timeout=60)
    assert child.returncode == 3, told
    assert "a process that labelled was killed; was there too little memory?" in told
    assert "Traceback" not in told
    subprocess.run(command(captions, tmp_path), cwd=ROOT, check=True, capture_output=True)
    assert content(tmp_path) == undisturbed[0]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_soon_and_in_silence(
    sent: signal.Signals, code: int, captions: Path, undisturbed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    child = subprocess.Popen(
        command(captions, tmp_path), cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*.part")) and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = psutil.Process(child.pid).children(recursive=True)
    (os.killpg if sent is signal.SIGINT else os.kill)(child.pid, sent)
    _, told = child.communicate(timeout=30)
    assert child.returncode == code, told
    assert "finished files are kept" in told
    assert "Traceback" not in told, told
    assert workers
    assert not psutil.wait_procs(workers, timeout=10)[1]
    assert not list(tmp_path.glob(".*.part"))
    assert content(tmp_path).items() <= undisturbed[0].items()
