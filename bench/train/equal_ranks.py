"""What must be equal on all ranks of a distributed run: command, sources, packages, processors and data."""

import os

import torch
from msgspec.structs import replace

from bench.console.console import UserError, format_error_on_one_line
from bench.data.samples import training_files_digest
from bench.environment.circumstances import RunCircumstances, digest_program_files
from bench.environment.machine import describe_gpu_and_cpu
from bench.environment.torchrun_ranks import MIXED_MACHINES, describe_host_and_node_number
from bench.experiment.config import Experiment
from bench.records.current import collect_circumstances
from bench.train.distributed import all_gather_objects, world_size


def require_equal_ranks_and_collect_circumstances(
    experiment: Experiment | None, device: torch.device
) -> RunCircumstances:
    """Require that all ranks equal rank 0, else UserError; return the circumstances with all ranks' processors.

    The environment variable CATLIP_BENCH_MIXED_MACHINES allows different processors; the slowest one sets the speed.
    """
    runtime = None if experiment is None else experiment.runtime
    circumstances = collect_circumstances(runtime, device, world_size())
    if world_size() == 1:
        return circumstances
    values = {
        "command line": circumstances.command,
        "digest of the sources": digest_program_files(),
    }
    for name, text in circumstances.extensions.items():
        values[f"extension {name}"] = text
    for name, text in circumstances.packages.items():
        values[f"package {name}"] = text
    if experiment is not None:
        try:
            digest = training_files_digest(experiment.input, experiment.targets)
        except (ValueError, OSError) as error:  # compared, too, so that no rank waits for another
            digest = format_error_on_one_line(error)
        values[f"data={experiment.input.data} or what belongs to it"] = digest
    processors = describe_gpu_and_cpu(device)
    if os.environ.get(MIXED_MACHINES) != "1":
        values["processors"] = processors
    require_equal_on_ranks(values)
    all_processors = " and ".join(dict.fromkeys(all_gather_objects(processors)))
    return replace(circumstances, machine=circumstances.machine.replace(processors, all_processors))


def require_equal_on_ranks(values: dict[str, str]) -> None:
    """Raise UserError that names the ranks whose values differ from rank 0's; all ranks must call it."""
    values_and_nodes = all_gather_objects((values, describe_host_and_node_number()))
    rank0_values, _ = values_and_nodes[0]
    differences = list[str]()
    for rank, (rank_values, node) in enumerate(values_and_nodes):
        for name in rank0_values | rank_values:
            value = rank_values.get(name, "none")
            expected = rank0_values.get(name, "none")
            if value != expected:
                differences.append(
                    f"rank {rank} ({node}) has another {name} than rank 0: {value}, not {expected}"
                )
    if differences:
        raise UserError("; ".join(differences))
