"""What processes of one run send each other in a step, and how long that takes. No torch here.

Times are those of rings (Patarasuk & Yuan 2009, "Bandwidth optimal all-reduce algorithms"; Thakur et al. 2005): a step
of a ring sends each process's part to the next. Over several nodes a collective is made in two levels, within each node
and then between the nodes that have the same part, one level behind the other. An all-reduce between nodes has the
ring's bytes in NCCL's tree's steps, two for each doubling (NCCL 2.4 and later). Not in the model: GPUs that wait for a
slower one, links that others use, sums made in the switches.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.config import CONTRASTIVE, MethodName, Sharding

Kind = Literal["all-reduce", "reduce-scatter", "all-gather"]
Phase = Literal["forward", "backward"]
FP32 = 4  # bytes of a weight, a gradient, and of a feature: CUDA's autocast normalises in fp32
LINK_SHARE = 0.8  # of data sheets' bandwidths, which collectives reach: of 8 A100's 300 GB/s nccl-tests see 230 to 250
LINK_US, NETWORK_US = 1.9, 4.0  # of a ring's step: NCCL's own constants (src/graph/tuning.cc, hwLat, ring, LL128)
FIRST_BUCKET, BUCKET = 1 << 20, 25 << 20  # bytes of gradients that DDP reduces at once: torch's defaults


@dataclass(frozen=True, slots=True)
class Links:
    """How processes are joined: what each can send in one direction, and what a step of a ring takes beside that."""

    per_node: int
    link: float  # bytes a second within a node
    link_latency: float  # seconds
    network: float  # bytes a second between nodes
    network_latency: float


@dataclass(frozen=True, slots=True)
class Weights:
    """What of a model is sent, in parameters: counted by `bench.plan.workload`."""

    method: MethodName
    trained: int
    frozen: int  # a teacher's
    in_blocks: int  # of those trained, the towers' blocks', which FSDP2 gathers twice
    blocks: int  # that are trained
    frozen_blocks: int
    scalars: int  # that FSDP2 leaves whole
    feature_width: int  # in which images meet captions; 0 where they do not
    counted_tokens: int  # SuperClass's counts; 0 where there are none


@dataclass(frozen=True, slots=True)
class Collective:
    """Something that all processes send each other in every step, in so many calls of equal size."""

    what: str
    kind: Kind
    size: float  # bytes of the whole tensor: after an all-gather, before a reduce-scatter
    calls: int = 1
    behind: Phase | None = None  # the computation that may go on meanwhile; None: all wait for it


def collectives_of(
    weights: Weights, sharding: Sharding, bytes_a_weight: int, batch: float, processes: int
) -> list[Collective]:
    """Return what a step sends, as `bench.train.distributed` and `losses.collectives` do; `batch` is of one process.

    FSDP2 gathers weights in the precision of the computation (`bytes_a_weight`), the blocks' again in the backward, and
    scatters gradients in fp32.
    """
    rows, sums = batch * processes, 1  # the loss, averaged
    gradients = float(FP32 * weights.trained)
    if sharding == "ddp":
        buckets = 1 + math.ceil(max(0, gradients - FIRST_BUCKET) / BUCKET)
        found = [Collective("gradients", "all-reduce", gradients, buckets, "backward")]
    else:
        gathers = weights.blocks + weights.frozen_blocks + 1
        whole, again = float(weights.trained + weights.frozen), float(weights.in_blocks)
        found = [
            Collective("weights", "all-gather", bytes_a_weight * whole, gathers, "forward"),
            Collective("blocks' weights again", "all-gather", bytes_a_weight * again, weights.blocks, "backward"),
            Collective("gradients", "reduce-scatter", gradients, weights.blocks + 1, "backward"),
        ]
        sums += 1 + weights.scalars  # the gradient's norm
    if weights.method in CONTRASTIVE:
        features = FP32 * rows * weights.feature_width
        found += [
            Collective("captions' features", "all-gather", features),
            Collective("their gradients", "reduce-scatter", features),
        ]
        sums += 1  # of the loss' parts
        if weights.method != "siglip":
            found.append(Collective("norms of columns", "all-reduce", 2 * FP32 * rows, 2))
    if weights.counted_tokens:
        found.append(Collective("counts of tokens", "all-reduce", float(FP32 * weights.counted_tokens)))
    return [*found, Collective("single figures", "all-reduce", float(FP32 * sums), sums)]


def seconds_of(collective: Collective, processes: int, links: Links) -> float:
    """Return how long all calls of a collective take."""
    nodes = math.ceil(processes / links.per_node)
    within, size = processes / nodes, collective.size / collective.calls
    node = ring_seconds(size, within, links.link, links.link_latency)
    network = ring_seconds(size / within, nodes, links.network, links.network_latency)
    if collective.kind == "all-reduce":
        sent = network - (nodes - 1) * links.network_latency
        tree = 2 * math.ceil(math.log2(nodes)) * links.network_latency
        return collective.calls * (2 * node + 2 * sent + tree)
    return collective.calls * (node + network)


def ring_seconds(size: float, processes: float, bandwidth: float, latency: float) -> float:
    """Return how long a ring takes to gather parts of a whole of `size` bytes everywhere, or to scatter their sums.

    An all-reduce is one behind the other. A ring of n processes takes n - 1 steps, in each of which every process sends
    a part: (n - 1) / n of the whole over the bandwidth, and n - 1 latencies.
    """
    return (processes - 1) * (latency + size / processes / bandwidth)


def total_seconds(collectives: Sequence[Collective], processes: int, links: Links, behind: Phase | None) -> float:
    """Return how long those collectives take that may go on behind a phase, or behind none."""
    return math.fsum(seconds_of(one, processes, links) for one in collectives if one.behind == behind)
