"""Readers of a device's figures, and NVML's of a GPU. "Busy" is the time with at least one running kernel."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pynvml

from bench.environment.gpu_settings import get_nvml_handle

Gauge = Callable[[], float]
# Called at the beginning of a block; the result is called at its end.
IntervalGauge = Callable[[], Gauge]

# Reasons for reduced clocks, by figure.
SLOWDOWNS = {
    "slowed by the power limit percent": ("SwPowerCap",),
    "slowed by heat percent": ("SwThermalSlowdown", "HwThermalSlowdown"),
    "slowed by the hardware percent": ("HwSlowdown", "HwPowerBrakeSlowdown"),
}
# Slowdowns that make a window void; the power limit belongs to the machine.
VOIDING_SLOWDOWNS = ("slowed by heat percent", "slowed by the hardware percent")
# Counters of Hopper and newer: fractions of the time of the streaming multiprocessors and of the tensor cores.
GPM = {
    "SM active percent": "NVML_GPM_METRIC_SM_UTIL",
    "SM occupancy percent": "NVML_GPM_METRIC_SM_OCCUPANCY",
    "tensor cores active percent": "NVML_GPM_METRIC_ANY_TENSOR_UTIL",
    "memory bandwidth percent": "NVML_GPM_METRIC_DRAM_BW_UTIL",
}


@dataclass(frozen=True, slots=True)
class DeviceGauges:
    """Functions that read a device, by the name and unit of their figure; `missing` says why others cannot be read.

    A gauge is read at a moment; an interval gauge is called at the beginning of a block, its result at the end.
    """

    gauges: Mapping[str, Gauge] = field(default_factory=dict)
    interval_gauges: Mapping[str, IntervalGauge] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


def make_rate_gauge(read_counter: Gauge, scale: float = 1.0) -> IntervalGauge:
    """Return an interval gauge of a rising counter: its rise per second, times `scale`."""

    def begin() -> Gauge:
        first = read_counter()
        start = time.perf_counter()

        def end() -> float:
            rise = read_counter() - first
            return max(0.0, scale * rise / (time.perf_counter() - start))

        return end

    return begin


def make_nvml_gauges(gpu_uuid: str) -> DeviceGauges:
    """Return NVML's gauges of the GPU with CUDA's `gpu_uuid`.

    Power is NVML's own average (over 1 s from Ampere on, instantaneous before); the energy counter's rise is exact. A
    figure that this device or driver does not support raises when it is read. Raises NVMLError if there is no such
    library or GPU.
    """
    pynvml.nvmlInit()
    handle = get_nvml_handle(gpu_uuid)
    gauges: dict[str, Gauge] = {
        "GPU busy percent": lambda: float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        "power W": lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        "SM clock MHz": lambda: float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
        "temperature C": lambda: float(
            pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
        ),
    }
    for name, reasons in SLOWDOWNS.items():
        gauges[name] = partial(_hundred_percent_if_throttled, handle, reasons)
    millijoules = partial(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle)
    interval_gauges: dict[str, IntervalGauge] = {
        "power W, by the energy counter": make_rate_gauge(millijoules, 1e-3)
    }
    for name, metric in GPM.items():
        interval_gauges[name] = partial(_begin_gpm_interval, handle, getattr(pynvml, metric))
    return DeviceGauges(gauges, interval_gauges)


def read_process_gpu_bytes(gpu_uuid: str) -> int:
    """Return this process's device memory in bytes, context and kernels included; LookupError if NVML has none.

    In a container NVML may use other process ids, and then does not find this one.
    """
    pynvml.nvmlInit()
    handle = get_nvml_handle(gpu_uuid)
    for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
        if process.pid == os.getpid():
            return int(process.usedGpuMemory)
    raise LookupError("NVML does not list this process")


def _hundred_percent_if_throttled(handle: Any, reason_names: tuple[str, ...]) -> float:
    """Return 100 if clocks are reduced now for one of these reasons, else 0; the mean is a share of time."""
    current = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    reasons = [getattr(pynvml, f"nvmlClocksThrottleReason{name}") for name in reason_names]
    return 100.0 if any(current & reason for reason in reasons) else 0.0


def _begin_gpm_interval(handle: Any, metric: int) -> Gauge:
    """Sample one of the GPU's performance counters; the result samples again and returns the figure."""
    first = _take_gpm_sample(handle)

    def end() -> float:
        request = pynvml.c_nvmlGpmMetricsGet_t()
        request.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        request.numMetrics = 1
        request.sample1 = first
        request.sample2 = _take_gpm_sample(handle)
        request.metrics[0].metricId = metric
        pynvml.nvmlGpmMetricsGet(request)
        pynvml.nvmlGpmSampleFree(request.sample1)
        pynvml.nvmlGpmSampleFree(request.sample2)
        measured = request.metrics[0]
        if measured.nvmlReturn != pynvml.NVML_SUCCESS:
            raise pynvml.NVMLError(measured.nvmlReturn)
        return float(measured.value)

    return end


def _take_gpm_sample(handle: Any) -> Any:
    return pynvml.nvmlGpmSampleGet(handle, pynvml.nvmlGpmSampleAlloc())
