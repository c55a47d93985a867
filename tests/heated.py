"""A CPU that is heated before its windows, as a GPU is."""

from collections.abc import Callable

import pytest

import bench.measure.heating as heating_module
from bench.profilers.nvml import SM_CLOCK, TEMPERATURE, DeviceReader


def heat_like_a_gpu(
    patch: pytest.MonkeyPatch, longest: float, **gauges: Callable[[], float]
) -> None:
    """Heat a CPU, with standing still for 0.2 s and these readings of `clock` and `temperature`."""
    names = {"clock": SM_CLOCK, "temperature": TEMPERATURE}
    patch.setitem(heating_module.HEATING_SECONDS, "cpu", longest)
    patch.setattr(heating_module, "STEADY_SECONDS", 0.2)
    patch.setattr(heating_module, "READING_SECONDS", 0.005)
    patch.setattr(heating_module, "MIN_READINGS", 2)
    reader = DeviceReader({names[name]: gauge for name, gauge in gauges.items()})
    patch.setattr(heating_module, "open_reader", lambda _: reader)
