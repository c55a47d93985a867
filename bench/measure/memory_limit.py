"""Whether a run fits into a memory limit."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench.profilers.memory import status_bytes

# What torch's allocators, the C++ library and oneDNN (the last) say where there is no memory left.
OUT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory", "bad_alloc", "could not create a primitive")


@contextmanager
def memory_limit(device: torch.device, limit_bytes: int) -> Iterator[None]:
    """Let the block take so many bytes above what the process holds now.

    On CUDA the allocator's, reserved; on a CPU the process's private writable memory (RLIMIT_DATA, Linux only). Raises
    OSError where there is no such limit.
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
    held = status_bytes("VmData")
    if held is None:
        raise OSError("a memory limit on a CPU needs Linux: the kernel keeps it (RLIMIT_DATA)")
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (held + limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def is_out_of_memory(error: BaseException) -> bool:
    """Tell an error of memory from others."""
    told = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in told for word in OUT_OF_MEMORY)
