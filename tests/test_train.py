"""A schedule of warm-up, constant trunk and cool-downs; same command, same seed, same losses to the last bit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench.record import Training
from bench.towers import how_made
from bench.train import cooldown_rate, train, trunk_rate
from tests.small import small

CPU = torch.device("cpu")


def trained(results: Path, folder: Path, budgets: dict[str, int], method: str = "catlip") -> Training:
    folder.mkdir()
    return train(small(method), CPU, results, budgets, lambda images: folder / f"{images}.safetensors")


def towers(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.name: load_file(path) for path in sorted(folder.glob("*.safetensors"))}


def test_the_same_training_gives_the_same_losses_and_towers_to_the_last_bit(results: Path, tmp_path: Path) -> None:
    runs = [trained(results, tmp_path / name, {"equal images": 96}, "superclass") for name in "ab"]
    assert runs[0].trunk_losses == runs[1].trunk_losses
    assert runs[0].cooldown_losses == runs[1].cooldown_losses
    one, other = towers(tmp_path / "a")["96.safetensors"], towers(tmp_path / "b")["96.safetensors"]
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_branch_leaves_no_trace_in_the_trunk(results: Path, tmp_path: Path) -> None:
    """The tower of a budget is the same whatever shorter budgets were cooled down on the way."""
    alone = trained(results, tmp_path / "alone", {"equal images": 160})
    branched = trained(results, tmp_path / "branched", {"half": 80, "equal images": 160})
    assert alone.trunk_losses == branched.trunk_losses
    one, other = (towers(tmp_path / name)["160.safetensors"] for name in ("alone", "branched"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [branch.images for branch in branched.branches] == [80, 160]
    assert len(branched.trunk_losses) + len(branched.cooldown_losses[-1]) == 160 // 16


def test_equal_budgets_share_a_branch_and_the_tower_says_how_it_was_made(results: Path, tmp_path: Path) -> None:
    training = trained(results, tmp_path / "x", {"equal images": 96, "equal device seconds": 96})
    assert len(training.branches) == 1
    made = how_made(tmp_path / "x" / "96.safetensors")
    assert made.experiment == small("catlip")
    assert (made.images, made.budgets) == (96, ("equal images", "equal device seconds"))


def test_the_rate_rises_stays_and_falls_without_a_jump() -> None:
    experiment = small("clip", learning_rate=1.0, warmup_images=64)  # 4 steps of 16
    assert [trunk_rate(experiment, step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    cooled = [cooldown_rate(experiment, step, 10, 14) for step in range(10, 14)]
    assert cooled == pytest.approx([0.8, 0.6, 0.4, 0.2])
