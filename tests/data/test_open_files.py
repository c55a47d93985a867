"""Files stay open for many reads, and no more than a bound of them."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import pytest

from bench.data import open_files
from bench.data.open_files import read_at


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of four files."""
    monkeypatch.setattr(
        open_files, "_open_or_reuse", lru_cache(4)(open_files._open_or_reuse.__wrapped__)
    )


def read_numbered(path: Path) -> bool:
    return read_at(path, "", 3, 4) == path.read_bytes()[3:7]


def test_reads_by_threads_and_forked_processes_keep_few_files_open(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(20)]
    for number, path in enumerate(paths):
        path.write_bytes(f"{number:010}".encode())
    before = len([*Path("/proc/self/fd").iterdir()])
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read_numbered, paths * 10))
    assert len([*Path("/proc/self/fd").iterdir()]) <= before + 4
    child = os.fork()
    if not child:
        os._exit(0 if all(map(read_numbered, paths)) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_replaced_file_is_opened_anew_and_a_shorter_one_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"before")
    assert read_at(path, "1", 0, 6) == b"before"
    (tmp_path / "b").write_bytes(b"behind")
    (tmp_path / "b").rename(path)
    assert read_at(path, "1", 0, 6) == b"before"
    assert read_at(path, "2", 0, 6) == b"behind"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="a has become shorter since training began"):
        read_at(path, "2", 0, 6)
