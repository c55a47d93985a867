"""A GPU is heated before the first window, by the same steps on all ranks."""

from pathlib import Path

import pytest
import torch

import bench.measure.speed as speed_module
from bench.measure.heating import yield_until_device_is_hot
from bench.measure.speed import measure_speed, plan_steps_timed_by_phase
from tests.heated import heat_like_a_gpu
from tests.processes import in_ranks
from tests.small import TWO_BLOCKS, few_images, small

CPU = torch.device("cpu")


def steps_of_rank(_rank: int, _ranks: int) -> int:
    steps = 0
    with pytest.MonkeyPatch.context() as patch:
        heat_like_a_gpu(patch, 0.5)
        for _ in yield_until_device_is_hot(CPU):
            steps += 1
    return steps


def test_all_ranks_heat_by_the_same_steps(tmp_path: Path) -> None:
    first, second = in_ranks(steps_of_rank, 2, tmp_path)
    assert first == second > 0


def test_heating_takes_whole_windows_before_the_first_one(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heat_like_a_gpu(monkeypatch, 0.3)
    taken = list[int]()
    plain = speed_module.take_steps_at_full_learning_rate
    monkeypatch.setattr(
        speed_module,
        "take_steps_at_full_learning_rate",
        lambda run, steps: (taken.extend(steps), plain(run, steps))[1],
    )
    speed = measure_speed(few_images("catlip", **TWO_BLOCKS, steps_per_window=3), CPU, results, 1)
    assert speed.warmup_seconds >= 0.3
    assert taken == [*range(len(taken))]
    heated = len(taken) - 1 - len(speed.window_seconds)  # without warm-up and windows
    assert heated > 0
    assert heated % 3 == 0


@pytest.mark.parametrize(
    ("device", "sizes", "expected"),
    [("cpu", (), 6), ("cuda", (), 3), ("cuda", (32, 48), 6)],
    ids=str,
)
def test_phases_of_a_gpu_are_those_of_one_window(
    device: str, sizes: tuple[int, ...], expected: int
) -> None:
    """Images of several sizes need more steps."""
    experiment = small("catlip", timed_windows=2, steps_per_window=3, random_image_sizes=sizes)
    assert plan_steps_timed_by_phase(
        experiment.timing, torch.device(device), 16, has_several_sizes=bool(sizes)
    ) == range(16, 16 + expected)
