"""A checkpoint is complete or not there, the newest two are kept, and what is damaged is never resumed from."""

import os
import platform
import random
import shutil
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from msgspec.structs import replace

from bench.console.console import StopRequest
from bench.data.samples import inputs_digest
from bench.environment.rank_info import RankInfo
from bench.experiment.config import change
from bench.train.checkpoint_manager import CheckpointManager
from bench.train.checkpoints import (
    MANIFEST,
    STATE,
    TENSORS,
    TOWER,
    CheckpointConfig,
    CheckpointMetadata,
    HashedFile,
    exclusive_lock,
    latest_valid,
    list_checkpoints,
    read_checkpoint,
    require_same_experiment,
    write_checkpoint,
)
from tests.processes import in_ranks, started, wait_until
from tests.small import small

if TYPE_CHECKING:
    from bench.train.build import TrainState

ROOT = Path(__file__).parents[2]
KILLS = 5
DIGEST = inputs_digest(small("catlip"))


def written(folder: Path, step: int, seed: int = 0, **changes: Any) -> Path:
    """A checkpoint with a megabyte in it."""
    saved = CheckpointMetadata(
        comparison="20260101T000000-train",
        experiment=small("catlip", seed=seed),
        budgets={"equal images": 96},
        commit="c",
        steps_taken=step,
        phase="trunk",
        images=16 * step,
        processes=1,
        data_digest=DIGEST,
        seconds=1.0,
    )

    content = bytes([step % 256])
    writers = {
        TOWER: lambda file: file.write(content * 1000),
        TENSORS: lambda file: file.writelines([content * 600_000, content * 400_000]),
    }
    return write_checkpoint(folder, replace(saved, **changes), writers)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_checkpoint_round_trips(tmp_path: Path) -> None:
    path = written(tmp_path / "checkpoints", 1200)
    assert path.name == "step-00001200"
    assert latest_valid(tmp_path / "checkpoints") == (path, read_checkpoint(path))
    assert read_checkpoint(path).experiment == small("catlip")
    assert names(path) == sorted([TOWER, TENSORS, STATE, MANIFEST])


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 1200):
        written(tmp_path, step)
    assert names(tmp_path) == ["step-00000015", "step-00001200"]
    assert list_checkpoints(tmp_path)[0].name == "step-00001200"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [TOWER, TENSORS, STATE, MANIFEST])
@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_damaged_checkpoint_is_named_and_the_previous_one_used(
    damage: Callable[[Path], None], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, 5)
    damage(written(tmp_path, 10) / name)
    assert latest_valid(tmp_path)[0].name == "step-00000005"
    text = capsys.readouterr().err
    assert "step-00000010 is damaged and not resumed from" in text
    assert name in text
    written(tmp_path, 7)  # who went on from the whole one; it counts, not the damaged
    assert names(tmp_path) == ["step-00000005", "step-00000007"]
    damage(written(tmp_path, 10) / name)
    written(tmp_path, 10)
    assert latest_valid(tmp_path)[0].name == "step-00000010"


def test_copy_under_the_name_of_another_step_is_not_resumed_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(written(tmp_path, 5), tmp_path / "step-00000020")
    assert latest_valid(tmp_path)[0].name == "step-00000005"
    assert (
        "step-00000020 is damaged and not resumed from: it is a copy of step 5"
        in capsys.readouterr().err
    )


def test_all_damaged_checkpoints_are_named(tmp_path: Path) -> None:
    for step in (5, 10):
        cut(written(tmp_path, step) / TOWER)
    with pytest.raises(
        ValueError, match=r"every checkpoint in .* is damaged: step-00000010, step-00000005"
    ):
        latest_valid(tmp_path)


def test_missing_checkpoint_error_lists_the_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"no checkpoint to resume from in .*holds notes.txt"):
        latest_valid(tmp_path / "checkpoints")


def test_another_format_is_refused_by_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = read_checkpoint(written(tmp_path, 5))
    shutil.rmtree(tmp_path / "step-00000005")
    later = CheckpointMetadata(
        **{field: getattr(saved, field) for field in saved.__struct_fields__} | {"format": 99}
    )
    write_checkpoint(tmp_path, later, dict.fromkeys((TOWER, TENSORS), lambda file: file.write(b"")))
    with pytest.raises(ValueError, match="is damaged"):
        latest_valid(tmp_path)
    assert (
        "has format 99, this version reads format 2: train anew in another folder"
        in capsys.readouterr().err
    )


