"""A disk that fills while a training saves and a record is written: what was there stays, and that is reported."""

from pathlib import Path

import pytest
import torch

from bench.console.console import StopRequest
from bench.records.current import collect_circumstances
from bench.records.record import Failure, Record, read_record, write_record
from bench.train.checkpoint_manager import CheckpointManager
from bench.train.checkpoints import (
    CheckpointConfig,
    list_checkpoints_newest_first,
    verify_and_read_metadata,
)
from tests.chaos.disks import fill_disk, mount_small_disk
from tests.chaos.made import write_shards
from tests.chaos.short import short_experiment, train_in_process

ROOM = 2.5  # checkpoints that the disk holds: two are kept while a third is written


def train(out: Path, data: Path) -> None:
    """Train and save three times."""
    experiment = short_experiment("catlip", data=str(data), images=24)
    out.mkdir()
    config = CheckpointConfig(folder=str(out / "checkpoints"), interval_minutes=1e-9)
    train_in_process(
        experiment,
        out,
        CheckpointManager(config, "disk", {"all": experiment.training.images}, StopRequest()),
    )


def test_disk_that_fills_loses_no_checkpoint_and_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.train.loop.CHECK_INTERVAL", 2)
    write_shards(tmp_path / "data")
    train(tmp_path / "roomy", tmp_path / "data")
    size = sum(
        file.stat().st_size
        for file in list_checkpoints_newest_first(tmp_path / "roomy" / "checkpoints")[0].iterdir()
    )
    assert "is kept" not in capsys.readouterr().err
    with mount_small_disk(disk := tmp_path / "disk", int(ROOM * size)) as is_mounted:
        if not is_mounted:
            pytest.skip("root alone may mount a disk")
        train(disk / "out", tmp_path / "data")
        assert "the one before it is kept" in capsys.readouterr().err
        assert [
            verify_and_read_metadata(path).steps_taken
            for path in list_checkpoints_newest_first(disk / "out" / "checkpoints")
        ] == [4, 2]
        assert not [*disk.rglob("*.part")]
        failure = Failure(what="x", reason="y" * 100_000)
        where = collect_circumstances(None, torch.device("cpu"))
        record = Record(comparison="disk", experiment=None, circumstances=where, measured=failure)
        write_record(record, disk / "disk.failure.x.json")
        fill_disk(disk)
        with pytest.raises(OSError, match="No space left"):
            write_record(record, disk / "disk.failure.x.json")
        assert read_record(disk / "disk.failure.x.json") == record
        assert not [*disk.glob(".*")]
