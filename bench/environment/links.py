"""What `doctor` measures under torchrun: the links between the ranks of a job, and what each rank found."""

from typing import Annotated

import msgspec

from bench.environment.circumstances import Texts
from bench.record_kind import RecordKind

PositiveCount = Annotated[int, msgspec.Meta(ge=1, le=10**18)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
DDP_BUCKET_BYTES = 25 << 20  # of DDP's gradient buckets: torch's default


class RankState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one rank of a job found: its node, its software, and the results folder that rank 0 wrote to."""

    node: str  # host name, and number of the node in the job
    processors: str
    packages: Texts
    commit: str  # of this project
    clock_ahead_seconds: float  # of rank 0's clock; the time that a barrier takes is within it
    visible_after_seconds: NonNegative | None  # until the folder lists a file of rank 0's; None: it does not
    is_locked_out: bool | None  # whether rank 0's lock on this file kept it out; None: it did not see the file


class RankStates(RecordKind, frozen=True, kw_only=True, tag="ranks"):
    """What all ranks of a job found, in their order."""

    needs_experiment = False

    ranks: Annotated[tuple[RankState, ...], msgspec.Meta(min_length=1)]


class LinkSpeed(RecordKind, frozen=True, kw_only=True, tag="link"):
    """Bus bandwidth, per process and direction, and latency of all-reduces between the processes of a job.

    Between nodes, each rank exchanges with the ranks of the same local rank. A job has one process per GPU on GPUs.
    """

    needs_experiment = False
    backend: str  # of torch.distributed
    message_bytes: PositiveCount  # of the all-reduces that were timed
    bytes_per_second: NonNegative | None  # within a node, of the slowest; None: each node has one process
    latency_seconds: NonNegative | None  # per ring step
    slowest_node: str = ""
    network_bytes_per_second: NonNegative | None = None  # between nodes; None: there is one node
    network_latency_seconds: NonNegative | None = None  # per step of a tree
    processes_per_node: PositiveCount | None = None  # None: all processes were on one machine
