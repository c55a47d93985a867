"""A file is whole or not there, and what is left of killed writers goes."""

import errno
import fcntl
import os
from pathlib import Path

import pytest
import torch

from bench.environment.files import (
    atomic_write,
    hold_file_lock,
    make_folders_unless_in_root,
    read_bytes_unless_larger,
)
from bench.towers.head_file import save_weights


def test_leftovers_of_killed_writers_are_removed_after_a_day(tmp_path: Path) -> None:
    path = tmp_path / "it [1]*.txt"
    left, living = (tmp_path / f".{path.name}.{digit * 32}.part" for digit in "01")
    left.touch()
    living.touch()
    os.utime(left, (0, 0))
    with atomic_write(path) as temporary:
        temporary.write_text("mine")
    assert path.read_text() == "mine"
    assert {*tmp_path.iterdir()} == {path, living}


def test_file_system_without_flock_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "not here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(2):
        with (tmp_path / "lock").open("ab") as file, hold_file_lock(file):
            pass
    message = f"no flock in {tmp_path}: two commands at once may write to it\n"
    assert capsys.readouterr().err == message


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
