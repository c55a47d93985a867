"""Checkpoints on disk: folders that are written atomically; the newest two are kept. No torch here.

Other entries of their folder are never touched: copies under other names, links, and the user's files.
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from bench.console.console import log
from bench.environment.files import (
    PLAIN,
    FormatNumber,
    decode_json,
    fsync_path,
    hold_file_lock,
    make_folders_unless_in_root,
    prefix_errors,
    read_bytes_unless_larger,
    require_format_number,
    require_regular_file_if_exists,
)
from bench.experiment.config import (
    Experiment,
    change,
    differing_values_by_field,
    format_field_differences,
)

FORMAT = 4  # raise it when a file changes its meaning
OTHER_FORMAT_REMEDY = "train anew in another folder, or resume at the commit that it names"
TENSORS = "state.safetensors"
STATE = "state.json"
NAME = re.compile(r"step-([0-9]{8,})")
UNFINISHED = ".checkpoint.part"  # the folder of a checkpoint that is being written or removed


class CheckpointConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a training's checkpoints."""

    folder: str  # Folder of the checkpoints.
    interval_minutes: float  # Minutes between two checkpoints.
    resume_from: str = ""  # Checkpoint to resume from; empty: the training starts anew.


class CheckpointMetadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The metadata of a checkpoint, in `state.json` beside its tensors."""

    format: int = FORMAT
    comparison: Annotated[str, Meta(pattern=rf"^{PLAIN}\Z")]  # of its records
    experiment: Experiment
    commit: str
    steps_taken: int  # steps of trunk and cool-downs
    processes: int  # number that shared each batch
    data_digest: str  # of the training data's files
    seconds: float  # of training, without time lost with killed processes
    decoded: int = 0  # images that rank 0 read so far, or tried to
    unusable: dict[str, int] = {}  # number of them by what is wrong
    overflows: int = 0  # updates that fp16 skipped so far
    sha256: str = ""  # of the tensors' file


def list_checkpoints_newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, newest first."""
    checkpoints = [
        path for path in folder.glob("step-*") if NAME.fullmatch(path.name) and path.is_dir()
    ]
    return sorted(checkpoints, key=_step_in_name, reverse=True)


def write_checkpoint_and_remove_old(
    folder: Path, metadata: CheckpointMetadata, write_tensors: Callable[[Path], None]
) -> Path:
    """Write a checkpoint, keep the previous one, and remove the others.

    `write_tensors` writes the tensors' file. The files are written to a temporary folder, which is renamed after all
    are flushed. Errors of `write_tensors`, and OSError, leave the checkpoints unchanged.
    """
    path = folder / f"step-{metadata.steps_taken:08}"
    temporary = folder / UNFINISHED
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process
    temporary.mkdir(parents=True)
    try:
        write_tensors(temporary / TENSORS)
        metadata = replace(metadata, sha256=_sha256_of_file(temporary / TENSORS))
        encoded = msgspec.json.encode(metadata)
        (temporary / STATE).write_bytes(msgspec.json.format(encoded, indent=1))
        fsync_path(temporary / TENSORS)
        fsync_path(temporary / STATE)
        fsync_path(temporary)
        earlier = list_checkpoints_newest_first(folder)
        if path in earlier:  # it was damaged, and the training resumed from the previous one
            shutil.rmtree(path)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync_path(folder)
    previous = [other for other in earlier if _step_in_name(other) < metadata.steps_taken]
    for checkpoint in earlier:
        if checkpoint not in (path, *previous[:1]):
            _remove_checkpoint(checkpoint)
    return path


def verify_and_read_metadata(path: Path) -> CheckpointMetadata:
    """Read the metadata and verify the tensors' file by its digest; ValueError or OSError names the defect."""
    with prefix_errors(STATE):
        saved = read_checkpoint_metadata(path)
    if _sha256_of_file(path / TENSORS) != saved.sha256:
        raise ValueError(f"{TENSORS} is not what {STATE} says")
    return saved


def read_checkpoint_metadata(path: Path) -> CheckpointMetadata:
    """Read the metadata of a checkpoint; ValueError if its format is not this version's."""
    content = read_bytes_unless_larger(path / STATE)
    require_format_number(decode_json(content, FormatNumber), FORMAT, OTHER_FORMAT_REMEDY)
    return decode_json(content, CheckpointMetadata)


def find_latest_valid_checkpoint(folder: Path) -> tuple[Path, CheckpointMetadata]:
    """Return the newest checkpoint that is not damaged, and its metadata; log damaged ones. ValueError if all are."""
    for path in list_checkpoints_newest_first(folder):
        try:
            return path, verify_and_read_metadata(path)
        except (ValueError, OSError) as error:
            log(f"{path} is damaged and not resumed from: {error}")
    raise ValueError(f"no valid checkpoint to resume from in {folder}")


def require_resumable(
    saved: CheckpointMetadata, experiment: Experiment, num_processes: int, data_digest: str
) -> None:
    """Raise ValueError unless a checkpoint is of the same experiment, data and images per step over all processes.

    The number of processes may differ, and `workers`, which change no batch.
    """
    before = change(saved.experiment, workers=experiment.input.workers)
    if saved.processes != num_processes:
        for side in before.image.all_image_sizes:
            global_batch_size = before.device_batch_size_at(side) * saved.processes
            if experiment.device_batch_size_at(side) * num_processes != global_batch_size:
                raise ValueError(
                    f"the checkpoint is of {saved.processes} processes with together {global_batch_size} images of "
                    f"{side} px per step: {num_processes} processes need a batch_size that gives as many"
                )
        before = change(before, batch_size=experiment.training.batch_size)
    differences = differing_values_by_field([before, experiment])
    if differences:
        raise ValueError(
            f"the checkpoint is of another experiment, they differ in {format_field_differences(differences)}"
        )
    if saved.data_digest != data_digest:
        raise ValueError(
            f"data={experiment.input.data}, its subset, vocabulary or teacher is not what it was: files were replaced"
        )


def log_resume_differences(
    path: Path, saved: CheckpointMetadata, num_processes: int, commit: str
) -> None:
    """Log the differences between a checkpoint and the run that resumes from it."""
    if saved.processes != num_processes:
        log(
            f"{path} is of {saved.processes} processes, this is {num_processes}: the same images in the same steps, "
            "with other crops"
        )
    if saved.commit != commit:
        log(f"{path} was written at commit {saved.commit}, this is {commit}")


@contextmanager
def lock_training_folder(folder: Path) -> Iterator[None]:
    """Lock a folder while the block runs (see `hold_file_lock`); ValueError if another training writes to it."""
    make_folders_unless_in_root(folder)
    with (folder / ".lock").open("a") as file, ExitStack() as stack:
        try:
            stack.enter_context(hold_file_lock(file))
        except BlockingIOError:
            remedy = "name another folder with --out, or resume when it has ended, with --resume"
            raise ValueError(f"another training writes to {folder}: {remedy}") from None
        yield


def _sha256_of_file(path: Path) -> str:
    """Return the digest of a file's content."""
    with require_regular_file_if_exists(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _step_in_name(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, so that it is complete or absent at any moment; one with other files, and a link, stay."""
    names = {file.name for file in path.iterdir()}
    if path.is_symlink() or names - {TENSORS, STATE}:
        return
    temporary = path.with_name(UNFINISHED)
    try:
        shutil.rmtree(path.rename(temporary))
    except OSError as error:
        log(f"{path} cannot be removed: {error.strerror or error}")
