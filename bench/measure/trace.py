"""A trace of a few steps."""

from contextlib import nullcontext
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from bench.experiment.config import Experiment
from bench.train.build import (
    build_train_state,
    check_finite,
    load_data,
    steps_with_each_size_first,
    take_steps_at_full_learning_rate,
)
from bench.train.distributed import world_rank

TRACED_STEPS = 3


def trace(experiment: Experiment, device: torch.device, results: Path, path: Path) -> None:
    """Warm up, then write a trace (.json.gz) of a few steps of rank 0 for Perfetto or chrome://tracing.

    It holds the operations on CPU and device, with shapes. Tracing slows a run, so no timed run is traced.
    """
    run = build_train_state(load_data(experiment, device, results))
    first = experiment.timing.warmup_steps
    warmup_steps = steps_with_each_size_first(experiment, first)
    check_finite(take_steps_at_full_learning_rate(run, warmup_steps), warmup_steps, run.stream)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    profiler = profile(activities=activities, record_shapes=True) if world_rank() == 0 else None
    with profiler or nullcontext():
        for k in range(first, first + TRACED_STEPS):
            with record_function(f"step {k}"):
                take_steps_at_full_learning_rate(run, [k])
    if profiler is not None:
        # With the same suffix: the profiler compresses files named .gz.
        unfinished = path.with_name(f".{path.name}")
        profiler.export_chrome_trace(str(unfinished))
        unfinished.replace(path)
