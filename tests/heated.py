"""A CPU that is heated before its windows, as a GPU is."""

import pytest

import bench.measure.heating as heating_module


def heat_like_a_gpu(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """Heat a CPU for so long."""
    patch.setitem(heating_module.HEATING_SECONDS, "cpu", seconds)
