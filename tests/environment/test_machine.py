"""The device of this process."""

from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest
import torch

from bench.environment import gpus
from bench.environment.circumstances import summarize_machine_and_software
from bench.environment.machine import package_versions
from bench.environment.tf32 import set_tf32
from bench.orchestration.runs import FunctionRun, execute_run_and_write_record
from bench.records.current import collect_circumstances
from tests.processes import in_child
from tests.small import circumstances


@pytest.fixture
def gpu_machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make this process one of a machine with GPUs that NVML lists, and UUIDs of GPUs that torch can use."""

    def be(num_listed: int, *uuids: str) -> None:
        monkeypatch.setattr(gpus, "_count_nvml_gpus", lambda: num_listed)
        monkeypatch.setattr(gpus, "list_visible_gpu_uuids", lambda: uuids)
        monkeypatch.setattr(gpus, "DRIVER_FILES", (Path("/dev/null"),))

    return be


@pytest.mark.parametrize(("num_listed", "uuids"), [(8, ()), (8, ("a",)), (8, ("a", "b")), (0, ())])
def test_gpus_are_those_that_torch_can_use(
    gpu_machine: Callable[..., None], num_listed: int, uuids: tuple[str, ...]
) -> None:
    """NVML lists GPUs whatever torch was built for, and whatever CUDA_VISIBLE_DEVICES hides."""
    gpu_machine(num_listed, *uuids)
    assert gpus.count_usable_gpus() == len(uuids)


def test_gpu_that_nvml_does_not_list_is_refused(gpu_machine: Callable[..., None]) -> None:
    """On ROCm, or without NVML: runs would use the GPU and be planned as on a CPU."""
    gpu_machine(0, "a")
    with pytest.raises(ValueError, match="torch can use 1 GPUs, and NVML lists none"):
        gpus.count_usable_gpus()


def test_first_gpu_is_the_visible_one(
    gpu_machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu_machine(8, "third", "first")
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda name: name)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus.get_first_gpu_nvml_handle() == "GPU-third"


def test_gpu_at_another_power_limit_is_another_machine() -> None:
    """A history joins the figures of equal fingerprints; that of a CPU is as it was before GPUs had settings."""
    limited, whole = (
        circumstances(gpu={"power limit": limit, "ECC": None}) for limit in ("500 W", "700 W")
    )
    assert (
        summarize_machine_and_software(limited) == "m; power limit 500 W, ECC unknown; 2 threads; "
    )
    assert summarize_machine_and_software(whole) != summarize_machine_and_software(limited)
    assert summarize_machine_and_software(circumstances()) == "m; 2 threads; "


def test_versions_of_cudas_libraries_are_recorded_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91501)
    monkeypatch.setattr("bench.environment.machine.is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.cuda.nccl, "version", lambda: (2, 27, 5))
    cpu, gpu = (package_versions(torch.device(kind)) for kind in ("cpu", "cuda"))
    assert {"python", "torch"} <= cpu.keys()
    added = {name: gpu[name] for name in gpu.keys() - cpu.keys() - {"triton"}}
    assert added == {"CUDA": "12.8", "cuDNN": "91501", "NCCL": "2.27.5"}
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "CUDA" not in package_versions(torch.device("cuda"))


def require_fp32() -> None:
    """Check that products and convolutions are fp32 on a GPU, too."""
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


def run_where_torch_rounds() -> None:
    """By torch's default cuDNN's convolutions are rounded, and by a variable of NVIDIA's images cuBLAS's products."""
    set_tf32(enabled=True)
    function = f"{__name__}:require_fp32"
    execute_run_and_write_record(
        FunctionRun(function=function, label="", results="", comparison="", files=("x",))
    )


def test_runs_in_fp32_round_neither_products_nor_convolutions_to_tf32() -> None:
    in_child(run_where_torch_rounds)


def test_record_of_a_gpu_says_what_is_rounded_to_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("describe_gpu_and_cpu", "package_versions", "gpu_uuid"):
        monkeypatch.setattr(f"bench.records.current.{name}", lambda _: {})
    found, cuda = [], torch.device("cuda", 0)
    monkeypatch.setattr(
        "bench.records.current.read_gpu_settings_of_device", lambda _: {"driver": "580"}
    )
    for allowed in (False, True):
        set_tf32(enabled=allowed)
        found.append(collect_circumstances(None, cuda).gpu)
    torch.set_float32_matmul_precision("highest")
    found.append(collect_circumstances(None, cuda).gpu)
    assert found == [
        {"driver": "580", "TF32": what}
        for what in ("off", "products and convolutions", "convolutions")
    ]
    assert collect_circumstances(None, torch.device("cpu")).gpu == {"driver": "580"}
