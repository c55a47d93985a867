"""Loader workers hand batches over in shared memory: too little of it is one line."""

import ctypes
import subprocess
from pathlib import Path

import pytest

from bench.console.console import UserError
from bench.data import loader_workers
from bench.data.loader_workers import PrefetchingLoader
from bench.data.sample_stream import SampleStream
from bench.interfaces.method import METHODS
from tests.data.shards import open_shards, write_shards
from tests.data.test_stream import CPU
from tests.processes import PRELOAD, in_child, wait_until
from tests.small import small

SHARED_MEMORY = Path("/dev/shm")
NEW_MOUNTS = 0x00020000  # CLONE_NEWNS of unshare(2)


class NamesOfBatches:
    """Loads a batch of its number, and writes a file of that name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, k: int) -> int:
        (self.folder / str(k)).touch()
        return k


def test_worker_loads_two_batches_ahead(tmp_path: Path) -> None:
    loader = PrefetchingLoader(NamesOfBatches(tmp_path), 1, __name__)
    for k in range(5):
        assert loader[k] == k
        wait_until((tmp_path / str(k + 2)).exists)
        assert len([*tmp_path.iterdir()]) == k + 3


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
    shards = open_shards(str(data), data / "cache")
    with pytest.raises(UserError) as error:
        SampleStream(
            small("clip"), shards, METHODS["clip"].make_target_function, CPU, num_workers=1
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
