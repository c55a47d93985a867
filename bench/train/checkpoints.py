"""Checkpoints on disk: folders that are written atomically, of which the newest two are kept. No torch here.

Other entries of their folder are never touched: copies under other names, links, and files of the user's.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Annotated, Any
from uuid import uuid4

import msgspec
from msgspec import Meta

from bench.console.console import log
from bench.environment.files import (
    PLAIN,
    FormatHeader,
    decode_json,
    fsync_path,
    hold_lock,
    make_folders,
    prefix_errors,
    read_limited,
    require_format,
    require_regular,
)
from bench.experiment.config import Experiment, change, differing_fields, format_differences

FORMAT = 2  # raise it when a file changes its meaning
OTHER_FORMAT_REMEDY = "train anew in another folder, or resume at the commit that it names"
MAX_KEPT = 2
TOWER, TENSORS, STATE, MANIFEST = FILES = (
    "tower.safetensors",
    "state.safetensors",
    "state.json",
    "manifest.json",
)
NAME = re.compile(r"step-([0-9]{8,})")  # of a checkpoint
# Of one that is being written or removed.
UNFINISHED = re.compile(rf"\.{NAME.pattern}\.[0-9a-f]{{32}}\.part")
Writer = Callable[["HashedFile"], None]  # writes the content of a file


class CheckpointConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a training's checkpoints."""

    folder: str  # Folder of the checkpoints.
    interval_minutes: float  # Minutes between two checkpoints.
    resume_from: str = ""  # Checkpoint to resume from; empty: the training starts anew.
    tensorboard: str = ""  # Folder of TensorBoard event files; empty: none are written.


class CheckpointMetadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The metadata of a checkpoint, in `state.json` beside its tensors."""

    format: int = FORMAT
    comparison: Annotated[str, Meta(pattern=rf"^{PLAIN}\Z")]  # of its records
    experiment: Experiment
    budgets: dict[str, int]
    commit: str
    steps_taken: int  # steps of trunk and cool-downs
    phase: str  # description of the next step's segment
    images: int  # training images so far
    processes: int  # number that shared each batch
    data_digest: str  # of the training data's files
    seconds: float  # of training, without time lost with killed processes
    decoded: int = 0  # images that rank 0 read so far, or tried to
    unusable: dict[str, int] = {}  # of them, by what is wrong with them
    overflows: int = 0  # updates that fp16 skipped so far


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The size and the digest of a file of a checkpoint, as its manifest has them."""

    bytes: int
    sha256: str


class HashedFile:
    """A file that is opened for writing, and the digest of all that is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._num_bytes = 0

    def write(self, content: Any) -> None:
        """Write bytes, or an object with a buffer of bytes."""
        self._digest.update(content)
        self._num_bytes += len(content)
        self._file.write(content)

    def writelines(self, contents: Iterable[Any]) -> None:
        for content in contents:
            self.write(content)

    @property
    def entry(self) -> FileEntry:
        return FileEntry(bytes=self._num_bytes, sha256=self._digest.hexdigest())


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, newest first."""
    checkpoints = [
        path for path in folder.glob("step-*") if NAME.fullmatch(path.name) and path.is_dir()
    ]
    return sorted(checkpoints, key=_step_of_name, reverse=True)


def write_checkpoint(
    folder: Path, saved: CheckpointMetadata, writers: Mapping[str, Writer]
) -> Path:
    """Write a checkpoint, keep the previous one, and remove the others.

    `writers` write the files `TOWER` and `TENSORS`. They are written to a temporary folder, which is renamed after all
    files are flushed. Errors of the writers, and OSError, leave the checkpoints unchanged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove([path for path in folder.iterdir() if UNFINISHED.fullmatch(path.name)])
    path = folder / f"step-{saved.steps_taken:08}"
    temporary = _temporary_name(path)
    temporary.mkdir()
    try:
        entries = {name: _write_file(temporary / name, write) for name, write in writers.items()}
        entries[STATE] = _write_json(temporary / STATE, saved)
        _write_json(temporary / MANIFEST, entries)
        fsync_path(temporary)
        if _is_own(path):  # it was damaged, and the training resumed from the previous one
            _remove([path])
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    fsync_path(folder)
    checkpoints = [checkpoint for checkpoint in list_checkpoints(folder) if _is_own(checkpoint)]
    kept = checkpoints[checkpoints.index(path) :][:MAX_KEPT]
    _remove(checkpoint for checkpoint in checkpoints if checkpoint not in kept)
    return path


def read_checkpoint(path: Path) -> CheckpointMetadata:
    """Verify every file of a checkpoint against its manifest; ValueError or OSError names the defect."""
    with prefix_errors(MANIFEST):
        manifest = msgspec.convert(
            decode_json(read_limited(path / MANIFEST), dict), dict[str, FileEntry]
        )
    for name in (TOWER, TENSORS, STATE):
        if manifest.get(name) != _describe_file(path / name):
            raise ValueError(f"{name} is not what {MANIFEST} says")
    saved = read_metadata(path)
    if saved.steps_taken != _step_of_name(path):
        raise ValueError(f"it is a copy of step {saved.steps_taken}")
    return saved


def read_metadata(path: Path) -> CheckpointMetadata:
    """Read the metadata of a checkpoint; ValueError if its format is not this version's."""
    content = read_limited(path / STATE)
    require_format(decode_json(content, FormatHeader), FORMAT, OTHER_FORMAT_REMEDY)
    return decode_json(content, CheckpointMetadata)


