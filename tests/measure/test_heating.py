"""A GPU is heated until clock and temperature are steady; what still rises never passes as steady."""

import math
import random
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch

import bench.measure.speed as speed_module
from bench.measure.heating import (
    HEATING_SECONDS,
    READING_SECONDS,
    Heating,
    HeatReading,
    heating,
    is_steady,
)
from bench.measure.speed import measure_speed, planned_phase_steps
from bench.measure.summary import describe_heating
from tests.heated import heat_like_a_gpu
from tests.processes import in_ranks, wait_until
from tests.small import small
from tests.speeds import speed

CPU = torch.device("cpu")
Signal = Callable[[float], float]
BIN_MHZ, LONGEST = 15.0, HEATING_SECONDS["cuda"]
STEADY_CLOCK, STEADY_TEMPERATURE = 1755.0, 61.0


def first_steady(clock: Signal, temperature: Signal, longest: float = LONGEST) -> float | None:
    """Return the seconds after which a heating that is read at its pace is steady; None if it never is."""
    readings = list[HeatReading]()
    for number in range(1, int(longest / READING_SECONDS) + 1):
        seconds = number * READING_SECONDS
        in_bins = BIN_MHZ * round(clock(seconds) / BIN_MHZ)
        readings.append(HeatReading(seconds, in_bins, float(math.floor(temperature(seconds)))))
        if is_steady(readings, seconds + 0.01):
            return seconds
    return None


def still(value: float) -> Signal:
    return lambda _: value


def ramp(start: float, per_second: float) -> Signal:
    return lambda seconds: start + per_second * seconds


def jittered(signal: Signal, seed: int) -> Signal:
    """Add one bin to about half of a clock's readings."""
    draw = random.Random(seed)
    return lambda seconds: signal(seconds) + BIN_MHZ * draw.getrandbits(1)


def test_device_that_stands_still_is_steady_after_six_seconds() -> None:
    assert first_steady(still(STEADY_CLOCK), still(STEADY_TEMPERATURE)) == pytest.approx(6.0)


@pytest.mark.parametrize("per_second", [-0.2, 0.2, 0.25, 0.5, 1.0, 3.0])
def test_temperature_that_changes_slowly_is_not_steady(per_second: float) -> None:
    """At 0.2 degrees a second its whole degrees seem steady for 5 s."""
    for tenth in range(10):
        temperature = ramp(40 + tenth / 10, per_second)
        assert first_steady(still(STEADY_CLOCK), temperature) is None


@pytest.mark.parametrize("per_second", [-20.0, -3.0, 3.0, 5.0, 20.0])
def test_clock_that_changes_slowly_is_not_steady(per_second: float) -> None:
    for part in range(10):
        assert first_steady(ramp(1500 + 1.5 * part, per_second), still(STEADY_TEMPERATURE)) is None


@pytest.mark.parametrize("per_second", [-10.0, -5.0, 5.0, 10.0])
def test_jitter_of_a_bin_does_not_hide_a_changing_clock(per_second: float) -> None:
    for seed in range(100):
        clock = jittered(ramp(1500 + seed / 10, per_second), seed)
        assert first_steady(clock, still(STEADY_TEMPERATURE)) is None


def test_most_clocks_that_only_jump_between_two_bins_are_steady_in_time() -> None:
    found = [
        first_steady(jittered(still(STEADY_CLOCK), seed), still(STEADY_TEMPERATURE))
        for seed in range(100)
    ]
    assert sum(seconds is not None for seconds in found) >= 90


@pytest.mark.parametrize("plateau", [1.0, 3.0, 4.5])
@pytest.mark.parametrize("rise", [2.0, 4.0])
def test_plateau_before_a_second_rise_is_not_steady(plateau: float, rise: float) -> None:
    """The second rise ends after the plateau and eight seconds; nothing before it is steady."""

    def temperature(seconds: float) -> float:
        second = min(8.0, max(0.0, seconds - rise - plateau))
        return 35.5 + 5 * min(seconds, rise) + second

    found = first_steady(still(STEADY_CLOCK), temperature, longest=60)
    assert found is not None
    assert found > rise + plateau + 8


def test_temperature_that_approaches_its_end_is_steady_near_it() -> None:
    found = first_steady(still(STEADY_CLOCK), lambda seconds: 61.5 - 25 * math.exp(-seconds / 3))
    assert found is not None
    assert 25 * math.exp(-found / 3) < 1.5


