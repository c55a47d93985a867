"""A checkpoint is complete or not there, the newest two are kept, and what is damaged is never resumed from."""

import random
import shutil
import time
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench.data.samples import training_files_digest
from bench.train.checkpoints import (
    FORMAT,
    STATE,
    TENSORS,
    CheckpointMetadata,
    find_latest_valid_checkpoint,
    list_checkpoints_newest_first,
    require_resumable,
    verify_and_read_metadata,
    write_checkpoint_and_remove_old,
)
from tests.processes import started, wait_until
from tests.small import small

KILLS = 5
DIGEST = training_files_digest(small("catlip").input, small("catlip").targets)


def written(folder: Path, step: int, seed: int = 0, **changes: Any) -> Path:
    """Write a checkpoint with a megabyte in it."""
    saved = CheckpointMetadata(
        comparison="20260101T000000-train",
        experiment=small("catlip", seed=seed),
        commit="c",
        steps_taken=step,
        processes=1,
        data_digest=DIGEST,
        seconds=1.0,
    )
    return write_checkpoint_and_remove_old(
        folder,
        replace(saved, **changes),
        lambda path: path.write_bytes(bytes([step % 256]) * 1_000_000),
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_checkpoint_round_trips(tmp_path: Path) -> None:
    path = written(tmp_path / "checkpoints", 1200)
    assert path.name == "step-00001200"
    assert find_latest_valid_checkpoint(tmp_path / "checkpoints") == (
        path,
        verify_and_read_metadata(path),
    )
    assert verify_and_read_metadata(path).experiment == small("catlip")
    assert names(path) == sorted([TENSORS, STATE])


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 1200):
        written(tmp_path, step)
    assert names(tmp_path) == ["step-00000015", "step-00001200"]
    assert list_checkpoints_newest_first(tmp_path)[0].name == "step-00001200"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


