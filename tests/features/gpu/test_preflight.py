"""The first step of `gpu` names what is missing before it imports it, and fails where NVML reads nothing."""

import sys
from pathlib import Path

import pytest
import torch

from bench.environment import requirements
from bench.features.gpu.preflight import print_and_require_installed_tools, print_device_readings
from bench.profilers.nvml import DeviceGauges


def test_gauges_are_read_however_fast_the_device_computes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_device_readings(DeviceGauges(gauges={"power W": lambda: 700.0}), torch.ones(2, 2))
    assert capsys.readouterr().out == "power W: 700\n"


def test_nvml_that_reads_no_gauge_is_an_error() -> None:
    def fail() -> float:
        raise OSError("no permission")

    reader = DeviceGauges(gauges={"power W": fail, "SM clock MHz": fail})
    with pytest.raises(SystemExit, match="none of its gauges could be read"):
        print_device_readings(reader, torch.ones(2, 2))
    print_device_readings(DeviceGauges(missing={"GPU": "no NVML"}), torch.ones(2, 2))


def test_preflight_of_a_bare_gpu_machine_names_the_driver_and_the_compiler(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(requirements.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(requirements, "find_spec", lambda _: None)
    monkeypatch.setattr(requirements.ctypes, "CDLL", lambda _: (_ for _ in ()).throw(OSError))
    with pytest.raises(SystemExit, match="4 of the tools that runs need are missing"):
        print_and_require_installed_tools("cuda")
    lines = capsys.readouterr().out.splitlines()
    for what, remedy in (
        ("C++ compiler", "apt-get update && apt-get install -y g++"),
        ("Python.h", f"apt-get install -y python3.{sys.version_info.minor}-dev"),
        ("driver", "docker run --gpus all"),
        ("Triton", "pip install triton"),
    ):
        assert [
            line
            for line in lines
            if line.startswith(f"{what}") and " is missing: " in line and remedy in line
        ]
