"""The collectives of a training step and their time. No torch here.

Times are those of ring algorithms (Patarasuk & Yuan 2009, "Bandwidth optimal all-reduce algorithms"; Thakur et al.
2005). Over several nodes a collective has two sequential levels: within each node, then between nodes. An all-reduce
between nodes moves the ring's bytes with the latency of NCCL's tree, two steps per doubling (NCCL 2.4 and later).
The model excludes stragglers, shared links and in-switch reductions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.environment.gpu_specs import GpuSpec
from bench.experiment.fields import Sharding
from bench.interfaces.method import get_method
from bench.records.record import DDP_BUCKET_BYTES

Kind = Literal["all-reduce", "reduce-scatter", "all-gather"]
Phase = Literal["forward", "backward"]
Level = Literal["all", "within nodes", "between nodes"]
FP32_BYTES = 4  # bytes of a weight, a gradient and a feature: CUDA's autocast normalises in fp32
LINK_SHARE = (
    0.8  # share of a data sheet's bandwidth: nccl-tests reach 230 to 250 of 300 GB/s on 8 A100
)
# Per ring step: NCCL's constants (src/graph/tuning.cc, hwLat, ring, LL128).
LINK_US, NETWORK_US = (
    1.9,
    4.0,
)
DDP_FIRST_BUCKET_BYTES = 1 << 20  # of DDP's gradient buckets: torch's default


@dataclass(frozen=True, slots=True)
class Interconnect:
    """The interconnect: bandwidths per GPU and direction, and latencies per ring step."""

    gpus_per_node: int
    link_bytes_per_second: float  # bytes per second within a node
    link_latency_seconds: float  # seconds
    network_bytes_per_second: float  # bytes per second between nodes
    network_latency_seconds: float  # seconds


def data_sheet_interconnect(
    device: GpuSpec,
    link_seconds: float = 1e-6 * LINK_US,
    network_seconds: float = 1e-6 * NETWORK_US,
) -> Interconnect:
    """Return the interconnect of a device by its data sheet, with these latencies; ValueError without a network."""
    if device.network_bytes_per_second is None:
        raise ValueError(f"no data sheet is known for a network of {device.name_words}")
    link, network = (
        LINK_SHARE * one for one in (device.link_bytes_per_second, device.network_bytes_per_second)
    )
    return Interconnect(device.gpus_per_node, link, link_seconds, network, network_seconds)


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Parameters of a model that are communicated, counted by `bench.features.plan.workload`."""

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
    """A collective of every step, in `calls` calls of equal size."""

    name: str
    kind: Kind
    size: float  # bytes of the full tensor: after an all-gather, before a reduce-scatter
    calls: int = 1
    overlaps_with: Phase | None = None  # the phase that can hide it; None if it is exposed
    level: Level = (
        "all"  # "between nodes": each process sends its shard of a tensor that its node holds
    )


def shard_count(sharding: Sharding, processes: int, per_node: int) -> int:
    """Return the number of shards that weights, gradients and moments are divided into."""
    return {"ddp": 1, "zero2": processes, "fsdp2": processes, "hsdp": min(processes, per_node)}[
        sharding
    ]


def step_collectives(
    weights: ParameterCounts,
    sharding: Sharding,
    bytes_per_parameter: int,
    batch: float,
    processes: int,
) -> list[Collective]:
    """Return the collectives of a step of `bench.train.distributed` and `losses.collectives`; `batch` is per process.

    FSDP2 gathers weights in the precision of the computation (`bytes_per_parameter`), the blocks' again in the
    backward unless it keeps them (`zero2`), and reduce-scatters gradients in fp32. Hybrid sharding does so within each
    node, and all-reduces the shards of the gradients between nodes.
    """
    rows, sums = batch * processes, 1  # the mean of the loss
    gradients = float(FP32_BYTES * weights.trained)
    if sharding == "ddp":
        buckets = 1 + math.ceil(max(0, gradients - DDP_FIRST_BUCKET_BYTES) / DDP_BUCKET_BYTES)
        collectives = [Collective("gradients", "all-reduce", gradients, buckets, "backward")]
    else:
        gathers = weights.blocks + weights.frozen_blocks + 1
        whole, again = (
            float(bytes_per_parameter * n)
            for n in (weights.trained + weights.frozen, weights.in_blocks)
        )
        level: Level = "within nodes" if sharding == "hsdp" else "all"
        scatters = weights.blocks + 1
        collectives = [
            Collective("weights", "all-gather", whole, gathers, "forward", level),
            Collective("gradients", "reduce-scatter", gradients, scatters, "backward", level),
        ]
        if sharding != "zero2":
            collectives += [
                Collective(
                    "blocks' weights again", "all-gather", again, weights.blocks, "backward", level
                )
            ]
        if sharding == "hsdp":
            name = "shards of gradients"
            collectives += [
                Collective(name, "all-reduce", gradients, scatters, "backward", "between nodes")
            ]
        sums += 1 + weights.scalars  # the gradient's norm
    method = get_method(weights.method)
    if method.compares_batch:
        features = FP32_BYTES * rows * weights.feature_width
        collectives += [
            Collective("caption features", "all-gather", features),
            Collective("gradients of caption features", "reduce-scatter", features),
        ]
        sums += 1  # the sum of the loss over processes
        calls = method.communication.normaliser_all_reduces if method.communication else 0
        if calls:
            size = calls * FP32_BYTES * rows
            collectives.append(
                Collective("softmax normalisers of columns", "all-reduce", size, calls)
            )
    if weights.counted_tokens:
        collectives.append(
            Collective("token counts", "all-reduce", float(FP32_BYTES * weights.counted_tokens))
        )
    return [*collectives, Collective("scalars", "all-reduce", float(FP32_BYTES * sums), sums)]


def collective_seconds(collective: Collective, processes: int, links: Interconnect) -> float:
    """Return the seconds of all calls of a collective."""
    nodes, latency = math.ceil(processes / links.gpus_per_node), links.network_latency_seconds
    per_node, size = processes / nodes, collective.size / collective.calls
    within = ring_all_gather_seconds(
        size, per_node, links.link_bytes_per_second, links.link_latency_seconds
    )
    between = ring_all_gather_seconds(
        size / per_node, nodes, links.network_bytes_per_second, latency
    )
    if collective.level == "within nodes":
        nodes, between = 1, 0.0
    if collective.level == "between nodes":
        within = 0.0
    if collective.kind != "all-reduce":
        return collective.calls * (within + between)
    tree = 2 * math.ceil(math.log2(nodes)) * latency
    return collective.calls * (2 * within + 2 * (between - (nodes - 1) * latency) + tree)


def ring_all_gather_seconds(
    size: float, processes: float, bandwidth: float, latency: float
) -> float:
    """Return the seconds of a ring all-gather or reduce-scatter of a tensor of `size` bytes; an all-reduce is both.

    In each of n - 1 steps every process sends 1 / n of the tensor.
    """
    return (processes - 1) * (latency + size / processes / bandwidth)


def total_seconds(
    collectives: Sequence[Collective],
    processes: int,
    links: Interconnect,
    overlaps_with: Phase | None,
) -> float:
    """Return the seconds of the collectives that one phase can hide, or with None of the exposed ones."""
    hidden = (one for one in collectives if one.overlaps_with == overlaps_with)
    return math.fsum(collective_seconds(one, processes, links) for one in hidden)
