"""Bandwidth and latency between processes of this machine, from timed all-reduces; started by torchrun."""

import sys
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist

from bench.environment.machine import current_circumstances, default_device
from bench.profilers.clock import clock
from bench.record import LinkSpeed, Record, comparison_of, write_record

REPETITIONS = 15
WORK, WIDTH = 20, 256  # number and width of matrix products before each collective: on a CPU some milliseconds


def measure_link(size: int, device: torch.device) -> LinkSpeed:
    """Time all-reduces of one number and of `size` bytes on a device: 2 (n - 1) ring steps over n processes.

    Each follows some milliseconds of computation, as in training, so that latency includes waking up and waiting for
    the last process: the median for one number is about twice that of idle processes. The bandwidth is that of the
    fastest all-reduces, which other processes disturb least; at least a tenth of their time counts as sending.
    """
    processes = dist.get_world_size()
    small, large = _all_reduce_seconds(1, device), _all_reduce_seconds(max(2, size // 4), device)
    sending = max(min(large) - min(small), min(large) / 10)
    steps = 2 * (processes - 1)
    return LinkSpeed(
        backend=dist.get_backend(),
        message_bytes=size,
        bytes_per_second=steps / processes * size / sending,
        latency_seconds=median(small) / steps,
    )


def _all_reduce_seconds(numbers: int, device: torch.device) -> list[float]:
    values, matrix = torch.zeros(numbers, device=device), torch.ones(WIDTH, WIDTH, device=device)
    seconds = []
    for _ in range(REPETITIONS):
        dist.barrier()
        for _ in range(WORK):
            torch.mm(matrix, matrix)
        with clock(device) as elapsed:
            dist.all_reduce(values)
        seconds.append(elapsed.seconds)
    return seconds


def record_link(size: int, path: Path, device: torch.device) -> None:
    """Measure the link between all processes; rank 0 writes its record."""
    link = measure_link(size, device)
    if dist.get_rank() == 0:
        where = current_circumstances(None, device, dist.get_world_size())
        write_record(Record(comparison=comparison_of(path), experiment=None, circumstances=where, measured=link), path)


def main() -> None:
    """Record the link for messages of so many bytes, the first argument, at the path of the second.

    GPUs use nccl, one per process; CPUs use gloo, one thread per process.
    """
    device = default_device()
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    dist.init_process_group("nccl" if on_gpu else "gloo", device_id=device if on_gpu else None)
    record_link(int(sys.argv[1]), Path(sys.argv[2]), device)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
