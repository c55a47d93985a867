"""The circumstances of a run that begins now."""

import os
import platform
from datetime import UTC, datetime

import torch

from bench.environment.busy_processes import BUSY_PROCESSES
from bench.environment.circumstances import (
    COMMAND,
    LOADED_EXTENSIONS,
    RunCircumstances,
    describe_current_commit,
    summarize_machine_and_software,
)
from bench.environment.machine import (
    default_device,
    describe_gpu_and_cpu,
    gpu_uuid,
    package_versions,
    read_gpu_settings_of_device,
)
from bench.environment.tf32 import describe_tf32
from bench.experiment.auto_fields import resolve_precision_and_compile
from bench.experiment.fields import RuntimeSettings
from bench.tables.formats import GIB


def collect_circumstances(
    runtime: RuntimeSettings | None, device: torch.device, processes: int = 1
) -> RunCircumstances:
    """Return the circumstances of a run that `processes` share; without settings it computes in fp32, uncompiled."""
    precision = "fp32"
    compiled = False
    if runtime is not None:
        precision, compiled = resolve_precision_and_compile(runtime, device)
    gpu = read_gpu_settings_of_device(device)
    if device.type == "cuda":
        gpu |= {"TF32": describe_tf32()}
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    return RunCircumstances(
        # Records of different machines are never compared.
        machine=f"{describe_gpu_and_cpu(device)}, {memory_gib:.0f} GiB, {platform.system()}",
        device=device.type,
        threads=torch.get_num_threads(),
        precision=precision,
        compiled=compiled,
        packages=package_versions(device),
        commit=describe_current_commit(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        processes=processes,
        gpu=gpu,
        extensions=dict(LOADED_EXTENSIONS),
        gpu_uuid=gpu_uuid(device),
        busy_processes=os.environ.get(BUSY_PROCESSES, ""),
        command=os.environ.get(COMMAND, ""),
    )


if __name__ == "__main__":  # print the fingerprint of this machine for one process
    print(summarize_machine_and_software(collect_circumstances(None, default_device())))
