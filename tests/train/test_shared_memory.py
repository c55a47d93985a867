"""Loader workers hand batches over in shared memory: too little of it is one line, before a run or within it."""

import ctypes
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.__main__ import main
from bench.console.console import UserError
from bench.data import loader_workers
from bench.data.loader_workers import PrefetchingLoader
from bench.data.sample_stream import SampleStream
from bench.environment.cores import LoaderWorkers, choose_workers
from bench.environment.requirements import SHARED_MEMORY
from bench.experiment.config import Experiment, change
from bench.interfaces.method import METHODS
from bench.train.shared_memory import limit_workers_to_shared_memory
from tests.data.shards import open_shards, write_shards
from tests.data.test_stream import CPU
from tests.processes import PRELOAD, in_child, wait_until
from tests.small import small

DOCKER = 64 * 2**20
NEW_MOUNTS = 0x00020000  # CLONE_NEWNS of unshare(2)


def free(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    monkeypatch.setattr(
        "os.statvfs", lambda _: SimpleNamespace(f_bavail=free_bytes // 4096, f_frsize=4096)
    )


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="the system has no /dev/shm")
def test_workers_prefetch_what_fits_into_shared_memory_and_are_refused_where_no_batch_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free(monkeypatch, DOCKER)  # three batches of 20 MB
    sizes = {"data": "shards", "batch_size": 128, "images": 128, "warmup_images": 0}
    large = small("clip", image_size=228, **sizes)

    def fitted(
        workers: int, processes: int, experiment: Experiment = large
    ) -> tuple[int, int, str]:
        asked = change(experiment, workers=workers)
        found = limit_workers_to_shared_memory(
            asked, LoaderWorkers(workers, "asked for"), processes
        )
        return found.count, found.prefetched, found.reason

    assert fitted(0, 8) == (0, 2, "asked for")
    assert fitted(1, 1) == (1, 2, "asked for")
    assert fitted(2, 1)[:2] == (2, 1)
    text = r"asked for; each prefetches 1 of 19\.\d\d MiB because /dev/shm has 64\.00 MiB free"
    assert re.fullmatch(text, fitted(2, 1)[2])
    text = r"5 batches of 1 x 4 loader workers need 9\d\.\d\d MiB of shared memory, /dev/shm has 64\.00 MiB free: "
    with pytest.raises(UserError, match=text):
        fitted(4, 1)
    with pytest.raises(UserError, match="4 batches of 2 x 1 loader workers"):
        fitted(1, 2)
    dense = small("catlip", image_size=32, label_format="dense", head_rows=24_320, **sizes)
    with pytest.raises(UserError, match="5 batches"):
        fitted(4, 1, dense)


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="the system has no /dev/shm")
def test_chosen_workers_are_fewer_where_shared_memory_is_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    automatic = small(
        "clip", data="shards", image_size=228, batch_size=128, images=128, warmup_images=0
    )
    chosen = choose_workers(16, 1)
    for batches, (count, prefetched) in {
        2: (1, 1),
        5: (4, 1),
        16: (15, 1),
        29: (15, 1),
        30: (15, 2),
    }.items():
        free(monkeypatch, batches * 20 * 2**20)  # a little more than so many batches
        found = limit_workers_to_shared_memory(automatic, chosen, 1)
        assert (found.count, found.prefetched) == (count, prefetched)
        assert (found == chosen) == (batches == 30)
    free(monkeypatch, 20 * 2**20)
    with pytest.raises(UserError, match="2 batches of 1 x 1 loader workers"):
        limit_workers_to_shared_memory(automatic, chosen, 1)


class NamesOfBatches:
    """Loads a batch of its number, and writes a file of that name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, k: int) -> int:
        (self.folder / str(k)).touch()
        return k


@pytest.mark.parametrize("prefetched", [1, 2])
def test_worker_loads_so_many_batches_ahead(prefetched: int, tmp_path: Path) -> None:
    loader = PrefetchingLoader(NamesOfBatches(tmp_path), 1, prefetched, __name__)
    for k in range(5):
        assert loader[k] == k
        wait_until((tmp_path / str(k + prefetched)).exists)
        assert len([*tmp_path.iterdir()]) == k + 1 + prefetched


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="the system has no /dev/shm")
def test_small_shared_memory_is_one_line_before_the_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_shards(tmp_path / "data")
    free(monkeypatch, 65536)
    settings = ["--set", f"data={data}", "--set", "workers=2", "--set", "subword_vocabulary=all"]
    assert main(["measure", "superclass-tiny", *settings, "--results", str(tmp_path)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert (
        "of shared memory, /dev/shm has 0.06 MiB free: enlarge it (docker run --shm-size), or use fewer"
        in line
    )


def load_in_64_kib(data: Path) -> str:
    """Load a batch in a worker, with so little shared memory; return the error, or nothing where no disk is mounted."""
    if ctypes.CDLL(None).unshare(NEW_MOUNTS):
        return ""
    for words in (
        ["--make-rprivate", "/"],
        ["-t", "tmpfs", "-o", "size=64k", "none", str(SHARED_MEMORY)],
    ):
        subprocess.run(["mount", *words], check=True)
    loader_workers.FORKSERVER_PRELOAD = PRELOAD
    workers, shards = LoaderWorkers(1, "a test"), open_shards(str(data), data / "cache")
    with pytest.raises(UserError) as error:
        SampleStream(
            small("clip"), shards, METHODS["clip"].targets, CPU, workers=workers
        ).load_batch_parts(0)
    return str(error.value)


def test_batch_that_a_worker_cannot_hand_over_is_an_error_of_the_run(tmp_path: Path) -> None:
    text = in_child(load_in_64_kib, write_shards(tmp_path / "data"))
    if not text:
        pytest.skip("mounting a small /dev/shm needs root")
    assert text.startswith(
        "a loader worker cannot hand over a batch (unable to allocate shared memory"
    )
    assert text.endswith("or give the container more memory")