def test_checkpoint_of_another_experiment_is_refused_with_the_differences(tmp_path: Path) -> None:
    saved = read_checkpoint(written(tmp_path, 5))
    require_same_experiment(saved, small("catlip"), 1, DIGEST)
    with pytest.raises(
        ValueError, match="data=pack, its subset, vocabulary or teacher is not what it was"
    ):
        require_same_experiment(
            msgspec.structs.replace(saved, data_digest="other"), small("catlip"), 1, DIGEST
        )
    with pytest.raises(ValueError, match=r"differ in seed: 0 / 3; .*learning_rate: 0.001 / 0.5"):
        require_same_experiment(saved, small("catlip", seed=3, learning_rate=0.5), 1, DIGEST)


def test_resume_with_another_number_of_loader_workers_continues(tmp_path: Path) -> None:
    saved = read_checkpoint(written(tmp_path, 5))
    for before, now in ((4, "auto"), ("auto", 2), (2, 0)):
        experiment = change(saved.experiment, workers=before)
        require_same_experiment(
            msgspec.structs.replace(saved, experiment=experiment),
            small("catlip", workers=now),
            1,
            DIGEST,
        )


def test_resume_with_another_world_size_needs_the_same_global_batch(tmp_path: Path) -> None:
    saved = read_checkpoint(written(tmp_path, 5))  # of one process with 16
    require_same_experiment(saved, small("catlip", batch_size=8), 2, DIGEST)
    for batch, processes, remedy in (
        (16, 2, "--set batch_size=8"),
        (16, 3, "as many, 16 images have no equal parts"),
    ):
        with pytest.raises(
            ValueError, match=f"is of 1 processes with 16 images .* with 16: resume with {remedy}"
        ):
            require_same_experiment(saved, small("catlip", batch_size=batch), processes, DIGEST)
    with pytest.raises(ValueError, match="they differ in seed: 0 / 1"):
        require_same_experiment(saved, small("catlip", batch_size=8, seed=1), 2, DIGEST)
    with pytest.raises(ValueError, match="they differ in batch_size: 16 / 8"):
        require_same_experiment(saved, small("catlip", batch_size=8), 1, DIGEST)
    sizes = msgspec.structs.replace(
        saved, experiment=small("catlip", image_sizes=[32, 40], batch_size=9)
    )
    with pytest.raises(
        ValueError, match="resume with --set batch_size=3"
    ):  # 3 x 13 images of 40 px are not 13
        require_same_experiment(
            sizes, small("catlip", image_sizes=[32, 40], batch_size=3), 3, DIGEST
        )


def test_a_write_that_fails_leaves_the_checkpoints_as_they_were(tmp_path: Path) -> None:
    written(tmp_path, 5)
    saved = read_checkpoint(tmp_path / "step-00000005")

    def fail(file: HashedFile) -> None:
        file.write(b"half")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        write_checkpoint(tmp_path, saved, {TOWER: fail})
    assert names(tmp_path) == ["step-00000005"]
    read_checkpoint(tmp_path / "step-00000005")


def test_one_training_at_a_time_writes_to_a_folder(tmp_path: Path) -> None:
    with (
        exclusive_lock(tmp_path),
        pytest.raises(ValueError, match="another training writes to"),
        exclusive_lock(tmp_path),
    ):
        pass
    with exclusive_lock(tmp_path):
        pass


def file(path: Path) -> None:
    path.write_text("a user's")


def link(path: Path) -> None:
    """Make a link to a checkpoint elsewhere."""
    path.symlink_to(written(path.parent.parent / "elsewhere", 5))


def copy(path: Path) -> None:
    """Copy a checkpoint, with a note."""
    shutil.copytree(written(path.parent.parent / "elsewhere", 5), path)
    file(path / "notes.txt")


def plain_copy(path: Path) -> None:
    """Copy a checkpoint of another step than those that are saved."""
    shutil.copytree(written(path.parent.parent / "elsewhere", 7), path)


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def endless(path: Path) -> None:
    path.symlink_to(path)


def contents(path: Path) -> dict[str, bytes | str]:
    """Return the content of a file, a link or a folder."""
    if path.is_symlink():
        return {".": str(path.readlink())}
    files = path.rglob("*") if path.is_dir() else [path]
    return {str(one.relative_to(path)): one.read_bytes() for one in files if one.is_file()}


STRAY = (
    *(
        "step-notes.txt",
        "step-00000005.bak",
        "step-00000010-good",
        "step-",
        "step-5",
        "step-00000011",
        "step-99999999",
    ),
    *("step-٠٠٠٠٠٠١٠", "step-00000010\n", "step-00000010 (copy)", "STEP-00000010"),
    *(".x.part", ".step-00000020.part", ".step-00000010.old.part", ".part"),
)


