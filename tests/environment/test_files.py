"""A file is whole or not there, and what is left of killed writers goes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.environment.files import atomic_write
from models.checkpoint import save_tower

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


def writing(path: Path) -> "subprocess.Popen[str]":
    """A process that is in the midst of writing a file."""
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "writing\n"
    return child


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


@pytest.mark.parametrize("writer", ["written whole", "tower"])
def test_rename_is_flushed_to_disk(writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename is in the folder: where that is not written out, a power failure leaves the old file, or none."""
    path, written, plain = tmp_path / "it.safetensors", list[tuple[int, bool]](), os.fsync

    def fsync(number: int) -> None:
        written.append((os.fstat(number).st_ino, path.exists()))
        plain(number)

    monkeypatch.setattr(os, "fsync", fsync)
    if writer == "tower":
        save_tower({"a": torch.zeros(2)}, path, {})
    else:
        with atomic_write(path) as temporary:
            temporary.write_text("new")
    assert written == [(path.stat().st_ino, False), (tmp_path.stat().st_ino, True)]
