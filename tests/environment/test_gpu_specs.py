"""Peaks by the names that CUDA gives the cards."""

import pytest

from bench.environment.gpu_specs import datasheet_peak


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989.4),
        ("NVIDIA GH200 480GB", 989.4),
        ("NVIDIA B200", 2250),
        ("NVIDIA GB200", 2500),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA L40", 181),
        ("NVIDIA L4", 121),
        ("NVIDIA GeForce RTX 4090", 165.2),
    ],
)
def test_gpu_has_the_peak_of_its_data_sheet(name: str, teraflops: float) -> None:
    peak, source = datasheet_peak(name, "bf16")
    assert peak == pytest.approx(teraflops * 1e12)
    assert "bf16 dense" in source


@pytest.mark.parametrize(("name", "precision"), [("NVIDIA GeForce GT 710", "bf16"), ("NVIDIA H100 80GB HBM3", "fp32")])
def test_unknown_peak_is_none_with_the_device_name(name: str, precision: str) -> None:
    peak, source = datasheet_peak(name, precision)
    assert peak is None
    assert name in source
    assert precision in source
