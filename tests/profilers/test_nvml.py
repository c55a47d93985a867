"""Figures of a GPU, with a simulated library in place of NVML: names, units and failures."""
# ruff: noqa: ARG002, N802 - the functions are named and called as NVML's are

import os
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from bench.environment.gpu_settings import device_handle
from bench.profilers.clock import clock
from bench.profilers.device import sampled
from bench.profilers.nvml import GPM, SLOWDOWNS, nvml_reader, process_bytes
from tests.processes import wait_until

CPU = torch.device("cpu")
UUID = "ffc79498-8ff3-c2dc-3b0d-fafd804516ae"


class Library:
    """NVML of a machine with one device; the constants, structures and errors are the real library's."""

    def __init__(self, known: str = f"GPU-{UUID}", *, mig: bool = False) -> None:
        self.known, self.mig, self.unsupported, self.millijoules = known, mig, set[str](), 5_000_000
        self.asked: list[str] = []
        self.reasons = pynvml.nvmlClocksThrottleReasonSwPowerCap | pynvml.nvmlClocksThrottleReasonGpuIdle

    def __getattr__(self, name: str) -> Any:
        return getattr(pynvml, name)

    def answer(self, name: str, value: Any) -> Any:
        self.asked.append(name)
        if name in self.unsupported:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return value

    def wait_for_readings(self, count: int) -> None:
        """Wait until every gauge was asked so often from now on."""
        before = self.asked.count("temperature")
        wait_until(lambda: self.asked.count("temperature") >= before + count)

    def nvmlInit(self) -> None:
        self.answer("nvmlInit", None)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != self.known:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return uuid

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        return self.answer("utilisation", SimpleNamespace(gpu=80, memory=30))

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return self.answer("power", 412_500)

    def nvmlDeviceGetClockInfo(self, handle: str, clock: int) -> int:
        return self.answer("clock", {pynvml.NVML_CLOCK_SM: 1755, pynvml.NVML_CLOCK_MEM: 2619}[clock])

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return self.answer("temperature", 61)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
        return self.answer("reasons", self.reasons)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        return self.answer("energy", self.millijoules)

    def nvmlDeviceIsMigDeviceHandle(self, handle: str) -> int:
        return int(self.mig)

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> str:
        return "whole"

    def nvmlDeviceGetGpuInstanceId(self, handle: str) -> int:
        return 3

    def nvmlGpmSampleAlloc(self) -> Any:
        self.answer("alloc", None)
        return pynvml.c_nvmlGpmSample_t()

    def nvmlGpmSampleFree(self, sample: Any) -> None:
        self.answer("free", None)

    def nvmlGpmSampleGet(self, handle: str, sample: Any) -> Any:
        assert not self.mig
        return self.answer("GPM", sample)

    def nvmlGpmMigSampleGet(self, handle: str, instance: int, sample: Any) -> Any:
        assert (handle, instance) == ("whole", 3)
        return self.answer("GPM", sample)

    def nvmlGpmMetricsGet(self, question: Any) -> None:
        assert question.numMetrics == 1
        question.metrics[0].value = float(question.metrics[0].metricId)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=1, usedGpuMemory=5), SimpleNamespace(pid=os.getpid(), usedGpuMemory=7)]


def read(library: Library, joules: float = 0.0) -> Any:
    with sampled(nvml_reader(UUID, 0, library), CPU, every_s=0.01) as readings:
        library.wait_for_readings(3)
        library.millijoules += int(1000 * joules)
    return readings


@pytest.mark.parametrize("mig", [False, True])
def test_readings_have_the_unit_in_their_name(mig: bool) -> None:
    library = Library(mig=mig)
    with clock(CPU) as elapsed:
        readings = read(library, joules=30.0)
    figures = dict(readings.figures)
    assert 30 / elapsed.seconds < figures.pop("power W, by the energy counter") <= 30 / 0.02
    assert {figures.pop(name) for name in GPM} == {float(getattr(pynvml, metric)) for metric in GPM.values()}
    assert [figures.pop(name) for name in SLOWDOWNS] == [100.0, 0.0, 0.0]
    assert figures == {
        "GPU busy percent": 80.0,
        "memory controller busy percent": 30.0,
        "power W": 412.5,
        "SM clock MHz": 1755.0,
        "memory clock MHz": 2619.0,
        "temperature C": 61.0,
    }
    assert readings.not_measured == {}
    assert library.asked.count("alloc") == library.asked.count("free")


def test_counters_missing_on_a_mig_slice_are_missing_not_zero() -> None:
    library = Library(mig=True)
    library.unsupported = {"utilisation", "energy"}
    readings = read(library)
    missing = {"GPU busy percent", "memory controller busy percent", "power W, by the energy counter"}
    assert readings.not_measured.keys() == missing
    assert all("Not Supported" in reason for reason in readings.not_measured.values())
    assert not missing & readings.figures.keys()
    assert readings.figures["power W"] == 412.5


def test_nvml_failure_during_a_run_keeps_earlier_readings() -> None:
    library = Library()
    with sampled(nvml_reader(UUID, 0, library), CPU, every_s=0.01) as readings:
        library.wait_for_readings(3)
        library.unsupported = {"utilisation", "power", "clock", "temperature", "reasons", "energy", "GPM"}
        wait_until(lambda: "power W" in readings.not_measured)
    assert readings.figures["power W"] == 412.5
    assert "readings before" in readings.not_measured["power W"]
    assert "SM active percent" not in readings.figures
    assert "Not Supported" in readings.not_measured["SM active percent"]


def test_a_device_is_found_by_its_uuid_and_a_slice_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device_handle(UUID, 0, Library()) == f"GPU-{UUID}"
    assert device_handle(UUID, 0, Library(f"MIG-{UUID}")) == f"MIG-{UUID}"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-other, MIG-1234")
    assert device_handle(UUID, 1, Library("MIG-1234")) == "MIG-1234"
    with pytest.raises(pynvml.NVMLError, match="Not Found"):
        device_handle(UUID, 0, Library("another"))


def test_process_bytes_are_of_this_process() -> None:
    assert process_bytes(UUID, 0, Library()) == 7
