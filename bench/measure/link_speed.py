"""Bandwidth and latency between processes, from timed all-reduces: of a job of torchrun, or of this machine."""

import math
import sys
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, cast

import torch
import torch.distributed as dist

from bench.environment.rank_info import describe_node, torchrun_env
from bench.profilers.clock import clock
from bench.records.current import current_circumstances
from bench.records.record import LinkSpeed, Record, comparison_from_filename, write_record
from bench.train.distributed import WATCHDOG_TIMEOUT, all_gather_objects, barrier
from losses.collectives import Group

if TYPE_CHECKING:
    from collections.abc import Callable

WARMUPS, REPETITIONS = 3, 15
# Number and width of matrix products before each collective: on a CPU some milliseconds.
WORK, WIDTH = (
    20,
    256,
)
CALLS_ON_GPU = (
    20  # of a repetition, so that starting the first and waiting for the last do not count
)


def measure_links(size: int, device: torch.device) -> LinkSpeed:
    """Measure the links within and between the nodes of a job, all nodes and all ranks at the same time.

    Between nodes, each rank all-reduces with the ranks of its local rank, as a plan assumes; these steps
    are those of a tree. Bandwidth and latency are those of the slowest rank. ValueError if the nodes have different
    numbers of processes.
    """
    local, ranks = torchrun_env().local_world_size, dist.get_world_size()
    if {*all_gather_objects(local)} != {local}:
        raise ValueError(
            "the nodes have different numbers of processes: start equally many on each"
        )
    nodes, (node, local_rank) = ranks // local, divmod(dist.get_rank(), local)
    # Each rank makes all groups, and is a member of its own ones.
    new_group = cast(
        "Callable[[list[int]], Group]", partial(dist.new_group, timeout=WATCHDOG_TIMEOUT)
    )
    within = [new_group([*range(first, first + local)]) for first in range(0, ranks, local)][node]
    between = [new_group([*range(first, ranks, local)]) for first in range(local)][local_rank]
    speed = latency = network_speed = network_latency = None
    slowest_node = ""
    if local > 1:
        found = all_gather_objects(
            (*_measure(size, device, within, 2 * (local - 1)), describe_node())
        )
        speed, _, slowest_node = min(found)
        latency = max(of_rank for _, of_rank, _ in found)
    if nodes > 1:
        timed = _measure(size, device, between, 2 * math.ceil(math.log2(nodes)))
        speeds, latencies = zip(*all_gather_objects(timed), strict=True)
        network_speed, network_latency = min(speeds), max(latencies)
    return LinkSpeed(
        backend=dist.get_backend(),
        message_bytes=size,
        bytes_per_second=speed,
        latency_seconds=latency,
        slowest_node=slowest_node,
        network_bytes_per_second=network_speed,
        network_latency_seconds=network_latency,
        processes_per_node=local,
    )


def _measure(
    size: int, device: torch.device, group: Group, latency_steps: int
) -> tuple[float, float]:
    """Time all-reduces of one number and of `size` bytes; return the bus bandwidth and the seconds per step.

    The bandwidth is that of the fastest all-reduces, which other processes disturb least; at least a tenth of their
    time counts as sending. The latency is a median. On a CPU each all-reduce follows some milliseconds of computation,
    as in training, so that it includes waking up and waiting for the last process: about twice that of idle processes.
    """
    processes = dist.get_world_size(group)
    small, large = (_all_reduce_seconds(count, device, group) for count in (1, max(2, size // 4)))
    sending = max(min(large) - min(small), min(large) / 10)
    return 2 * (processes - 1) / processes * size / sending, median(small) / latency_steps


def _all_reduce_seconds(num_elements: int, device: torch.device, group: Group) -> list[float]:
    """Return the seconds of all-reduces, which all groups begin at the same time."""
    values, matrix = (
        torch.zeros(num_elements, device=device),
        torch.ones(WIDTH, WIDTH, device=device),
    )
    seconds, calls = [], CALLS_ON_GPU if device.type == "cuda" else 1
    for _ in range(WARMUPS + REPETITIONS):
        barrier()
        for _ in range(WORK):
            torch.mm(matrix, matrix)
        with clock(device) as elapsed:
            for _ in range(calls):
                dist.all_reduce(values, group=group)
        seconds.append(elapsed.seconds / calls)
    return seconds[WARMUPS:]


def main() -> None:
    """Record the links of CPU processes for messages of so many bytes, at the path of the second argument."""
    device, path = torch.device("cpu"), Path(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    where = current_circumstances(None, device, dist.get_world_size())
    link = measure_links(int(sys.argv[1]), device)
    if dist.get_rank() == 0:
        write_record(
            Record(
                comparison=comparison_from_filename(path),
                experiment=None,
                circumstances=where,
                measured=link,
            ),
            path,
        )
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
