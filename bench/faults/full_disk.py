"""A disk that is full while a training saves and a record is written: what was there stays, and it is said."""

import io
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path

from bench.faults.bound import Bound, none_of
from bench.faults.made import write_shards
from bench.faults.short import short, trained
from bench.interruption import Stop
from bench.machine import circumstances
from bench.record import Failure, Record, read_record, write_record
from bench.training.checkpoints import Keeping, checkpoints, read_checkpoint
from bench.training.keeper import Keeper

ROOM = 2.5  # checkpoints that the disk holds: two are kept while a third is written
STEPS = 60  # with a look, and a checkpoint, after every twenty


def run(share: float, seed: int, folder: Path) -> list[Bound]:  # noqa: ARG001 - a part's arguments
    """Train on a disk that holds two checkpoints, then fill it."""
    size = _train(folder / "roomy", seed)[1]
    disk = folder / "disk"
    disk.mkdir()
    with small_disk(disk, int(ROOM * size)) as is_there:
        if is_there:
            return [*_saved_on(disk, seed), _written_on(disk)]
    return [Bound("a training on a full disk", "-", "not tried: no disk can be mounted", holds=True)]


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
        subprocess.run(["umount", "-l", str(path)], check=True)  # noqa: S607


def _train(out: Path, seed: int) -> tuple[str, int]:
    """Train and save on the way; return what was said, and the bytes of a checkpoint."""
    data = out.parent / "data" if out.parent.name != "disk" else out.parent.parent / "data"
    if not data.is_dir():
        write_shards(data, listed=True)
    experiment, told = short("catlip", data=str(data), images=4 * STEPS, seed=seed), io.StringIO()
    out.mkdir()
    keeping = Keeping(folder=str(out / "checkpoints"), minutes=1e-9)
    keeper = Keeper(keeping, "disk", {"all": experiment.images}, Stop())
    with redirect_stderr(told):
        trained(experiment, out, keeper)
    newest = checkpoints(out / "checkpoints")[0]
    return told.getvalue(), sum(path.stat().st_size for path in newest.iterdir())


def _saved_on(disk: Path, seed: int) -> list[Bound]:
    told, _ = _train(disk / "out", seed)
    kept, wrong = checkpoints(disk / "out" / "checkpoints"), list[str]()
    for path in kept:
        try:
            read_checkpoint(path)
        except (ValueError, OSError) as error:
            wrong.append(f"{path.name}: {error}")
    left = [path.name for path in (disk / "out" / "checkpoints").iterdir() if path.name.endswith(".part")]
    is_said = "the one before it is kept" in told
    return [
        none_of("a training on a full disk: checkpoints lost, torn or left half", len(kept), [*wrong, *left]),
        Bound("the same", "goes on and says so", "said" if is_said else "not said", holds=is_said and bool(kept)),
    ]


def _written_on(disk: Path) -> Bound:
    """Write a record where another lies and nothing more has room."""
    import torch

    failure = Failure(what="x", reason="y" * 100_000)
    record = Record(
        comparison="disk",
        experiment=None,
        circumstances=circumstances(None, torch.device("cpu")),
        measured=failure,
    )
    path = disk / "disk.failure.x.json"
    write_record(record, path)
    with (disk / "full").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    try:
        write_record(record, path)
        told = "written all the same"
    except OSError as error:
        told = str(error.strerror)
    holds = read_record(path) == record and "space" in told and not list(disk.glob(".*"))
    return Bound("a record on a full disk", "the old one stays, and an error", told, holds)
