"""What the first step of `gpu` reads of the instruments, and that it fails where NVML is there and reads nothing."""

import pytest
import torch

from bench.cli.gpu_preflight import read_instruments
from bench.profilers.nvml import DeviceReader


def test_gauges_are_read_however_fast_the_device_computes(capsys: pytest.CaptureFixture[str]) -> None:
    read_instruments(DeviceReader(gauges={"power W": lambda: 700.0}), torch.ones(2, 2))
    assert capsys.readouterr().out == "power W: 700\n"


def test_nvml_that_reads_no_gauge_is_an_error() -> None:
    def fail() -> float:
        raise OSError("no permission")

    reader = DeviceReader(gauges={"power W": fail, "SM clock MHz": fail})
    with pytest.raises(SystemExit, match="none of its gauges could be read"):
        read_instruments(reader, torch.ones(2, 2))
    read_instruments(DeviceReader(missing={"GPU": "no NVML"}), torch.ones(2, 2))
