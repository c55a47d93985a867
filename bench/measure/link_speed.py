"""Bandwidth and latency between the processes of a job, from timed all-reduces."""

import math
from collections.abc import Sequence
from statistics import median

import torch
import torch.distributed as dist

from bench.environment.torchrun_ranks import describe_node, read_torchrun_ranks
from bench.profilers.clock import clock
from bench.records.record import AllReduceSpeed
from bench.train.distributed import WATCHDOG_TIMEOUT, all_gather_objects, barrier
from losses.collectives import Group

NUM_WARMUPS = 3
NUM_REPETITIONS = 15
# Matrix products before each all-reduce, and the rows and columns of the matrices: on a CPU some milliseconds.
NUM_MATMULS = 20
MATMUL_WIDTH = 256
# All-reduces per repetition, so that starting the first and waiting for the last hardly count.
CALLS_PER_REPETITION_ON_GPU = 20


def measure_links(message_bytes: int, device: torch.device) -> AllReduceSpeed:
    """Measure the links within and between the nodes of a job, all nodes and all ranks at the same time.

    Between nodes, each rank all-reduces with the ranks of its local rank, as a plan assumes; these steps
    are those of a tree. Bandwidth and latency are those of the slowest rank. Every node has equally many processes.
    """
    local = read_torchrun_ranks().local_world_size
    ranks = dist.get_world_size()
    within_nodes = [list(range(first, first + local)) for first in range(0, ranks, local)]
    between_nodes = [list(range(first, ranks, local)) for first in range(local)]
    tree_steps = 2 * math.ceil(math.log2(ranks // local))
    speed, latency, node = _measure_slowest_rank(
        message_bytes, device, within_nodes, 2 * (local - 1)
    )
    network_speed, network_latency, _ = _measure_slowest_rank(
        message_bytes, device, between_nodes, tree_steps
    )
    return AllReduceSpeed(
        backend=dist.get_backend(),
        message_bytes=message_bytes,
        bytes_per_second=speed,
        latency_seconds=latency,
        slowest_node=node,
        network_bytes_per_second=network_speed,
        network_latency_seconds=network_latency,
        processes_per_node=local,
    )


def _measure_slowest_rank(
    message_bytes: int, device: torch.device, groups: Sequence[list[int]], latency_steps: int
) -> tuple[float | None, float | None, str]:
    """Return bytes per second and seconds per step of the slowest rank, and its node; None if a group is one rank.

    All groups, which are lists of ranks, are measured at the same time. `latency_steps` is the number of sequential
    steps of an all-reduce.
    """
    if len(groups[0]) == 1:
        return None, None, ""
    group, _ = dist.new_subgroups_by_enumeration(groups, timeout=WATCHDOG_TIMEOUT)  # type: ignore[no-untyped-call]
    figures = _measure_group(message_bytes, device, group, latency_steps)
    ranks = all_gather_objects((*figures, describe_node()))
    speed, _, node = min(ranks)
    slowest_latency = max(latency for _, latency, _ in ranks)
    return speed, slowest_latency, node


def _measure_group(
    message_bytes: int, device: torch.device, group: Group, latency_steps: int
) -> tuple[float, float]:
    """Time all-reduces of one number and of `message_bytes` bytes; return the bus bandwidth and the seconds per step.

    The bandwidth is that of the fastest all-reduces, which other processes disturb least; at least a tenth of their
    time counts as sending. The latency is a median. On a CPU each all-reduce follows some milliseconds of computation,
    as in training, so that it includes waking up and waiting for the last process: about twice that of idle processes.
    """
    processes = dist.get_world_size(group)
    small = _time_all_reduces(1, device, group)
    large = _time_all_reduces(max(2, message_bytes // 4), device, group)
    fastest = min(large)
    sending = max(fastest - min(small), fastest / 10)
    bandwidth = 2 * (processes - 1) / processes * message_bytes / sending
    return bandwidth, median(small) / latency_steps


def _time_all_reduces(num_elements: int, device: torch.device, group: Group) -> list[float]:
    """Return the seconds of all-reduces, which all groups begin at the same time."""
    values = torch.zeros(num_elements, device=device)
    matrix = torch.ones(MATMUL_WIDTH, MATMUL_WIDTH, device=device)
    calls = CALLS_PER_REPETITION_ON_GPU if device.type == "cuda" else 1
    seconds = []
    for _ in range(NUM_WARMUPS + NUM_REPETITIONS):
        barrier()
        for _ in range(NUM_MATMULS):
            torch.mm(matrix, matrix)
        with clock(device) as elapsed:
            for _ in range(calls):
                dist.all_reduce(values, group=group)
        seconds.append(elapsed.seconds / calls)
    return seconds[NUM_WARMUPS:]
