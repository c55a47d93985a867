"""Disturbed rounds: found, left out for no experiment's advantage, and told where they may have changed a ratio."""

import numpy as np
import pytest

from bench.measure.disturbance import describe_disturbance
from bench.statistics import Disturbance, Windows, find_disturbed_rounds, is_slowed_unequally
from tests.simulated_machines import MACHINES, coverage

ROUNDS, WINDOWS = 10, 10
SPEEDS = {"a": 100.0, "b": 700.0, "c": 3.0}


def windows_of(slowdowns: dict[int, float], rounds: int = ROUNDS, seed: int = 0) -> dict[str, Windows]:
    """Return windows that vary by 3 %, all slower in some rounds."""
    random = np.random.default_rng(seed)
    return {
        name: {
            round_: (speed / slowdowns.get(round_, 1.0) * np.exp(random.normal(0, 0.03, WINDOWS))).tolist()
            for round_ in range(rounds)
        }
        for name, speed in SPEEDS.items()
    }


def quiet(rounds: int = ROUNDS) -> dict[int, float]:
    return dict.fromkeys(range(rounds), 0.5)


def test_slow_rounds_are_found_at_any_speed_of_the_experiments() -> None:
    assert not find_disturbed_rounds(windows_of({}), quiet()).disturbed_rounds
    found = find_disturbed_rounds(windows_of({2: 1.5, 7: 4.0}), quiet())
    assert found == Disturbance({}, {2: 1.0, 7: 1.0}, ROUNDS)
    assert found.has_enough_undisturbed_rounds
    assert not find_disturbed_rounds(windows_of({3: 1.05}), quiet()).disturbed_rounds  # run-to-run variation


def test_rounds_without_readings_and_without_comparable_windows_are_not_called_undisturbed() -> None:
    unread = dict.fromkeys(range(4))
    assert not find_disturbed_rounds(windows_of({}, 4), unread).is_checked
    assert not find_disturbed_rounds(windows_of({}, 4), unread | {0: 0.5}).is_checked
    assert find_disturbed_rounds(windows_of({}, 4), quiet(4)).is_checked
    assert find_disturbed_rounds(windows_of({}, 5), dict.fromkeys(range(5))).is_checked
    assert "unknown" in describe_disturbance(find_disturbed_rounds({}, unread))


def test_fewer_than_five_rounds_are_not_judged_by_their_windows() -> None:
    assert find_disturbed_rounds(windows_of({2: 4.0}, 5), quiet(5)).disturbed_rounds == {2}
    assert not find_disturbed_rounds(windows_of({2: 4.0}, 4), quiet(4)).disturbed_rounds


def test_rounds_beside_busy_processes_are_disturbed() -> None:
    found = find_disturbed_rounds(windows_of({}), quiet() | {1: 5.0, 4: 60.0, 6: 4.9})
    assert found == Disturbance({1: 5.0, 4: 60.0}, {}, ROUNDS)


def test_rounds_in_which_a_gpu_was_slowed_throughout_are_disturbed_though_no_window_can_be_judged() -> None:
    unread = dict.fromkeys(range(3))
    found = find_disturbed_rounds({}, unread, {1: 80.0})
    assert found.disturbed_rounds == {1}
    assert not found.has_enough_undisturbed_rounds
    assert describe_disturbance(found).startswith("This machine was disturbed in 1 of 3 rounds (heat or its hardware")


@pytest.mark.parametrize(
    ("rounds", "disturbed", "allowed"), [(10, 5, True), (10, 6, False), (15, 7, True), (8, 4, False), (2, 1, False)]
)
def test_verdicts_need_half_of_the_rounds_and_five(rounds: int, disturbed: int, allowed: bool) -> None:
    assert Disturbance(dict.fromkeys(range(disturbed), 9.0), {}, rounds).has_enough_undisturbed_rounds == allowed


def is_found(seed: int, slowdown_of_other: float) -> bool:
    """Return whether an inequality is found where half of the time, in stretches, the base is slowed by 1.5."""
    random = np.random.default_rng(seed)
    slow = np.repeat(random.random((ROUNDS, 2)) < 0.5, WINDOWS // 2, axis=1)
    base, other = np.exp(random.normal(0, 0.03, (2, ROUNDS, WINDOWS)))
    base[slow] /= 1.5
    other[slow] /= slowdown_of_other
    return is_slowed_unequally(dict(enumerate(base.tolist())), dict(enumerate(other.tolist())))


def test_contention_that_slows_one_experiment_more_is_found() -> None:
    assert sum(is_found(seed, 1.2) for seed in range(20)) >= 18
    assert sum(is_found(seed, 1.5) for seed in range(20)) <= 4


@pytest.mark.parametrize(
    "name", ["quiet", "two speeds, 100% apart, 200 s at each", "unequal, up to 30%, 20 s at each speed"]
)
def test_interval_covers_the_true_ratio_or_the_machine_is_called_disturbed(name: str) -> None:
    """docs/measuring.md has the shares of more comparisons on more machines."""
    found = coverage(MACHINES[name], 20)
    assert found["covers, or disturbed"] >= 0.85  # of 60 ratios, where 93 % is expected
    assert found["disturbed"] < (0.1 if name == "quiet" else 1)
