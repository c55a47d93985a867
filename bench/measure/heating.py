"""Steps before the first window, until a GPU keeps its clock and its temperature."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean

import torch

from bench.profilers.clock import synchronize
from bench.profilers.device import open_reader, sampled
from bench.profilers.nvml import SM_CLOCK, TEMPERATURE, DeviceReader, Gauge
from bench.records.record import HeatState
from bench.train.distributed import all_reduce_max

HEATING_SECONDS = {"cuda": 20.0}  # longest: a cold GPU has clocks that it does not keep
STEADY_SECONDS = 3.0
READING_SECONDS = 0.1
MIN_READINGS = 0.8 * STEADY_SECONDS / READING_SECONDS  # in each such time: NVML may answer late
# A quarter of their grain: a clock has bins of 15 MHz, a temperature whole degrees.
CLOCK_TOLERANCE_MHZ = 15 / 4
TEMPERATURE_TOLERANCE_C = 1 / 4
STATES: tuple[HeatState, ...] = ("steady", "unsteady", "not read")  # the worst of all ranks counts


@dataclass(frozen=True, slots=True)
class HeatReading:
    """The SM clock and the temperature of a GPU."""

    seconds: float  # since the heating began
    clock_mhz: float
    temperature_c: float


def is_steady(readings: Sequence[HeatReading], seconds: float) -> bool:
    """Return whether the means of clock and temperature over 3 s have been steady for 3 s, at so many seconds.

    Means, because a clock jumps between bins, and a temperature that rises by a degree in 5 s seems steady for as long.
    Changes of less than 4 MHz or 0.2 degrees a second may pass, as may those after more than 5 s without one. A
    clock that jumps by several bins is not steady.
    """
    recent = [reading for reading in readings if reading.seconds > seconds - 2 * STEADY_SECONDS]
    count = len(recent) // 2
    if count < MIN_READINGS or seconds < 2 * STEADY_SECONDS:
        return False
    for values, tolerance in (
        ([reading.clock_mhz for reading in recent], CLOCK_TOLERANCE_MHZ),
        ([reading.temperature_c for reading in recent], TEMPERATURE_TOLERANCE_C),
    ):
        means = [fmean(values[first : first + count]) for first in range(len(values) - count + 1)]
        if max(means) - min(means) > tolerance:
            return False
    return True


@dataclass(slots=True)
class Heating:
    """The heating of a device: how long it has lasted, and what it has reached. A CPU needs none."""

    device: torch.device
    seconds: float = 0.0  # of all ranks the longest
    state: HeatState | None = None  # None: no heating
    readings: list[HeatReading] = field(default_factory=list)
    _start: float = field(default_factory=time.perf_counter)

    def is_over(self) -> bool:
        """Wait for the device, and return whether all ranks are steady, or one has heated for `HEATING_SECONDS`.

        All ranks get the same answer, so that they take the same steps.
        """
        longest = HEATING_SECONDS.get(self.device.type, 0.0)
        if not longest:
            return True
        synchronize(self.device)
        elapsed = time.perf_counter() - self._start
        state: HeatState = "steady" if is_steady(self.readings, elapsed) else "unsteady"
        if (
            not self.readings or self.readings[-1].seconds < elapsed - STEADY_SECONDS
        ):  # NVML may fail midway
            state = "not read"
        self.seconds, worst = all_reduce_max([elapsed, float(STATES.index(state))], self.device)
        self.state = STATES[int(worst)]
        return self.state == "steady" or self.seconds >= longest

    def read(self, clock: Gauge, temperature: Gauge) -> float:
        """Add a reading, and return its temperature."""
        self.readings.append(HeatReading(time.perf_counter() - self._start, clock(), temperature()))
        return self.readings[-1].temperature_c


@contextmanager
def heating(device: torch.device) -> Iterator[Heating]:
    """Read clock and temperature of a GPU during the block, which takes steps until `is_over`; NVML may give none."""
    heat = Heating(device)
    gauges = open_reader(device).gauges if device.type in HEATING_SECONDS else {}
    reader = DeviceReader()
    if {SM_CLOCK, TEMPERATURE} <= gauges.keys():
        reader = DeviceReader(
            {TEMPERATURE: lambda: heat.read(gauges[SM_CLOCK], gauges[TEMPERATURE])}
        )
    with sampled(reader, device, every_s=READING_SECONDS):
        yield heat
