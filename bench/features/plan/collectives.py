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
PLANNED_SHARDINGS = ("ddp", "fsdp2_no_reshard", "fsdp2")
# Latencies per ring step: NCCL's constants (src/graph/tuning.cc, hwLat, ring, LL128).
LINK_LATENCY_SECONDS = 1.9e-6
NETWORK_LATENCY_SECONDS = 4.0e-6


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Numbers of parameters of a model, by how GPUs exchange them."""

    method: str
    trained: int
    frozen: int  # of a teacher
    trained_in_blocks: int  # trained, in the towers' blocks, which FSDP2 gathers twice
    num_trained_blocks: int
    num_frozen_blocks: int
    num_scalars: int  # parameters of one element, which FSDP2 does not shard
    feature_width: int  # of a contrastive loss; else 0
    counted_tokens: int  # SuperClass's token counts; else 0


@dataclass(frozen=True, slots=True)
class StepCollective:
    """A collective of every step, in `num_calls` calls of equal size."""

    name: str  # of the tensor
    kind: CollectiveKind
    # Of the full tensor of all calls: after an all-gather, before a reduce-scatter.
    tensor_bytes: float
    num_calls: int = 1
    hiding_phase: Phase | None = None  # the phase that can hide it; None: the step waits for it


def list_step_collectives(
    counts: ParameterCounts,
    sharding: Sharding,
    bytes_per_parameter: int,
    images_per_gpu: float,
    num_gpus: int,
) -> list[StepCollective]:
    """Return the collectives of one training step, as `bench.train.distributed` and `losses.collectives` call them.

    FSDP2 gathers weights in the precision of the computation (`bytes_per_parameter`), the blocks' again in the
    backward unless it keeps them (`fsdp2_no_reshard`), and reduce-scatters gradients in fp32. ValueError for
    hybrid sharding.
    """
    if sharding not in PLANNED_SHARDINGS:
        raise ValueError(f"a plan has sharding={', '.join(PLANNED_SHARDINGS)}, got {sharding}")
    if sharding == "ddp":
        gradients = float(FP32_BYTES * counts.trained)
        buckets = 1 + math.ceil(max(0, gradients - DDP_FIRST_BUCKET_BYTES) / DDP_BUCKET_BYTES)
        collectives = [StepCollective("gradients", "all-reduce", gradients, buckets, "backward")]
    else:
        collectives = _list_fsdp2_collectives(counts, sharding, bytes_per_parameter)
    num_reduced_scalars = 1  # the mean of the loss
    if sharding != "ddp":
        num_reduced_scalars += 1 + counts.num_scalars  # the gradient's norm
    method = get_method(counts.method)
    if method.compares_batch:
        batch_bytes = FP32_BYTES * images_per_gpu * num_gpus
        features = batch_bytes * counts.feature_width
        collectives.append(StepCollective("caption features", "all-gather", features))
        collectives.append(
            StepCollective("gradients of caption features", "reduce-scatter", features)
        )
        num_reduced_scalars += 1  # the sum of the loss over processes
        calls = method.communication.normaliser_all_reduces if method.communication else 0
        if calls:
            name = "softmax normalisers of columns"
            collectives.append(StepCollective(name, "all-reduce", calls * batch_bytes, calls))
    if counts.counted_tokens:
        size = float(FP32_BYTES * counts.counted_tokens)
        collectives.append(StepCollective("token counts", "all-reduce", size))
    size = float(FP32_BYTES * num_reduced_scalars)
    collectives.append(StepCollective("scalars", "all-reduce", size, num_reduced_scalars))
    return collectives


def _list_fsdp2_collectives(
    counts: ParameterCounts, sharding: Sharding, bytes_per_parameter: int
) -> list[StepCollective]:
    """Return FSDP2's collectives of weights and gradients, one call for each block and one for the rest."""
    weights = float(bytes_per_parameter * (counts.trained + counts.frozen))
    gradients = float(FP32_BYTES * counts.trained)
    num_gathers = counts.num_trained_blocks + counts.num_frozen_blocks + 1
    num_scatters = counts.num_trained_blocks + 1
    collectives = [
        StepCollective("weights", "all-gather", weights, num_gathers, "forward"),
        StepCollective("gradients", "reduce-scatter", gradients, num_scatters, "backward"),
    ]
    if sharding == "fsdp2":
        size = float(bytes_per_parameter * counts.trained_in_blocks)
        name = "blocks' weights again"
        calls = counts.num_trained_blocks
        collectives.append(StepCollective(name, "all-gather", size, calls, "backward"))
    return collectives


def collective_seconds(collective: StepCollective, num_gpus: int, links: Interconnect) -> float:
    """Return the seconds of all calls of a collective between so many GPUs."""
    nodes = math.ceil(num_gpus / links.gpus_per_node)
    per_node = num_gpus / nodes
    call_bytes = collective.tensor_bytes / collective.num_calls
    within = ring_all_gather_seconds(
        call_bytes, per_node, links.link_bytes_per_second, LINK_LATENCY_SECONDS
    )
    between = ring_all_gather_seconds(
        call_bytes / per_node, nodes, links.network_bytes_per_second, NETWORK_LATENCY_SECONDS
    )
    if collective.kind != "all-reduce":
        return collective.num_calls * (within + between)
    ring_latency = (nodes - 1) * NETWORK_LATENCY_SECONDS
    tree_latency = 2 * math.ceil(math.log2(nodes)) * NETWORK_LATENCY_SECONDS
    return collective.num_calls * (2 * within + 2 * (between - ring_latency) + tree_latency)


def ring_all_gather_seconds(
    tensor_bytes: float, processes: float, bytes_per_second: float, latency_seconds: float
) -> float:
    """Return the seconds of a ring all-gather or reduce-scatter of a tensor; an all-reduce is both.

    In each of n - 1 steps every process sends 1 / n of the tensor.
    """
    return (processes - 1) * (latency_seconds + tensor_bytes / processes / bytes_per_second)


def sum_seconds_that_phase_can_hide(
    collectives: Iterable[StepCollective],
    num_gpus: int,
    links: Interconnect,
    hiding_phase: Phase | None,
) -> float:
    """Return the seconds of the collectives that this phase can hide; with None, of those that no phase can hide."""
    return math.fsum(
        collective_seconds(collective, num_gpus, links)
        for collective in collectives
        if collective.hiding_phase == hiding_phase
    )
