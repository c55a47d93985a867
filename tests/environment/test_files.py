"""A file is whole or not there, and what is left of killed writers goes."""

import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from safetensors.torch import load_file

from bench.environment import files
from bench.environment.files import (
    atomic_write,
    make_folders_unless_in_root,
    read_bytes_unless_larger,
    remove_abandoned_temporary_files,
)
from bench.towers.head_file import save_weights

ROOT = Path(__file__).parents[2]
WRITER = """
import sys, time
from pathlib import Path
from bench.environment.files import atomic_write
with atomic_write(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


WITHOUT_FLOCK = """
import errno, fcntl
def flock(*_):
    raise OSError(errno.ENOLCK, "not here")
fcntl.flock = flock
"""
WRITE_TWICE = """
import sys
from pathlib import Path
from bench.environment.files import atomic_write
for text in ("mine", "again"):
    with atomic_write(Path(sys.argv[1])) as temporary:
        temporary.write_text(text)
"""


def writing(path: Path, before: str = "") -> "subprocess.Popen[str]":
    """A process that is in the midst of writing a file."""
    command = [sys.executable, "-c", before + WRITER, str(path)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "writing\n"
    return child


def test_weights_are_written_into_the_locked_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that replaced the file would leave one without a lock, which another writer removes as abandoned."""
    survivors = []

    def fsync_after_another_writer(path: Path) -> None:
        remove_abandoned_temporary_files(tmp_path)
        survivors.append(path.exists())

    monkeypatch.setattr(files, "fsync_path", fsync_after_another_writer)
    save_weights({"a": torch.zeros(3)}, tmp_path / "tower.safetensors", {})
    assert survivors == [True, True]
    assert torch.equal(load_file(tmp_path / "tower.safetensors")["a"], torch.zeros(3))


def test_leftovers_of_killed_writers_are_removed_and_live_writers_kept(tmp_path: Path) -> None:
    path = tmp_path / "it [1]*.txt"
    child = writing(path)
    (living,) = tmp_path.glob(".*.part")
    with atomic_write(path) as temporary:
        temporary.write_text("mine")
    assert path.read_text() == "mine"
    assert living.read_text() == "half"
    child.kill()
    child.communicate()
    assert living.exists()
    with atomic_write(path) as temporary:
        temporary.write_text("again")
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "again"


def test_stray_folder_named_as_a_leftover_prevents_no_write(tmp_path: Path) -> None:
    (tmp_path / f".record.json.{'0' * 32}.part").mkdir()
    with atomic_write(tmp_path / "record.json") as temporary:
        temporary.write_text("mine")
    assert (tmp_path / "record.json").read_text() == "mine"


def test_writer_whose_file_was_removed_before_it_was_locked_takes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second writer comes between the two calls of the first; were the first then killed, its file would stay."""
    path, removed, hold_file_lock = tmp_path / "it", list[str](), files.hold_file_lock

    def hold_lock_late(file: IO[Any], *, wait: bool = False) -> AbstractContextManager[None]:
        if wait and not removed:
            removed.append(file.name)
            with atomic_write(path) as temporary:
                temporary.write_text("of the second writer")
        return hold_file_lock(file, wait=wait)

    monkeypatch.setattr(files, "hold_file_lock", hold_lock_late)
    with atomic_write(path) as temporary:
        assert not Path(removed[0]).exists()
        assert temporary.exists()
        temporary.write_text("of the first")
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "of the first"


def test_file_system_without_flock_is_written_to_and_reported_once(tmp_path: Path) -> None:
    """What others are writing stays there."""
    path = tmp_path / "it [1]*.txt"
    child = writing(path, WITHOUT_FLOCK)
    (living,) = tmp_path.glob(".*.part")
    command = [sys.executable, "-c", WITHOUT_FLOCK + WRITE_TWICE, str(path)]
    other = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=True)
    assert other.stderr == f"no flock in {tmp_path}: two commands at once may write to it\n"
    assert path.read_text() == "again"
    assert living.read_text() == "half"
    child.kill()
    child.communicate()


def test_failed_write_leaves_only_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "it.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        fail()
    assert [one.name for one in tmp_path.iterdir()] == ["it.txt"]
    assert path.read_text() == "old"


def test_rename_is_flushed_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename is in the folder: where that is not written out, a power failure leaves the old file, or none."""
    path, written, plain = tmp_path / "it.safetensors", list[tuple[int, bool]](), os.fsync

    def fsync(number: int) -> None:
        written.append((os.fstat(number).st_ino, path.exists()))
        plain(number)

    monkeypatch.setattr(os, "fsync", fsync)
    save_weights({"a": torch.zeros(2)}, path, {})
    assert written == [(path.stat().st_ino, False), (tmp_path.stat().st_ino, True)]


def test_folders_are_made_below_existing_ones_but_not_in_the_root(tmp_path: Path) -> None:
    make_folders_unless_in_root(tmp_path / "results" / "x" / "y")
    make_folders_unless_in_root(tmp_path / "results" / "x" / "y")
    assert (tmp_path / "results" / "x" / "y").is_dir()
    nowhere = Path("/no folder of this name")
    with pytest.raises(
        ValueError, match="x cannot be made, there is no /no folder of this name: make that folder"
    ):
        make_folders_unless_in_root(nowhere / "x")
    with (
        pytest.raises(ValueError, match="/x cannot be made"),
        atomic_write(nowhere / "x" / "page.html"),
    ):
        pass
    assert not nowhere.exists()


def test_errors_of_reading_and_writing_name_the_file(tmp_path: Path) -> None:
    """The system names a file only where it cannot be opened; this one of the kernel's is opened, and not read."""
    (tmp_path / "a.json").symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match=rf"Input/output error: '{tmp_path}/a.json'"):
        read_bytes_unless_larger(tmp_path / "a.json")
    (tmp_path / "full").symlink_to("/dev/full")
    with (
        pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/b.json'"),
        atomic_write(tmp_path / "b.json"),
    ):
        (tmp_path / "full").write_text("x")
