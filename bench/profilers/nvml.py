"""What NVML tells of a GPU. "Busy" is the share of time in which at least one kernel ran; it is not efficiency."""

import os
from functools import partial
from typing import Any

import pynvml

from bench.profilers.reader import Figure, Reader, Span, rising

# Why a GPU runs below its clocks, by what the reader calls it.
SLOWDOWNS = {
    "slowed by the power limit percent": ("SwPowerCap", "HwPowerBrakeSlowdown"),
    "slowed by heat percent": ("SwThermalSlowdown", "HwThermalSlowdown"),
    "slowed by the hardware percent": ("HwSlowdown",),
}
# Counters of Hopper and newer: shares of the streaming multiprocessors' and of the tensor cores' time.
GPM = {
    "SM active percent": "NVML_GPM_METRIC_SM_UTIL",
    "SM occupancy percent": "NVML_GPM_METRIC_SM_OCCUPANCY",
    "tensor cores active percent": "NVML_GPM_METRIC_ANY_TENSOR_UTIL",
    "memory bandwidth percent": "NVML_GPM_METRIC_DRAM_BW_UTIL",
}


def nvml_reader(uuid: str, index: int, nvml: Any = pynvml) -> Reader:
    """Return what NVML can read of the GPU, or the slice of one (MIG), that CUDA calls `index` and knows by `uuid`.

    Power is NVML's own average (1 s from Ampere on, a moment before); the energy counter's rise is exact. A figure that
    this device or driver does not support raises when it is read. `nvml` is the library, an argument so that it can be
    tried without a GPU. Raises NVMLError where there is no such library or device.
    """
    nvml.nvmlInit()
    handle = device_handle(uuid, index, nvml)
    gauges: dict[str, Figure] = {
        "GPU busy percent": lambda: float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        "memory controller busy percent": lambda: float(nvml.nvmlDeviceGetUtilizationRates(handle).memory),
        "power W": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        "SM clock MHz": lambda: float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
        "memory clock MHz": lambda: float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
        "temperature C": lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
    } | {name: partial(_slowed, handle, reasons, nvml) for name, reasons in SLOWDOWNS.items()}
    spans: dict[str, Span] = {
        "power W, by the energy counter": rising(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000)
    } | {name: partial(_gpm_span, handle, getattr(nvml, metric), nvml) for name, metric in GPM.items()}
    return Reader(gauges, spans)


def device_handle(uuid: str, index: int, nvml: Any = pynvml) -> Any:
    """Return NVML's handle of the device that CUDA calls `index`: the two libraries number devices differently.

    Found by UUID; a MIG slice by what CUDA_VISIBLE_DEVICES says, where it names one.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    named = visible[index].strip() if index < len(visible) else ""
    tried = ([named] if named.startswith("MIG-") else []) + [f"GPU-{uuid}", f"MIG-{uuid}"]
    for name in tried[:-1]:
        try:
            return nvml.nvmlDeviceGetHandleByUUID(name)
        except nvml.NVMLError:
            continue
    return nvml.nvmlDeviceGetHandleByUUID(tried[-1])


def process_bytes(uuid: str, index: int, nvml: Any = pynvml) -> int | None:
    """Return what this process holds of the device's memory, context and kernels included; None where NVML is blind.

    In a container NVML may number processes otherwise, and then knows none by this one's number.
    """
    nvml.nvmlInit()
    running = nvml.nvmlDeviceGetComputeRunningProcesses(device_handle(uuid, index, nvml))
    return next((process.usedGpuMemory for process in running if process.pid == os.getpid()), None)


def _slowed(handle: Any, reasons: tuple[str, ...], nvml: Any) -> float:
    now = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return 100.0 * any(now & getattr(nvml, f"nvmlClocksThrottleReason{reason}") for reason in reasons)


def _gpm_span(handle: Any, metric: int, nvml: Any) -> Figure:
    """Read one of the GPU's performance counters over a span: two samples, and what changed between them."""
    first = _gpm_sample(handle, nvml)

    def end() -> float:
        question = nvml.c_nvmlGpmMetricsGet_t()
        question.version = nvml.NVML_GPM_METRICS_GET_VERSION
        question.numMetrics = 1
        question.sample1, question.sample2 = first, _gpm_sample(handle, nvml)
        question.metrics[0].metricId = metric
        try:
            nvml.nvmlGpmMetricsGet(question)
            answer = question.metrics[0]
            if answer.nvmlReturn != nvml.NVML_SUCCESS:
                raise nvml.NVMLError(answer.nvmlReturn)
            return float(answer.value)
        finally:
            nvml.nvmlGpmSampleFree(question.sample1)
            nvml.nvmlGpmSampleFree(question.sample2)

    return end


def _gpm_sample(handle: Any, nvml: Any) -> Any:
    sample = nvml.nvmlGpmSampleAlloc()
    if nvml.nvmlDeviceIsMigDeviceHandle(handle):
        whole, part = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle), nvml.nvmlDeviceGetGpuInstanceId(handle)
        return nvml.nvmlGpmMigSampleGet(whole, part, sample)
    return nvml.nvmlGpmSampleGet(handle, sample)