def latest_valid(folder: Path) -> tuple[Path, CheckpointMetadata]:
    """Return the newest valid checkpoint, and log damaged ones; ValueError if there is none."""
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        names = ", ".join(sorted(path.name for path in folder.parent.glob("[!.]*"))) or "nothing"
        raise ValueError(
            f"no checkpoint to resume from in {folder} ({folder.parent} holds {names})"
        )
    for path in checkpoints:
        try:
            saved = read_checkpoint(path)
        except (ValueError, OSError) as error:
            log(f"{path} is damaged and not resumed from: {error}")
        else:
            return path, saved
    raise ValueError(
        f"every checkpoint in {folder} is damaged: {', '.join(path.name for path in checkpoints)}"
    )


def require_same_experiment(
    saved: CheckpointMetadata, experiment: Experiment, processes: int, data_digest: str
) -> None:
    """Raise ValueError listing the fields in which a checkpoint's experiment differs, or for other data.

    The number of processes may differ if the global batch is equal, and `workers`, which change no batch.
    """
    before = change(saved.experiment, workers=experiment.input.workers)
    if saved.processes != processes:
        _require_equal_batches(before, saved.processes, experiment, processes)
        before = change(before, batch_size=experiment.training.batch_size)
    differences = differing_fields([before, experiment])
    if differences:
        raise ValueError(
            f"the checkpoint is of another experiment, they differ in {format_differences(differences)}"
        )
    if saved.data_digest != data_digest:
        raise ValueError(
            f"data={experiment.input.data}, its subset, vocabulary or teacher is not what it was: files were replaced"
        )


def _require_equal_batches(
    before: Experiment, processes_before: int, now: Experiment, processes: int
) -> None:
    sides = before.image.all_image_sizes
    if all(
        before.batch_size_for(side) * processes_before == now.batch_size_for(side) * processes
        for side in sides
    ):
        return
    global_batch_size = before.training.batch_size * processes_before
    if global_batch_size % processes == 0:
        remedy = f"--set batch_size={global_batch_size // processes}"
    else:
        remedy = f"as many, {global_batch_size} images have no equal parts"
    raise ValueError(
        f"the checkpoint is of {processes_before} processes with {before.training.batch_size} images per step each, "
        f"this is {processes} with {now.training.batch_size}: resume with {remedy}"
    )


def log_differences(path: Path, saved: CheckpointMetadata, processes: int, commit: str) -> None:
    """Log the differences between a checkpoint and the run that resumes from it."""
    if saved.processes != processes:
        message = f"{path} is of {saved.processes} processes, this is {processes}: the same images in the same steps"
        log(f"{message}, cropped by other draws, so that losses differ a little")
    if saved.commit != commit:
        log(f"{path} was written at commit {saved.commit}, this is {commit}")


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Lock a folder for one training (see `hold_lock`); ValueError if another training writes to it."""
    make_folders(folder)
    with (folder / ".lock").open("a") as file, ExitStack() as stack:
        try:
            stack.enter_context(hold_lock(file))
        except BlockingIOError:
            remedy = "name another folder with --out, or resume when it has ended, with --resume"
            raise ValueError(f"another training writes to {folder}: {remedy}") from None
        yield


def _write_file(path: Path, write: Writer) -> FileEntry:
    """Write a file and flush it to the disk."""
    with path.open("wb") as file:
        hashed = HashedFile(file)
        write(hashed)
        file.flush()
        os.fsync(file.fileno())
    return hashed.entry


def _write_json(path: Path, content: object) -> FileEntry:
    encoded = msgspec.json.format(msgspec.json.encode(content), indent=1)
    return _write_file(path, lambda file: file.write(encoded))


def _describe_file(path: Path) -> FileEntry:
    with require_regular(path).open("rb") as file:
        return FileEntry(
            bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest()
        )


def _step_of_name(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _is_own(path: Path) -> bool:
    """Return whether a folder is a checkpoint of the step in its name and nothing else, so that it may be removed.

    A damaged one may be of any step.
    """
    if path.is_symlink() or not path.is_dir():
        return False
    names = {file.name for file in path.iterdir()}
    with suppress(ValueError, OSError):
        if read_metadata(path).steps_taken != _step_of_name(path):
            return False
    return bool(names) and names <= {*FILES}


def _remove(paths: Iterable[Path]) -> None:
    """Remove folders, so that each is complete or absent at any moment; an error is logged, and the folder stays."""
    for path in paths:
        try:
            shutil.rmtree(path.rename(_temporary_name(path)))
        except OSError as error:
            log(f"{path} cannot be removed: {error.strerror or error}")


def _temporary_name(path: Path) -> Path:
    """Return a new name of `UNFINISHED` for a checkpoint, or for one that has such a name."""
    name = NAME.search(path.name)
    assert name is not None
    return path.with_name(f".{name[0]}.{uuid4().hex}.part")
