"""Figures and settings of a GPU through nvidia-ml-py's own calls, which a library in C answers in place of NVML."""

import os
import shutil
import subprocess
from collections.abc import Callable
from ctypes import CDLL, c_int, c_ulonglong
from pathlib import Path
from typing import Any

import pynvml
import pytest
import torch

from bench.cli.doctor import check_gpus
from bench.environment.gpu_settings import get_nvml_handle, read_gpu_settings
from bench.profilers.device import DeviceReadings, sample_device_during_block
from bench.profilers.nvml import GPM, SLOWDOWNS, make_nvml_gauges, read_process_gpu_bytes
from tests.processes import wait_until

CPU = torch.device("cpu")
GPU = "0123"
NAMES = [
    "SM active percent",
    "SM occupancy percent",
    "tensor cores active percent",
    "memory bandwidth percent",
]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CDLL]:
    """Build the library and load it as nvidia-ml-py loads NVML."""
    compiler = shutil.which("cc") or pytest.skip(
        "there is no C compiler `cc` to build NVML's stub with"
    )

    def build(*options: str) -> CDLL:
        path = tmp_path / "libnvidia-ml.so.1"
        source = Path(__file__).with_name("nvml_stub.c")
        subprocess.run(
            [compiler, "-shared", "-fPIC", *options, "-o", str(path), str(source)], check=True
        )
        library = CDLL(str(path))
        monkeypatch.setattr(pynvml, "nvmlLib", library)
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        pynvml.nvmlInit()
        return library

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return build


def number(library: CDLL, variable: str) -> Any:
    return c_int.in_dll(library, variable)


def read(library: CDLL) -> DeviceReadings:
    with sample_device_during_block(make_nvml_gauges(GPU), CPU, interval_seconds=0.01) as readings:
        wait_until(lambda: number(library, "temperatures_read").value >= 2)
        c_ulonglong.in_dll(library, "millijoules").value = 10**9
    return readings


def test_readings_of_a_gpu_are_nvmls(load: Callable[..., CDLL]) -> None:
    library = load()
    c_ulonglong.in_dll(library, "reasons").value = 0x4 | 0x80  # power limit, power brake
    readings = read(library)
    figures = readings.figures
    assert {figures.pop(name) for name in NAMES} == {2.5, 3.5, 5.5, 10.5}
    assert [figures.pop(name) for name in SLOWDOWNS] == [100.0, 0.0, 100.0]
    assert figures.pop("power W, by the energy counter") > 0
    assert figures == {
        "GPU busy percent": 80.0,
        "power W": 412.5,
        "SM clock MHz": 1001.0,
        "temperature C": 61.0,
    }
    assert readings.not_measured == {}
    assert number(library, "samples_taken").value == 2 * len(GPM)
    assert number(library, "live_samples").value == 0


@pytest.mark.parametrize("failing", [1, 1 + len(NAMES)])
def test_counter_sample_that_fails_leaves_no_figure(
    load: Callable[..., CDLL], failing: int
) -> None:
    """The first sample is taken at the beginning of the windows, the second at their end."""
    library = load()
    number(library, "failing_sample").value = failing
    readings = read(library)
    assert "Not Supported" in readings.not_measured[NAMES[0]]
    assert [name in readings.figures for name in NAMES] == [False, True, True, True]


def test_settings_of_a_gpu_are_nvmls_and_missing_ones_are_none(load: Callable[..., CDLL]) -> None:
    library = load()
    whole = get_nvml_handle(GPU)
    assert read_gpu_settings(whole) == {
        "driver": "580.65.06",
        "power limit": "500 W",
        "ECC": "on",
        "MIG": "off",
        "application SM clock": None,
        "application memory clock": None,
    }
    number(library, "ecc").value, number(library, "mig_mode").value = -1, 1
    settings = read_gpu_settings(whole)
    assert (settings["ECC"], settings["MIG"]) == (None, "on")
    with pytest.raises(pynvml.NVMLError):
        get_nvml_handle("another")


def test_process_bytes_are_those_that_nvml_lists(load: Callable[..., CDLL]) -> None:
    library = load()
    with pytest.raises(LookupError):
        read_process_gpu_bytes(GPU)
    number(library, "process_id").value = os.getpid()
    assert read_process_gpu_bytes(GPU) == 7 << 32


@pytest.mark.parametrize(
    ("options", "processes"), [((), "1"), (("-DOLD_DRIVER",), "does not match")]
)
def test_doctor_examines_every_gpu_and_whether_torch_can_use_one(
    load: Callable[..., CDLL], options: tuple[str, ...], processes: str
) -> None:
    load(*options)
    found = {finding.check: finding for finding in check_gpus()}
    assert (
        "NVIDIA H100 80GB HBM3, driver 580.65.06, power limit 500 W, ECC on, MIG off"
        in found["GPU 0"].found
    )
    assert "application SM clock unknown" in found["GPU 0"].found
    assert processes in found["GPU 0: processes"].found
    assert (found["CUDA"].advice == "ok") == torch.cuda.is_available()
    assert "Traceback" not in found["CUDA"].found
