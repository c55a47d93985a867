"""A speed run (warm-up, timed windows, a pass over the phases), or a trace of a few steps."""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn
from torch.profiler import record_function

from bench.config import Experiment
from bench.data.image_sizes import images_seen_before
from bench.environment.machine import resolve_auto
from bench.environment.slots import is_interleaved, yield_slot
from bench.measure.flops import count_flops
from bench.measure.peak import peak_flops
from bench.profilers.clock import clock, forward_clocks
from bench.profilers.compilation import GRAPHS, compilation_counts
from bench.profilers.device import OTHERS_BUSY, Readings, open_reader, sampled
from bench.profilers.trace import trace_to
from bench.record import Speed
from bench.train.build import (
    TrainState,
    build_train_state,
    check_finite,
    count_trained_parameters,
    first_steps,
    load_data,
    take_steps,
)
from bench.train.distributed import all_gather_floats, all_reduce_max, barrier, world_group
from losses.collectives import rank_and_world_size
from models.heads import DualEncoder

TRACED_STEPS = 3


def measure_speed(experiment: Experiment, device: torch.device, results: Path, round_: int) -> Speed:
    """Time a run: warm-up (recorded, not counted), windows, then the phases in a separate pass.

    Every rank times its own windows, which begin at a barrier; all other figures are of this rank. A window in which a
    graph was compiled is recorded as not measured. Raises RuntimeError if all windows are.
    """
    run = build_train_state(load_data(experiment, device, results))
    warmup_steps = first_steps(experiment, experiment.warmup_steps)
    with clock(device) as warmup:
        check_finite(take_steps(run, warmup_steps), warmup_steps, run.stream)

    waited, group, count = run.stream.wait_seconds, world_group(), experiment.steps_per_window
    timed = range(experiment.warmup_steps, experiment.warmup_steps + experiment.windows * count)
    windows = [timed[first : first + count] for first in range(0, len(timed), count)]
    (seconds, graphs), readings = time_windows(run, windows)
    made = all_reduce_max(graphs, device, group)  # maximum over the ranks
    kept = [at for at in range(len(windows)) if not made[at]]
    if not kept:
        raise RuntimeError("every window compiled something: give the experiment more warmup_steps")
    void = {f"window {at + 1}": f"{new:.0f} graphs were compiled in it" for at, new in enumerate(made) if new}
    window_seconds, windows = [seconds[at] for at in kept], [windows[at] for at in kept]
    waited = run.stream.wait_seconds - waited

    if group is not None and readings.figures.pop(OTHERS_BUSY, None) is not None:
        readings.not_measured[OTHERS_BUSY] = "the run's own processes are among the others"
    split = range(timed.stop, timed.stop + len(timed))
    phases = measure_phases(run, split)
    batches = [run.stream.target(k) for k in timed]
    tokens = [batch.captions.tokens_per_caption for batch in batches if batch.captions]
    peak, peak_source = peak_flops(device, resolve_auto(experiment, device)[0])
    return Speed(
        round=round_,
        warmup_seconds=warmup.seconds,
        window_seconds=tuple(window_seconds),
        window_images=window_images(experiment, windows),
        phase_seconds=phases,
        phase_images=window_images(experiment, [range(k, k + 1) for k in split]),
        flops=count_flops(experiment, batches, [run.stream.order.image_size(k) for k in timed]),
        tokens_per_caption=sum(tokens) / len(tokens) if tokens else None,
        trained_parameters=count_trained_parameters(run.model),
        tower_parameters=sum(parameter.numel() for parameter in run.tower.parameters()),
        peak_flops_per_second=peak,
        peak_source=peak_source,
        targets_seconds=run.stream.targets_seconds,
        num_captions=run.stream.num_captions,
        utilisation=readings.figures,
        not_measured=readings.not_measured | why_padding_is_kept(run.model) | void,
        sampler_share=readings.sampler_share,
        wait_share=waited / sum(seconds),
        skipped=run.stream.skipped,
        unverified=run.stream.is_unverified,
        rank_window_seconds=() if group is None else all_gather_floats(window_seconds, device, group),
        compilation=compilation_so_far(run),
    )


