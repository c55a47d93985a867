"""No room while a training saves and a record is written: what was there stays, and the failure is reported.

Anybody can have the kernel refuse a process large files; root alone can mount a small disk, which fills on the way.
"""

import errno
import io
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, suppress
from pathlib import Path

from bench.console.console import StopRequest
from bench.environment.machine import current_circumstances
from bench.record import Failure, Record, read_record, write_record
from bench.train.checkpoint_manager import CheckpointManager
from bench.train.checkpoints import TENSORS, CheckpointConfig, list_checkpoints, read_checkpoint
from tests.chaos.bound import Check, check_none
from tests.chaos.made import write_shards
from tests.chaos.short import short_experiment, train_in_process

ROOM = 2.5  # checkpoints that the disk holds: two are kept while a third is written
STEPS = 60  # with a look, and a checkpoint, after every twenty
REFUSALS = (os.strerror(errno.ENOSPC), os.strerror(errno.EFBIG))
LIMITED, MOUNTED = "on a disk without room for large files", "on a full disk"


def run(fraction: float, seed: int, folder: Path) -> list[Check]:  # noqa: ARG001 - a part's arguments
    """Train where no further checkpoint has room, and where the third has none; write a record in both."""
    data, limited, disk = folder / "data", folder / "limited", folder / "disk"
    write_shards(data, listed=True)
    _train(limited, data, seed)
    newest = list_checkpoints(limited / "checkpoints")[0]
    with limit_file_size((newest / TENSORS).stat().st_size // 2):
        bounds = _check_checkpoints(LIMITED, limited, data, seed)
    bounds.append(_check_record(LIMITED, limited, lambda: limit_file_size(4096)))
    disk.mkdir()
    with mount_small_disk(disk, int(ROOM * sum(file.stat().st_size for file in newest.iterdir()))) as is_there:
        if is_there:
            bounds += _check_checkpoints(MOUNTED, disk / "out", data, seed)
            bounds.append(_check_record(MOUNTED, disk, lambda: fill_disk(disk)))
    return bounds


@contextmanager
def limit_file_size(size: int) -> Iterator[None]:
    """Have the kernel refuse what lies beyond: a full disk for one process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def mount_small_disk(path: Path, size: int) -> Iterator[bool]:
    """Mount a file system of so many bytes, and tell whether that went well; root alone may."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@contextmanager
def fill_disk(disk: Path) -> Iterator[None]:
    """Write a file until nothing more has room."""
    with (disk / "full").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    yield


def _train(out: Path, data: Path, seed: int) -> str:
    """Train and save on the way; return what was said."""
    experiment, text = short_experiment("catlip", data=str(data), images=4 * STEPS, seed=seed), io.StringIO()
    out.mkdir(exist_ok=True)
    checkpoint_config = CheckpointConfig(folder=str(out / "checkpoints"), interval_minutes=1e-9)
    with redirect_stderr(text):
        train_in_process(
            experiment,
            out,
            CheckpointManager(checkpoint_config, "disk", {"all": experiment.training.images}, StopRequest()),
        )
    return text.getvalue()


def _check_checkpoints(where: str, out: Path, data: Path, seed: int) -> list[Check]:
    """Train where not every checkpoint has room; those that were there before are whole afterwards."""
    before = list_checkpoints(out / "checkpoints")
    text = _train(out, data, seed)
    kept, wrong = list_checkpoints(out / "checkpoints"), list[str]()
    for path in kept:
        try:
            read_checkpoint(path)
        except (ValueError, OSError) as error:
            wrong.append(f"{path.name}: {error}")
    wrong += [f"{path.name}: gone" for path in before if path not in kept]
    wrong += [path.name for path in (out / "checkpoints").iterdir() if path.name.endswith(".part")]
    is_said = "the one before it is kept" in text
    return [
        check_none(f"a training {where}: checkpoints lost, torn or left half", len(kept), wrong),
        Check("the same", "goes on and says so", "said" if is_said else "not said", is_met=is_said and bool(kept)),
    ]


def _check_record(where: str, folder: Path, without_room: Callable[[], AbstractContextManager[None]]) -> Check:
    """Write a record where another lies and nothing more has room."""
    import torch

    failure = Failure(what="x", reason="y" * 100_000)
    record = Record(
        comparison="disk",
        experiment=None,
        circumstances=current_circumstances(None, torch.device("cpu")),
        measured=failure,
    )
    path = folder / "disk.failure.x.json"
    write_record(record, path)
    text = "written all the same"
    with without_room():
        try:
            write_record(record, path)
        except OSError as error:
            text = str(error.strerror)
    holds = read_record(path) == record and text in REFUSALS and not list(folder.glob(".*"))
    return Check(f"a record {where}", "the old one stays, and an error", text, holds)