def test_readings_that_end_are_not_steady() -> None:
    """NVML may fail in the middle of the heating."""
    readings = [
        HeatReading(READING_SECONDS * number, STEADY_CLOCK, STEADY_TEMPERATURE)
        for number in range(100)
    ]
    assert is_steady(readings, 9.95)
    assert not is_steady(readings, 14.0)
    assert not is_steady([], 20.0)


def heat(longest: float, **gauges: Callable[[], float]) -> Heating:
    """Heat until it is over."""
    with pytest.MonkeyPatch.context() as patch:
        heat_like_a_gpu(patch, longest, **gauges)
        with heating(CPU) as found:
            wait_until(found.is_over)
    return found


def test_heating_ends_once_clock_and_temperature_stand_still() -> None:
    found = heat(1e3, clock=lambda: STEADY_CLOCK, temperature=lambda: STEADY_TEMPERATURE)
    assert found.state == "steady"
    assert 0.4 <= found.seconds < 1e3


def test_rising_temperature_is_heated_for_the_longest_time() -> None:
    degrees = count()
    found = heat(0.6, clock=lambda: STEADY_CLOCK, temperature=lambda: float(next(degrees)))
    assert found.state == "unsteady"
    assert found.seconds >= 0.6


@pytest.mark.parametrize("gauges", [(), ("clock",), ("temperature",)])
def test_gpu_without_nvml_is_heated_for_the_longest_time(gauges: tuple[str, ...]) -> None:
    found = heat(0.6, **dict.fromkeys(gauges, lambda: 1.0))
    assert found.state == "not read"
    assert found.seconds >= 0.6


def test_cpu_is_not_heated() -> None:
    assert HEATING_SECONDS == {"cuda": 20.0}
    with heating(CPU) as found:
        assert found.is_over()
    assert (found.seconds, found.state) == (0.0, None)


def steps_of_rank(rank: int, _ranks: int) -> tuple[int, str | None]:
    """Heat until it is over; the temperature of the second rank rises for as long as the first one is read."""
    steps = 0
    with pytest.MonkeyPatch.context() as patch:
        heat_like_a_gpu(
            patch,
            1.0,
            clock=lambda: STEADY_CLOCK,
            temperature=lambda: rank * time.perf_counter() * 100,
        )
        with heating(CPU) as found:
            while not found.is_over():
                steps += 1
    return steps, found.state


def test_all_ranks_heat_for_the_same_steps_until_the_last_is_steady(tmp_path: Path) -> None:
    first, second = in_ranks(steps_of_rank, 2, tmp_path)
    assert first == second
    assert first[0] > 0
    assert first[1] == "unsteady"


def test_speed_record_says_how_a_gpu_was_heated(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heat_like_a_gpu(monkeypatch, 0.3, clock=lambda: STEADY_CLOCK)
    taken = list[int]()
    plain = speed_module.take_steps_at_full_learning_rate
    monkeypatch.setattr(
        speed_module,
        "take_steps_at_full_learning_rate",
        lambda run, steps: (taken.extend(steps), plain(run, steps))[1],
    )
    found = measure_speed(small("catlip", steps_per_window=3), CPU, results, 1)
    assert found.heat_state == "not read"
    assert 0.3 <= found.heating_seconds <= found.warmup_seconds
    assert taken == [*range(len(taken))]
    heated = len(taken) - 1 - len(found.window_seconds)  # without warm-up and windows of one step
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
    experiment = small("catlip", windows=2, steps_per_window=3, image_sizes=sizes)
    assert planned_phase_steps(experiment, torch.device(device), 16) == range(16, 16 + expected)


def test_page_can_say_that_a_gpu_was_still_warming() -> None:
    steady = speed(heating_seconds=6.5, heat_state="steady")
    warming, unread = (
        speed(heating_seconds=20.0, heat_state=state) for state in ("unsteady", "not read")
    )
    assert describe_heating([speed()]) == ""
    assert describe_heating([steady, steady]) == "6.5 s of it heating, until steady"
    assert (
        describe_heating([steady, warming, warming])
        == "20.0 s of it heating; still warming in 2 of 3 runs"
    )
    assert describe_heating([unread]) == "20.0 s of it heating; clock or temperature not read"
