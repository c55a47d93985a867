"""A trace of every operation for Perfetto or chrome://tracing. Tracing slows the run, so no timed run is traced."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


@contextmanager
def trace_to(device: torch.device, path: Path) -> Iterator[None]:
    """Record the block's operations on CPU and device, with shapes, and write them to `path` (.json.gz) at its end."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=activities, record_shapes=True) as profiler:
        yield
    unfinished = path.with_name(f".{path.name}")  # with the same suffix: the profiler compresses files named .gz
    profiler.export_chrome_trace(str(unfinished))
    unfinished.replace(path)
