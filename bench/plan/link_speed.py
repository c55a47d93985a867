"""Bandwidth and latency between processes, from timed all-reduces: of a job of torchrun, or of this machine."""

import math
import sys
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist

from bench.environment.machine import current_circumstances
from bench.environment.rank_info import torchrun_env
from bench.measure.rank_states import read_rank_states
from bench.profilers.clock import clock
from bench.record import LinkSpeed, Record, comparison_of, write_record
from bench.train.distributed import all_gather_objects, world_group
from losses.collectives import Group

REPETITIONS = 15
WORK, WIDTH = 20, 256  # number and width of matrix products before each collective: on a CPU some milliseconds


def measure_job(size: int, device: torch.device, results: Path) -> LinkSpeed:
    """Measure the links within and between the nodes of a job, all nodes and all ranks at the same time.

    Within a node an all-reduce has `size` bytes. Between nodes each rank all-reduces its share of them with the ranks
    that have its number on the other nodes, as in `bench.plan.collectives`. Bandwidth and latency are those of the
    slowest rank. ValueError if the nodes have different numbers of processes.
    """
    local, ranks = torchrun_env().local_world_size, dist.get_world_size()
    if {*all_gather_objects(local, world_group())} != {local}:
        raise ValueError("the nodes have different numbers of processes: start equally many on each")
    nodes = ranks // local
    within = [dist.new_group([*range(first, first + local)]) for first in range(0, ranks, local)]
    between = [dist.new_group([*range(first, ranks, local)]) for first in range(local)]
    node, on_node = divmod(dist.get_rank(), local)
    link = measure_link(size, device, within[node], 2 * (local - 1)) if local > 1 else None
    tree = 2 * math.ceil(math.log2(nodes))
    network = measure_link(size // local, device, between[on_node], tree) if nodes > 1 else None
    states = read_rank_states(results, device, link and link[0], network and network[0])
    slowest, slowest_between = (
        (min(one[0] for one in found), max(one[1] for one in found)) if found[0] else (None, None)
        for found in zip(*all_gather_objects((link, network), world_group()), strict=True)
    )
    return LinkSpeed(
        backend=dist.get_backend(),
        message_bytes=size,
        bytes_per_second=slowest[0],
        latency_seconds=slowest[1],
        network_bytes_per_second=slowest_between[0],
        network_latency_seconds=slowest_between[1],
        processes_per_node=local,
        ranks=states,
    )


def measure_link(size: int, device: torch.device, group: Group, latency_steps: int) -> tuple[float, float]:
    """Time all-reduces of one number and of `size` bytes; return bytes per second and seconds per step.

    A ring sends in 2 (n - 1) steps; the latency is that of `latency_steps` steps, fewer for a tree. Each all-reduce
    follows some milliseconds of computation, as in training, so that latency includes waking up and waiting for the
    last process: the median for one number is about twice that of idle processes. The bandwidth is that of the fastest
    all-reduces, which other processes disturb least; at least a tenth of their time counts as sending.
    """
    processes = dist.get_world_size(group)
    small, large = (_all_reduce_seconds(numbers, device, group) for numbers in (1, max(2, size // 4)))
    sending = max(min(large) - min(small), min(large) / 10)
    return 2 * (processes - 1) / processes * size / sending, median(small) / latency_steps


def _all_reduce_seconds(numbers: int, device: torch.device, group: Group) -> list[float]:
    values, matrix = torch.zeros(numbers, device=device), torch.ones(WIDTH, WIDTH, device=device)
    seconds = []
    for _ in range(REPETITIONS):
        dist.barrier(group)
        for _ in range(WORK):
            torch.mm(matrix, matrix)
        with clock(device) as elapsed:
            dist.all_reduce(values, group=group)
        seconds.append(elapsed.seconds)
    return seconds


def main() -> None:
    """Record the links of CPU processes for messages of so many bytes, at the path of the second argument."""
    device, path = torch.device("cpu"), Path(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    where = current_circumstances(None, device, dist.get_world_size())
    link = measure_job(int(sys.argv[1]), device, path.parent)
    if dist.get_rank() == 0:
        write_record(Record(comparison=comparison_of(path), experiment=None, circumstances=where, measured=link), path)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
