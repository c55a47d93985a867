"""A schedule of warm-up, constant trunk and cool-downs; same command, same seed, same losses to the last bit."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench.data.image_sizes import make_batch_shape_schedule
from bench.data.stream import PackStream
from bench.records.record import Training
from bench.towers.provenance import read_tower_provenance
from bench.train.loop import scheduled_learning_rate, train
from bench.train.state import ScheduleSegment
from reports.render.loss_curves import trunk_and_cooldown_points
from tests.small import TWO_BLOCKS, few_images, small
from tests.tensors import differing

CPU = torch.device("cpu")


def trained(
    results: Path, folder: Path, budgets: dict[str, int], method: str = "catlip", **changes: object
) -> Training:
    folder.mkdir()
    return train(
        few_images(method, **TWO_BLOCKS | changes),
        CPU,
        results,
        budgets,
        lambda images: folder / f"{images}.safetensors",
    )


def differing_towers(folder: Path, other: Path, images: int) -> list[str]:
    """Return the names of the tensors that differ between the towers of two trainings."""
    return differing(*(load_file(path / f"{images}.safetensors") for path in (folder, other)))


def test_cooldown_branch_does_not_change_the_trunk(results: Path, tmp_path: Path) -> None:
    """The tower of a budget is the same whatever shorter budgets were cooled down on the way."""
    separate = trained(results, tmp_path / "alone", {"equal images": 160})
    branched = trained(results, tmp_path / "branched", {"half": 80, "equal images": 160})
    assert separate.trunk_losses == branched.trunk_losses
    assert not differing_towers(tmp_path / "alone", tmp_path / "branched", 160)
    assert [branch.images for branch in branched.branches] == [80, 160]
    assert len(branched.trunk_losses) + len(branched.cooldown_losses[-1]) == 160 // 16


def test_equal_budgets_share_a_branch_and_the_tower_records_its_provenance(
    results: Path, tmp_path: Path
) -> None:
    budgets = {"equal images": 96, "equal device seconds": 96}
    training = trained(results, tmp_path / "x", budgets, subset="random:50")
    assert training.num_samples == 50
    assert len(training.branches) == 1
    provenance = read_tower_provenance(tmp_path / "x" / "96.safetensors")
    assert provenance.experiment == small("catlip", **TWO_BLOCKS, subset="random:50")
    assert (provenance.images, provenance.budgets) == (96, ("equal images", "equal device seconds"))


def test_learning_rate_schedule_is_continuous() -> None:
    experiment = small("clip", learning_rate=1.0, warmup_images=64)  # 4 steps of 16
    trunk = ScheduleSegment(0, range(10), None)
    rates = [scheduled_learning_rate(experiment, trunk, step) for step in range(6)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    cooldown = ScheduleSegment(10, range(10, 14), 224)
    cooled = [scheduled_learning_rate(experiment, cooldown, step) for step in range(10, 14)]
    assert cooled == pytest.approx([0.8, 0.6, 0.4, 0.2])


def test_cosine_warms_up_and_falls_to_the_minimum_rate() -> None:
    experiment = small(
        "clip", learning_rate=1.0, cosine_min_learning_rate=0.2, warmup_images=64, schedule="cosine"
    )
    whole = ScheduleSegment(0, range(12), 192)
    rates = [scheduled_learning_rate(experiment, whole, step) for step in range(13)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[8] == pytest.approx(0.6)  # half way
    assert rates[12] == pytest.approx(0.2)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_each_budget_has_its_own_cosine(results: Path, tmp_path: Path) -> None:
    both = trained(results, tmp_path / "both", {"half": 64, "equal images": 96}, schedule="cosine")
    separate = trained(results, tmp_path / "alone", {"equal images": 96}, schedule="cosine")
    assert both.trunk_losses == ()
    assert [len(losses) for losses in both.cooldown_losses] == [4, 6]
    assert both.cooldown_losses[1] == separate.cooldown_losses[0]
    assert not differing_towers(tmp_path / "both", tmp_path / "alone", 96)


def test_saved_tower_has_the_ema_weights(results: Path, tmp_path: Path) -> None:
    """The average only looks on, and a branch leaves no trace in it."""
    budgets = {"equal images": 96}
    changes = {"plain": {}, "followed": {"ema_decay": 0.0}, "slow": {"ema_decay": 0.9}}
    runs = [
        trained(results, tmp_path / name, budgets, **changed) for name, changed in changes.items()
    ]
    runs.append(trained(results, tmp_path / "branched", {"half": 64, **budgets}, ema_decay=0.9))
    assert len({run.trunk_losses for run in runs}) == 1
    # Decay 0 is the model itself.
    assert not differing_towers(tmp_path / "plain", tmp_path / "followed", 96)
    names = [name for name in load_file(tmp_path / "plain" / "96.safetensors") if "weight" in name]
    assert {*names} <= {*differing_towers(tmp_path / "plain", tmp_path / "slow", 96)}
    assert not differing_towers(tmp_path / "slow", tmp_path / "branched", 96)


def test_loss_curves_have_means_of_losses(results: Path, tmp_path: Path) -> None:
    """12 trunk and 3 cool-down steps by means of 2."""
    whole = trained(results, tmp_path / "whole", {"equal images": 240})
    trunk, cooldown = trunk_and_cooldown_points(
        make_batch_shape_schedule(small("catlip")), whole, 1, losses_per_point=2
    ).values()
    means = torch.tensor(whole.trunk_losses, dtype=torch.float64).view(6, 2).mean(1)
    assert [loss for _, loss in trunk] == pytest.approx(means.tolist())
    # Where each mean's steps end.
    assert [images for images, _ in trunk] == [*range(32, 193, 32)]
    assert [images for images, _ in cooldown] == [224, 240]


def test_time_waiting_for_data_is_counted(
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain, streams = PackStream.make_batch, set[PackStream]()

    def late(stream: PackStream, loaded: Any) -> object:
        streams.add(stream)
        time.sleep(0.1)
        return plain(stream, loaded)

    monkeypatch.setattr(PackStream, "make_batch", late)
    trained(results, tmp_path / "x", {"equal images": 96})
    (stream,) = streams
    assert 0.6 <= stream.wait_seconds < 60
    share = re.search(r"(\d+)% waiting for data", capsys.readouterr().err)
    assert share is not None
    assert 0 < int(share[1]) <= 100
