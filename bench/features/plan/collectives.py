"""The collectives of a training step and their time. No torch here.

Times are those of ring algorithms (Patarasuk & Yuan 2009, "Bandwidth optimal all-reduce algorithms"; Thakur et al.
2005). Over several nodes a collective has two sequential levels: within each node, then between nodes. An all-reduce
between nodes moves the ring's bytes with the latency of NCCL's tree, two steps per doubling (NCCL 2.4 and later).
The model excludes stragglers, shared links and in-switch reductions.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bench.experiment.fields import Sharding
from bench.features.plan.interconnect import Interconnect
from bench.interfaces.method import get_method

CollectiveKind = Literal["all-reduce", "reduce-scatter", "all-gather"]
Phase = Literal["forward", "backward"]
FP32_BYTES = 4  # bytes of a weight, a gradient and a feature: CUDA's autocast normalises in fp32
# Of DDP's gradient buckets: torch's defaults.
DDP_FIRST_BUCKET_BYTES = 1 << 20
DDP_BUCKET_BYTES = 25 << 20
PLANNED_SHARDINGS = ("ddp", "zero2", "fsdp2")


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Numbers of parameters of a model, by how devices exchange them; counted by `bench.features.plan.workload`."""

    method: str
    trained: int
    frozen: int  # of a teacher
    in_blocks: int  # trained, in the towers' blocks, which FSDP2 gathers twice
    blocks: int  # number of trained blocks
    frozen_blocks: int
    scalars: int  # number of parameters that FSDP2 does not shard
    feature_width: int  # of a contrastive loss; else 0
    counted_tokens: int  # SuperClass's token counts; else 0


@dataclass(frozen=True, slots=True)
class Collective:
    """A collective of every step, in `num_calls` calls of equal size."""

    name: str
    kind: CollectiveKind
    # Of the full tensor of all calls: after an all-gather, before a reduce-scatter.
    tensor_bytes: float
    num_calls: int = 1
    overlaps_with: Phase | None = None  # the phase that can hide it; None if it is exposed


def list_step_collectives(
    parameter_counts: ParameterCounts,
    sharding: Sharding,
    bytes_per_parameter: int,
    batch: float,
    processes: int,
) -> list[Collective]:
    """Return the collectives of a step of `bench.train.distributed` and `losses.collectives`; `batch` is per process.

    FSDP2 gathers weights in the precision of the computation (`bytes_per_parameter`), the blocks' again in the
    backward unless it keeps them (`zero2`), and reduce-scatters gradients in fp32. ValueError for hybrid sharding.
    """
    if sharding not in PLANNED_SHARDINGS:
        raise ValueError(f"a plan has sharding={', '.join(PLANNED_SHARDINGS)}, got {sharding}")
    gradients = float(FP32_BYTES * parameter_counts.trained)
    summed_scalars = 1  # the mean of the loss
    if sharding == "ddp":
        buckets = 1 + math.ceil(max(0, gradients - DDP_FIRST_BUCKET_BYTES) / DDP_BUCKET_BYTES)
        collectives = [Collective("gradients", "all-reduce", gradients, buckets, "backward")]
    else:
        size = float(bytes_per_parameter * (parameter_counts.trained + parameter_counts.frozen))
        gathers = parameter_counts.blocks + parameter_counts.frozen_blocks + 1
        scatters = parameter_counts.blocks + 1
        collectives = [
            Collective("weights", "all-gather", size, gathers, "forward"),
            Collective("gradients", "reduce-scatter", gradients, scatters, "backward"),
        ]
        if sharding == "fsdp2":
            size = float(bytes_per_parameter * parameter_counts.in_blocks)
            name = "blocks' weights again"
            collectives.append(
                Collective(name, "all-gather", size, parameter_counts.blocks, "backward")
            )
        summed_scalars += 1 + parameter_counts.scalars  # the gradient's norm
    method = get_method(parameter_counts.method)
    if method.compares_batch:
        features = FP32_BYTES * batch * processes * parameter_counts.feature_width
        collectives.append(Collective("caption features", "all-gather", features))
        collectives.append(Collective("gradients of caption features", "reduce-scatter", features))
        summed_scalars += 1  # the sum of the loss over processes
        calls = method.communication.normaliser_all_reduces if method.communication else 0
        if calls:
            size = calls * FP32_BYTES * batch * processes
            name = "softmax normalisers of columns"
            collectives.append(Collective(name, "all-reduce", size, calls))
    if parameter_counts.counted_tokens:
        size = float(FP32_BYTES * parameter_counts.counted_tokens)
        collectives.append(Collective("token counts", "all-reduce", size))
    size = float(FP32_BYTES * summed_scalars)
    collectives.append(Collective("scalars", "all-reduce", size, summed_scalars))
    return collectives


def collective_seconds(collective: Collective, processes: int, links: Interconnect) -> float:
    """Return the seconds of all calls of a collective between so many processes."""
    nodes = math.ceil(processes / links.gpus_per_node)
    per_node = processes / nodes
    call_bytes = collective.tensor_bytes / collective.num_calls
    within = ring_all_gather_seconds(
        call_bytes, per_node, links.link_bytes_per_second, links.link_latency_seconds
    )
    latency = links.network_latency_seconds
    between = ring_all_gather_seconds(
        call_bytes / per_node, nodes, links.network_bytes_per_second, latency
    )
    if collective.kind != "all-reduce":
        return collective.num_calls * (within + between)
    tree = 2 * math.ceil(math.log2(nodes)) * latency
    return collective.num_calls * (2 * within + 2 * (between - (nodes - 1) * latency) + tree)


def ring_all_gather_seconds(
    tensor_bytes: float, processes: float, bytes_per_second: float, latency_seconds: float
) -> float:
    """Return the seconds of a ring all-gather or reduce-scatter of a tensor; an all-reduce is both.

    In each of n - 1 steps every process sends 1 / n of the tensor.
    """
    return (processes - 1) * (latency_seconds + tensor_bytes / processes / bytes_per_second)


def total_collective_seconds(
    collectives: Iterable[Collective],
    processes: int,
    links: Interconnect,
    overlaps_with: Phase | None,
) -> float:
    """Return the seconds of the collectives that the phase `overlaps_with` can hide; None: that no phase can hide."""
    return math.fsum(
        collective_seconds(collective, processes, links)
        for collective in collectives
        if collective.overlaps_with == overlaps_with
    )
