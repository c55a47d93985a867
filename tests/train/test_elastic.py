"""A training resumes with another number of processes: the same images in the same steps, equal up to rounding.

Images are so narrow that no random crop fits and all are cut alike: crops are drawn by each process.
"""

from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

import bench.train.loop as train_module
from bench.console.console import TERMINATED, StopRequest
from bench.train.checkpoint_manager import CheckpointManager
from bench.train.checkpoints import CheckpointConfig, find_latest_valid_checkpoint
from bench.train.loop import train
from tests.data.shards import CAPTIONS, encode_image, make_image, write_shard
from tests.processes import in_ranks
from tests.small import small

BATCH, IMAGES = 16, 192
Losses = tuple[float, ...]


class StopsLater(StopRequest):
    """A signal that comes after a few looks."""

    looks = 0

    @property
    def exit_code(self) -> int:
        self.looks += 1
        return TERMINATED if self.looks > 4 else 0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    members = {}
    for number in range(40):
        members[f"{number:02}.png"] = encode_image(make_image(number, 20, 120), "PNG")
        members[f"{number:02}.txt"] = CAPTIONS[number % 6].encode()
    return write_shard(tmp_path_factory.mktemp("data") / "0.tar", members)


def trained(
    processes: int, data: Path, results: Path, kept: Path, *, after: Path | None = None, stops: bool
) -> Losses:
    """Train, from a checkpoint of others on or until a signal comes; leave checkpoints and a tower."""
    changes = {
        "batch_size": BATCH // processes,
        "images_seen": IMAGES,
        "sharding": "fsdp2",
        "data": str(data),
    }
    experiment = small("clip", **changes, flip=False, crop_scale=(1.0, 1.0))
    taken_up = "" if after is None else str(find_latest_valid_checkpoint(after)[0])
    checkpoint_config = CheckpointConfig(
        folder=str(kept), interval_minutes=1e6, resume_from=taken_up
    )
    manager = CheckpointManager(
        checkpoint_config,
        "20260101T000000-train",
        StopsLater() if stops else StopRequest(),
    )
    tower = kept.with_suffix(".safetensors")
    with (
        patch.object(train_module, "CHECK_INTERVAL", 2),
        pytest.raises(SystemExit) if stops else nullcontext() as stopped,
    ):
        training = train(
            experiment, torch.device("cpu"), results, {"x": IMAGES}, lambda _: tower, manager
        )
    if stopped is not None:
        assert stopped.value.code == TERMINATED
        return ()
    return training.trunk_losses + training.cooldown_losses[0]


def joint(_rank: int, ranks: int, data: Path, results: Path, folder: Path) -> Losses:
    """Go on from one process's checkpoint; begin anew and leave one."""
    losses = trained(ranks, data, results, folder / "2-after-1", after=folder / "1", stops=False)
    trained(ranks, data, results, folder / "2", stops=True)
    return losses


@pytest.mark.slow
def test_resume_with_more_or_fewer_processes_equals_an_unchanged_world_size(
    data: Path, results: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    whole = trained(1, data, results, tmp_path / "whole", stops=False)
    trained(1, data, results, tmp_path / "1", stops=True)
    taken = find_latest_valid_checkpoint(tmp_path / "1")[1].steps_taken
    assert 0 < taken < len(whole)
    more, other = in_ranks(joint, 2, tmp_path, data, results, tmp_path)
    assert more == other
    assert find_latest_valid_checkpoint(tmp_path / "2")[1].processes == 2
    fewer = trained(1, data, results, tmp_path / "1-after-2", after=tmp_path / "2", stops=False)
    assert more[:taken] == whole[:taken]
    assert more != whole, "the two processes did not go on"
    for losses in (more, fewer):
        torch.testing.assert_close(torch.tensor(losses), torch.tensor(whole), rtol=1e-3, atol=1e-4)
    state, others = (load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "1-after-2"))
    for name, value in state.items():
        torch.testing.assert_close(others[name], value, rtol=1e-2, atol=1e-3)