@pytest.mark.parametrize(
    "make", [file, link, copy, plain_copy, dangling, endless, os.mkfifo, Path.mkdir]
)
def test_stray_entry_is_never_touched_and_never_prevents_a_save(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    strays = [folder / name for name in STRAY]
    for stray in strays:
        make(stray)
    before = {stray: contents(stray) for stray in strays}
    for step in (5, 10, 15, 20):
        assert read_checkpoint(written(folder, step)).steps_taken == step
    assert {stray: contents(stray) for stray in strays if os.path.lexists(stray)} == before
    own = [path for path in list_checkpoints(folder) if path not in strays]
    assert [read_checkpoint(path).steps_taken for path in own] == [20, 15]
    assert {*folder.iterdir()} == {*strays, *own}


def test_checkpoint_that_holds_a_users_notes_is_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        path = written(tmp_path, step)
        if step == 5:
            file(path / "notes.txt")
    assert names(tmp_path) == ["step-00000005", "step-00000010", "step-00000015"]


def test_checkpoints_are_written_through_a_link_to_their_folder(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "checkpoints").symlink_to("disk")
    for step in (5, 10, 15):
        written(tmp_path / "checkpoints", step)
    assert names(tmp_path / "disk") == ["step-00000010", "step-00000015"]


@pytest.mark.parametrize(("make", "name"), [(file, "."), (Path.mkdir, ".lock")])
def test_folder_that_cannot_be_locked_is_named(
    make: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"
    (folder / name).parent.mkdir(exist_ok=True)
    make(folder / name)
    with pytest.raises((OSError, ValueError), match=str(folder)), exclusive_lock(folder):
        pass


def test_checkpoint_that_cannot_be_removed_prevents_no_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    for step in (5, 10):
        written(tmp_path, step)
    monkeypatch.setattr(
        shutil, "rmtree", lambda path, ignore_errors=False: ignore_errors or refuse(path)
    )
    written(tmp_path, 15)
    assert (
        capsys.readouterr().err
        == f"{tmp_path / 'step-00000005'} cannot be removed: Operation not permitted\n"
    )
    monkeypatch.undo()
    written(tmp_path, 20)
    assert names(tmp_path) == ["step-00000015", "step-00000020"]


def write_from(folder: Path, first: int) -> None:
    for step in count(first):
        written(folder, step)


def newest_step(folder: Path) -> int:
    """The number in the newest checkpoint's name; 0 where there is none."""
    return max((int(path.name.rpartition("-")[2]) for path in list_checkpoints(folder)), default=0)


def test_a_writer_killed_at_any_moment_leaves_only_complete_checkpoints(tmp_path: Path) -> None:
    draw, first = random.Random(0), 1
    for _ in range(KILLS):
        writer = started(write_from, tmp_path, first)
        wait_until(lambda first=first: newest_step(tmp_path) >= first)
        time.sleep(draw.uniform(0.0, 0.05))
        writer.kill()
        writer.join()
        found = list_checkpoints(tmp_path)
        # A third where it was killed between writing one and removing another.
        assert len(found) <= 3
        for path in found:
            read_checkpoint(path)
        first = read_checkpoint(found[0]).steps_taken + 1
    written(tmp_path, first)
    assert len(names(tmp_path)) == 2  # nothing is left of what was cut off


def refused(rank: int, _ranks: int, folder: Path, owner: int) -> str:
    """Return the error of a rank whose node has a folder of its own, of which the owner's alone has a checkpoint."""
    own = folder / f"node {rank}"
    own.mkdir(parents=True, exist_ok=True)
    if rank == owner:
        written(own, 5)
    manager = CheckpointManager(
        CheckpointConfig(folder=str(own), interval_minutes=1), "c", {}, StopRequest()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.train.checkpoint_manager.LISTING_SECONDS", 1)
        patch.setattr("bench.environment.rank_info.torchrun_env", lambda: RankInfo(rank, 2, 0, 1))
        with pytest.raises(ValueError, match="newest checkpoint") as refusal:
            manager.restore(cast("TrainState", None))
    return str(refusal.value)


@pytest.mark.parametrize("owner", [0, 1])
def test_checkpoint_on_one_node_alone_is_refused(owner: int, tmp_path: Path) -> None:
    for text in in_ranks(refused, 2, tmp_path, tmp_path / "out", owner):
        assert f"step-00000005 on {platform.node()}, node {owner}" in text
        assert f"none on {platform.node()}, node {1 - owner}" in text
        assert "name a folder in --out that all nodes share" in text
