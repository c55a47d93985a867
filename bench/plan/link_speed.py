"""Bandwidth and latency between processes of this machine, from timed all-reduces; started by torchrun."""

import sys
import time
from statistics import median

import msgspec
import torch
import torch.distributed as dist

REPETITIONS = 15
WORK, WIDTH = 20, 256  # number and width of matrix products before each collective: some milliseconds


class LinkSpeed(msgspec.Struct, frozen=True):
    """Bandwidth and latency of a ring step."""

    bytes_per_second: float
    latency_seconds: float


def measure_link(size: int) -> LinkSpeed:
    """Time all-reduces of one number and of `size` bytes: 2 (n - 1) ring steps over n processes.

    Each follows some milliseconds of computation, as in training, so that latency includes waking up and waiting for
    the last process: the median for one number is about twice that of idle processes. The bandwidth is that of the
    fastest all-reduces, which other processes disturb least; at least a tenth of their time counts as sending.
    """
    processes = dist.get_world_size()
    small, large = _all_reduce_seconds(1), _all_reduce_seconds(max(2, size // 4))
    sending = max(min(large) - min(small), min(large) / 10)
    steps = 2 * (processes - 1)
    return LinkSpeed(bytes_per_second=steps / processes * size / sending, latency_seconds=median(small) / steps)


def _all_reduce_seconds(numbers: int) -> list[float]:
    values, matrix, seconds = torch.zeros(numbers), torch.ones(WIDTH, WIDTH), []
    for _ in range(REPETITIONS):
        dist.barrier()
        for _ in range(WORK):
            torch.mm(matrix, matrix)
        start = time.perf_counter()
        dist.all_reduce(values)
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Print the `LinkSpeed` as JSON on rank 0."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    speed = measure_link(int(sys.argv[1]))
    if dist.get_rank() == 0:
        print(msgspec.json.encode(speed).decode(), flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
