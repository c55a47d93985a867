"""Peaks by the names that CUDA gives the cards."""

import pytest

from bench.environment.gpu_specs import find_datasheet_peak, find_gpu_spec


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989.4),
        ("NVIDIA GB200", 2500),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA A10G", 70),
    ],
)
def test_gpu_has_the_peak_of_its_data_sheet(name: str, teraflops: float) -> None:
    peak, source = find_datasheet_peak(name, "bf16")
    assert peak == pytest.approx(teraflops * 1e12)
    assert "bf16 dense" in source


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce GT 710",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 5090 D",
        "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
        "NVIDIA A10",
    ],
)
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_unknown_peak_is_none_with_the_device_name(name: str, precision: str) -> None:
    """A part of a GPU, or another chip whose name contains that of a known one, has not its peak."""
    peak, source = find_datasheet_peak(name, precision)
    assert peak is None
    assert name in source
    assert precision in source


def test_fp32_has_a_peak_of_its_own() -> None:
    peak, source = find_datasheet_peak("NVIDIA H100 80GB HBM3", "fp32")
    assert peak == pytest.approx(67e12)
    assert "fp32 without tensor cores" in source


def test_a_superchip_is_not_the_gpu_whose_name_it_contains() -> None:
    spec = find_gpu_spec("NVIDIA GH200 480GB")
    assert spec is not None
    assert (spec.name, spec.memory_bytes) == ("GH200", 96e9)


@pytest.mark.parametrize(
    ("name", "link_gigabytes"),
    [
        ("NVIDIA A100-SXM4-40GB", 300),
        ("NVIDIA A100-SXM4-80GB", 300),
        ("NVIDIA A100-PCIE-40GB", 32),
        ("NVIDIA A100 80GB PCIe", 32),
    ],
)
def test_a100_on_pcie_has_no_nvlink(name: str, link_gigabytes: float) -> None:
    spec = find_gpu_spec(name)
    assert spec is not None
    assert spec.link_bytes_per_second == 1e9 * link_gigabytes
