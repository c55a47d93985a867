"""Memory limits, and the detection of out-of-memory errors."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench.profilers.memory import read_status_bytes

# Out-of-memory messages of torch's allocators, the C++ library and oneDNN (the last).
OUT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory", "bad_alloc", "could not create a primitive")


@contextmanager
def memory_limit(device: torch.device, limit_bytes: int) -> Iterator[None]:
    """Limit the block to so many bytes above those that the process holds now.

    On CUDA the limit is of the allocator's reserved memory; on a CPU of private writable memory (RLIMIT_DATA, Linux
    only). Raises OSError on other systems.
    """
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        allowed = torch.cuda.memory_reserved(device) + limit_bytes
        torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
        return
    held = read_status_bytes("VmData")
    if held is None:
        raise OSError("a memory limit on a CPU needs Linux: the kernel keeps it (RLIMIT_DATA)")
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (held + limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is out of memory."""
    text = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in text for word in OUT_OF_MEMORY)