def time_windows(run: TrainState, windows: Sequence[range]) -> tuple[tuple[tuple[float, ...], ...], Readings]:
    """Return the results of `time_window`, and the device's readings, sampled only in this run's own slots."""
    timed, readings, device = list[tuple[float, float]](), list[Readings](), run.stream.device
    for turn in [[window] for window in windows] if is_interleaved() else [windows]:
        yield_slot()
        with sampled(open_reader(device), device) as of_turn:
            timed += [time_window(run, window) for window in turn]
        readings.append(of_turn)
    return tuple(zip(*timed, strict=True)), Readings.mean(readings)


def time_window(run: TrainState, window: range) -> tuple[float, float]:
    """Take steps after a barrier; return this rank's seconds and the number of graphs compiled in them."""
    before = compilation_so_far(run).get(GRAPHS, 0.0)
    barrier(world_group())
    with clock(run.stream.device) as elapsed:
        losses = take_steps(run, window)
    check_finite(losses, window, run.stream)
    return elapsed.seconds, compilation_so_far(run).get(GRAPHS, 0.0) - before


def compilation_so_far(run: TrainState) -> dict[str, float]:
    """Return the counts of torch.compile in this process; empty if the run is not compiled."""
    return compilation_counts() if resolve_auto(run.stream.experiment, run.stream.device)[1] else {}


def window_images(experiment: Experiment, windows: Iterable[range]) -> tuple[int, ...]:
    """Return the images of each window; empty if all steps have one size."""
    if not experiment.image_sizes:
        return ()
    return tuple(images_seen_before(experiment, of.stop) - images_seen_before(experiment, of.start) for of in windows)


def why_padding_is_kept(model: nn.Module) -> dict[str, str]:
    """Return the reason why captions stay padded, if the text tower needs it."""
    why = model.text.padding_reason if isinstance(model, DualEncoder) else None
    return {"captions without padding": why} if why else {}


def measure_phases(run: TrainState, steps: Iterable[int]) -> dict[str, tuple[float, ...]]:
    """Time the phases of each step with a device synchronisation between them, which a timed window must not have.

    A compiled forward is one phase, because splitting it would recompile it.
    """
    experiment, device = run.stream.experiment, run.stream.device
    modules: dict[str, nn.Module] = {}
    if not resolve_auto(experiment, device)[1]:
        modules = {"image forward": run.tower}
        if isinstance(run.model, DualEncoder):
            modules["text forward"] = run.model.text
    rest = "head and loss" if modules else "forward"
    seconds: dict[str, list[float]] = defaultdict(list)
    for k in steps:
        if k % experiment.steps_per_window == 0:
            yield_slot()
        with clock(device) as data:
            batch = run.stream.batch(k)
        parts = defaultdict[str, float](float, data=data.seconds)
        for part in batch.micro_batches(run.step.num_micro_batches):
            with clock(device) as forward, forward_clocks(modules, device) as towers:
                loss = run.step.forward(part)
            with clock(device) as backward:
                run.step.backward(loss)
            with clock(device) as planted:
                time.sleep(experiment.injected_slowdown * (forward.seconds + backward.seconds))
            own = {**towers, rest: forward.seconds - sum(towers.values())}
            own["backward"] = backward.seconds + planted.seconds
            for name, elapsed in own.items():
                parts[name] += elapsed
        with clock(device) as update:
            run.step.update(loss, experiment.learning_rate)
        for name, elapsed in (parts | {"optimizer": update.seconds}).items():
            seconds[name].append(elapsed)
    return {name: tuple(values) for name, values in seconds.items()}


def trace(experiment: Experiment, device: torch.device, results: Path, path: Path) -> None:
    """Warm up, then write a trace of a few steps of rank 0."""
    run = build_train_state(load_data(experiment, device, results))
    first, warmup_steps = experiment.warmup_steps, first_steps(experiment, experiment.warmup_steps)
    check_finite(take_steps(run, warmup_steps), warmup_steps, run.stream)
    with trace_to(device, path) if rank_and_world_size(world_group())[0] == 0 else nullcontext():
        for k in range(first, first + TRACED_STEPS):
            with record_function(f"step {k}"):
                take_steps(run, [k])
