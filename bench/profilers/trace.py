"""A trace of every operation, to look into (Perfetto, chrome://tracing). Never in a timed run: it slows all it sees."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


@contextmanager
def traced(device: torch.device, path: Path) -> Iterator[None]:
    """Record the block's operations on CPU and device, with shapes; write them to `path` (.json.gz) when it ends."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=activities, record_shapes=True) as profiler:
        yield
    unfinished = path.with_name(f".{path.name}")  # keeps its ending: the profiler packs what ends with .gz
    profiler.export_chrome_trace(str(unfinished))
    unfinished.replace(path)
