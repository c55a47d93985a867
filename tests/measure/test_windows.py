"""The rule for windows: those whose threads hardly waited count, and nothing else decides."""

import math
from dataclasses import replace

import numpy as np
import pytest

from bench.measure.windows import MAX_WAITING_CORES, MAX_WINDOWS_FACTOR, TimingWindows
from tests.simulated_machines import MACHINES, Machine, compare, simulate, summarize

NUMBER = 20


def windows_of(
    seconds: list[float] | np.ndarray, waits: list[float] | np.ndarray = (), planned: int = NUMBER
) -> TimingWindows:
    return TimingWindows(planned, [128] * len(seconds), list(seconds), list(waits))


def test_slow_windows_that_did_not_wait_count_in_full() -> None:
    """A method whose own steps vary more is not shown faster for it."""
    seconds = np.random.default_rng(0).lognormal(0, 0.3, NUMBER)
    windows = windows_of(seconds, [0.0] * NUMBER)
    assert windows.num_counted() == NUMBER
    assert windows.undisturbed_images_per_second() == pytest.approx(128 / np.mean(seconds))


@pytest.mark.parametrize("slowdown", [1.3, 50.0])
@pytest.mark.parametrize("disturbed", [1, 10, 15])
def test_windows_that_waited_do_not_count_however_many_they_are(
    slowdown: float, disturbed: int
) -> None:
    quiet = np.random.default_rng(1).lognormal(0, 0.04, NUMBER)
    seconds = np.where(np.arange(NUMBER) < disturbed, slowdown * quiet, quiet)
    windows = windows_of(seconds, 1 - quiet / seconds)
    assert windows.num_counted() == NUMBER - disturbed
    assert windows.undisturbed_images_per_second() == pytest.approx(128 / quiet[disturbed:].mean())


def test_seconds_of_waiting_are_subtracted_from_windows_that_count() -> None:
    waits = np.linspace(0, MAX_WAITING_CORES, NUMBER)
    windows = windows_of(1 / (1 - waits), waits)
    assert windows.undisturbed_images_per_second() == pytest.approx(128)


def test_run_with_few_counted_windows_has_no_undisturbed_rate() -> None:
    waits = [0.0] * 4 + [1.0] * 16
    assert windows_of([1.0] * NUMBER, waits).undisturbed_images_per_second() is None
    assert windows_of(
        [1.0] * NUMBER, [0.0, *waits[:-1]]
    ).undisturbed_images_per_second() == pytest.approx(128)
    assert windows_of([1.0] * NUMBER, waits).images_per_second_of_all_windows() == 128


def test_run_goes_on_until_enough_windows_count_or_its_limit_is_reached() -> None:
    quiet = windows_of([1.0] * NUMBER, [0.0] * NUMBER)
    assert quiet.has_enough_windows()
    assert not windows_of([1.0] * (NUMBER - 1), [0.0] * (NUMBER - 1)).has_enough_windows()
    one_waited = replace(quiet, waiting_cores=[1.0, *quiet.waiting_cores[1:]])
    assert not one_waited.has_enough_windows()
    at_limit = MAX_WINDOWS_FACTOR * NUMBER
    assert windows_of([1.0] * at_limit, [1.0] * at_limit).has_enough_windows()


def test_throttled_windows_do_not_count() -> None:
    windows = replace(
        windows_of([1.0] * 10 + [2.0] * 10), throttled_percent=[0.0] * 10 + [20.0] * 10
    )
    assert windows.num_counted() == 10
    assert windows.undisturbed_images_per_second() == pytest.approx(128)


def test_every_window_counts_where_waits_are_not_reported() -> None:
    windows = windows_of([1.0] * 10 + [2.0] * 10)
    assert windows.num_counted() == NUMBER
    assert windows.undisturbed_images_per_second() == windows.images_per_second_of_all_windows()


def test_left_out_windows_do_not_change_the_mix_of_image_sizes() -> None:
    """Small images take a tenth of the time of large ones; other work met the large ones only."""
    images = [100, 10] * 10
    seconds = [1.0, 1.0] * 10
    waits = [0.0] * NUMBER
    quiet = TimingWindows(NUMBER, images, seconds, waits)
    for index in range(1, 15, 2):
        seconds[index] = 5.0
        waits[index] = 0.8
    assert TimingWindows(
        NUMBER, images, seconds, waits
    ).undisturbed_images_per_second() == pytest.approx(quiet.undisturbed_images_per_second())
    only_large_waited = TimingWindows(NUMBER, images, seconds, [0.0, 0.8] * 10)
    assert only_large_waited.undisturbed_images_per_second() is None


@pytest.mark.parametrize(
    "name",
    [
        "unequal spread",
        "every fifth step 25 % longer",
        "bursts, slow steps, pauses",
        "two speeds, 5 times, 2 s",
    ],
)
def test_interval_covers_the_true_ratio(name: str) -> None:
    """docs/results/measuring.md has the shares of more comparisons on more machines."""
    machine = MACHINES[name]
    result = summarize(machine, [compare(simulate(machine, seed)) for seed in range(40)])
    assert abs(result.bias) < 0.02
    assert result.coverage >= 0.9  # of 120 ratios, where 95 % is expected
    assert result.answered == 1


def test_machine_that_is_always_busy_gets_no_verdict() -> None:
    machine = Machine(slowdown=2.2, dwell_seconds=math.inf, inequality=0.3)
    ratios = compare(simulate(machine, 0)).values()
    assert {ratio.verdict for ratio in ratios} == {"inconclusive"}
    assert {ratio.low for ratio in ratios} == {None}
