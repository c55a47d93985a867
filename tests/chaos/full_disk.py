"""No room while a training saves and a record is written: what was there stays, and it is said.

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

from bench.config import Keeping
from bench.console.signals import Stop
from bench.environment.machine import circumstances
from bench.record import Failure, Record, read_record, write_record
from bench.train.checkpoint_manager import Keeper
from bench.train.checkpoints import TENSORS, checkpoints, read_checkpoint
from tests.chaos.bound import Bound, none_of
from tests.chaos.made import write_shards
from tests.chaos.short import short, trained

ROOM = 2.5  # checkpoints that the disk holds: two are kept while a third is written
STEPS = 60  # with a look, and a checkpoint, after every twenty
REFUSALS = (os.strerror(errno.ENOSPC), os.strerror(errno.EFBIG))
LIMITED, MOUNTED = "on a disk without room for large files", "on a full disk"


def run(share: float, seed: int, folder: Path) -> list[Bound]:  # noqa: ARG001 - a part's arguments
    """Train where no further checkpoint has room, and where the third has none; write a record in both."""
    data, limited, disk = folder / "data", folder / "limited", folder / "disk"
    write_shards(data, listed=True)
    _train(limited, data, seed)
    newest = checkpoints(limited / "checkpoints")[0]
    with files_no_larger_than((newest / TENSORS).stat().st_size // 2):
        bounds = _saved(LIMITED, limited, data, seed)
    bounds.append(_written(LIMITED, limited, lambda: files_no_larger_than(4096)))
    disk.mkdir()
    with small_disk(disk, int(ROOM * sum(file.stat().st_size for file in newest.iterdir()))) as is_there:
        if is_there:
            bounds += _saved(MOUNTED, disk / "out", data, seed)
            bounds.append(_written(MOUNTED, disk, lambda: filled(disk)))
    return bounds


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Have the kernel refuse what lies beyond: a full disk for one process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[bool]:
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
def filled(disk: Path) -> Iterator[None]:
    """Write a file until nothing more has room."""
    with (disk / "full").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    yield


def _train(out: Path, data: Path, seed: int) -> str:
    """Train and save on the way; return what was said."""
    experiment, told = short("catlip", data=str(data), images=4 * STEPS, seed=seed), io.StringIO()
    out.mkdir(exist_ok=True)
    keeping = Keeping(folder=str(out / "checkpoints"), minutes=1e-9)
    with redirect_stderr(told):
        trained(experiment, out, Keeper(keeping, "disk", {"all": experiment.images}, Stop()))
    return told.getvalue()


def _saved(where: str, out: Path, data: Path, seed: int) -> list[Bound]:
    """Train where not every checkpoint has room; those that were there before are whole afterwards."""
    before = checkpoints(out / "checkpoints")
    told = _train(out, data, seed)
    kept, wrong = checkpoints(out / "checkpoints"), list[str]()
    for path in kept:
        try:
            read_checkpoint(path)
        except (ValueError, OSError) as error:
            wrong.append(f"{path.name}: {error}")
    wrong += [f"{path.name}: gone" for path in before if path not in kept]
    wrong += [path.name for path in (out / "checkpoints").iterdir() if path.name.endswith(".part")]
    is_said = "the one before it is kept" in told
    return [
        none_of(f"a training {where}: checkpoints lost, torn or left half", len(kept), wrong),
        Bound("the same", "goes on and says so", "said" if is_said else "not said", holds=is_said and bool(kept)),
    ]


def _written(where: str, folder: Path, without_room: Callable[[], AbstractContextManager[None]]) -> Bound:
    """Write a record where another lies and nothing more has room."""
    import torch

    failure = Failure(what="x", reason="y" * 100_000)
    record = Record(
        comparison="disk",
        experiment=None,
        circumstances=circumstances(None, torch.device("cpu")),
        measured=failure,
    )
    path = folder / "disk.failure.x.json"
    write_record(record, path)
    told = "written all the same"
    with without_room():
        try:
            write_record(record, path)
        except OSError as error:
            told = str(error.strerror)
    holds = read_record(path) == record and told in REFUSALS and not list(folder.glob(".*"))
    return Bound(f"a record {where}", "the old one stays, and an error", told, holds)
