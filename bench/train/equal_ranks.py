"""What must be equal on all ranks of a distributed run: command, sources, packages, processors and data."""

import os

import torch
from msgspec.structs import replace

from bench.console.console import UserError, describe_error
from bench.data.samples import inputs_digest
from bench.environment.circumstances import Circumstances, digest_sources
from bench.environment.machine import describe_processors
from bench.environment.torchrun_ranks import MIXED_MACHINES, describe_node
from bench.experiment.config import Experiment
from bench.records.current import current_circumstances
from bench.train.distributed import all_gather_objects, world_size


def circumstances_of_equal_ranks(
    experiment: Experiment | None, device: torch.device
) -> Circumstances:
    """Return the circumstances of a run with the processors of all ranks; UserError if a rank differs from rank 0.

    The environment variable CATLIP_BENCH_MIXED_MACHINES allows different processors; the slowest one sets the speed.
    """
    runtime = None if experiment is None else experiment.runtime
    circumstances = current_circumstances(runtime, device, world_size())
    if world_size() == 1:
        return circumstances
    facts = {
        "command line": circumstances.command,
        "digest of the sources": digest_sources(),
    }
    for name, text in circumstances.extensions.items():
        facts[f"extension {name}"] = text
    for name, text in circumstances.packages.items():
        facts[f"package {name}"] = text
    if experiment is not None:
        facts[f"data={experiment.input.data} or what belongs to it"] = (
            _digest_inputs_or_describe_error(experiment)
        )
    processors = describe_processors(device)
    if os.environ.get(MIXED_MACHINES) != "1":
        facts["processors"] = processors
    require_equal_on_ranks(facts)
    all_processors = " and ".join(dict.fromkeys(all_gather_objects(processors)))
    return replace(circumstances, machine=circumstances.machine.replace(processors, all_processors))


def require_equal_on_ranks(facts: dict[str, str]) -> None:
    """Raise UserError that names the ranks whose facts differ from rank 0's."""
    facts_and_nodes = all_gather_objects((facts, describe_node()))
    rank0_facts, _ = facts_and_nodes[0]
    differences = list[str]()
    for rank, (rank_facts, node) in enumerate(facts_and_nodes):
        for name in rank0_facts | rank_facts:
            value = rank_facts.get(name, "none")
            expected = rank0_facts.get(name, "none")
            if value != expected:
                differences.append(
                    f"rank {rank} ({node}) has another {name} than rank 0: {value}, not {expected}"
                )
    if differences:
        raise UserError("; ".join(differences))


def _digest_inputs_or_describe_error(experiment: Experiment) -> str:
    """Return a digest of the files that an experiment reads, or the message of the error in reading them."""
    try:
        return inputs_digest(experiment)
    except (ValueError, OSError) as error:
        return describe_error(error)