@pytest.fixture(params=product((cut, flip, Path.unlink), (TENSORS, STATE)))
def damaged_file(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The name of a file that is damaged in the newer of two checkpoints, after 5 and 10 steps."""
    damage, name = request.param
    written(tmp_path, 5)
    damage(written(tmp_path, 10) / name)
    return str(name)


@pytest.mark.usefixtures("damaged_file")
def test_the_checkpoint_before_a_damaged_one_is_resumed_from(tmp_path: Path) -> None:
    assert find_latest_valid_checkpoint(tmp_path)[0].name == "step-00000005"


def test_damaged_checkpoint_is_named_with_its_file(
    damaged_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find_latest_valid_checkpoint(tmp_path)
    text = capsys.readouterr().err
    assert "step-00000010 is damaged and not resumed from" in text
    assert damaged_file in text


@pytest.mark.usefixtures("damaged_file")
def test_the_next_checkpoint_replaces_a_damaged_one_of_a_later_step(tmp_path: Path) -> None:
    written(tmp_path, 7)
    assert names(tmp_path) == ["step-00000005", "step-00000007"]


@pytest.mark.usefixtures("damaged_file")
def test_damaged_checkpoint_is_written_anew_at_its_step(tmp_path: Path) -> None:
    written(tmp_path, 10)
    assert find_latest_valid_checkpoint(tmp_path)[0].name == "step-00000010"


def test_folder_without_a_valid_checkpoint_is_refused(tmp_path: Path) -> None:
    for step in (5, 10):
        cut(written(tmp_path, step) / TENSORS)
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ValueError, match="no valid checkpoint to resume from in"):
            find_latest_valid_checkpoint(folder)


def test_another_format_is_refused_by_its_number(tmp_path: Path) -> None:
    saved = replace(verify_and_read_metadata(written(tmp_path, 5)), format=99)
    path = write_checkpoint_and_remove_old(tmp_path, saved, Path.touch)
    message = f"has format 99, this version reads format {FORMAT}: train anew"
    with pytest.raises(ValueError, match=message):
        verify_and_read_metadata(path)


def test_checkpoint_of_another_experiment_is_refused_with_the_differences(tmp_path: Path) -> None:
    saved = verify_and_read_metadata(written(tmp_path, 5))
    require_resumable(saved, small("catlip"), 1, DIGEST)
    require_resumable(saved, small("catlip", workers=2), 1, DIGEST)  # workers change no batch
    with pytest.raises(
        ValueError, match="data=shipped-pack, its subset, vocabulary or teacher is not what it was"
    ):
        require_resumable(replace(saved, data_digest="other"), small("catlip"), 1, DIGEST)
    with pytest.raises(ValueError, match=r"differ in seed: 0 / 3; .*learning_rate: 0.001 / 0.5"):
        require_resumable(saved, small("catlip", seed=3, learning_rate=0.5), 1, DIGEST)


def test_resume_with_another_world_size_needs_the_same_global_batch(tmp_path: Path) -> None:
    saved = verify_and_read_metadata(written(tmp_path, 5))  # one process, 16 images per step
    require_resumable(saved, small("catlip", batch_size=8), 2, DIGEST)
    for batch, processes in ((16, 2), (5, 3)):
        with pytest.raises(
            ValueError, match="is of 1 processes with together 16 images of 48 px per step"
        ):
            require_resumable(saved, small("catlip", batch_size=batch), processes, DIGEST)
    with pytest.raises(ValueError, match="they differ in seed: 0 / 1"):
        require_resumable(saved, small("catlip", batch_size=8, seed=1), 2, DIGEST)
    with pytest.raises(ValueError, match="they differ in batch_size: 16 / 8"):
        require_resumable(saved, small("catlip", batch_size=8), 1, DIGEST)
    sizes = replace(saved, experiment=small("catlip", random_image_sizes=[36, 48], batch_size=9))
    # One process has 9 images of 48 px or 16 of 36 px, three have 3 x 3 or 3 x 5.
    with pytest.raises(ValueError, match="images of 36 px"):
        require_resumable(
            sizes, small("catlip", random_image_sizes=[36, 48], batch_size=3), 3, DIGEST
        )


def test_a_write_that_fails_leaves_the_checkpoints_as_they_were(tmp_path: Path) -> None:
    written(tmp_path, 5)
    saved = verify_and_read_metadata(tmp_path / "step-00000005")

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        write_checkpoint_and_remove_old(tmp_path, saved, fail)
    assert names(tmp_path) == ["step-00000005"]
    verify_and_read_metadata(tmp_path / "step-00000005")


def test_entries_of_the_users_are_never_touched(tmp_path: Path) -> None:
    elsewhere = written(tmp_path / "elsewhere", 5)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "step-notes.txt").touch()
    (folder / "step-00000001").symlink_to(elsewhere)
    shutil.copytree(elsewhere, folder / "step-00000005-good")
    for step in (5, 10, 15, 20):
        path = written(folder, step)
        if step == 5:
            (path / "notes.txt").touch()
    assert names(folder) == [
        "step-00000001",
        "step-00000005",
        "step-00000005-good",
        "step-00000015",
        "step-00000020",
        "step-notes.txt",
    ]
    verify_and_read_metadata(elsewhere)


def write_from(folder: Path, first: int) -> None:
    for step in count(first):
        written(folder, step)


def newest_step(folder: Path) -> int:
    """The number in the newest checkpoint's name; 0 where there is none."""
    return max(
        (int(path.name.rpartition("-")[2]) for path in list_checkpoints_newest_first(folder)),
        default=0,
    )


def test_a_writer_killed_at_any_moment_leaves_only_complete_checkpoints(tmp_path: Path) -> None:
    draw, first = random.Random(0), 1
    for _ in range(KILLS):
        writer = started(write_from, tmp_path, first)
        wait_until(lambda first=first: newest_step(tmp_path) >= first)
        time.sleep(draw.uniform(0.0, 0.05))
        writer.kill()
        writer.join()
        found = list_checkpoints_newest_first(tmp_path)
        # A third where it was killed between writing one and removing another.
        assert len(found) <= 3
        for path in found:
            verify_and_read_metadata(path)
        first = verify_and_read_metadata(found[0]).steps_taken + 1
    written(tmp_path, first)
    assert len(names(tmp_path)) == 2  # nothing is left of what was cut off
