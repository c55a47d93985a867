"""A speed run: warm-up, timed windows, and a pass over the phases."""

import math
import platform
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from torch import nn

from bench.data.image_sizes import images_before_step
from bench.environment.gpu_specs import datasheet_peak
from bench.environment.machine import resolve_precision_and_compile
from bench.environment.slots import is_interleaved, yield_slot
from bench.experiment.config import Experiment
from bench.measure.costs import count_flops
from bench.measure.heating import heating
from bench.profilers.clock import clock, forward_clocks
from bench.profilers.core_waits import core_wait_seconds
from bench.profilers.counters import count_graphs
from bench.profilers.device import Readings, cpu_busy_spans, max_other_cpu_percent, open_reader, sampled
from bench.profilers.nvml import VOIDING_SLOWDOWNS, DeviceReader
from bench.records.record import HOST_BUSY, OTHERS_BUSY, PHASE_FIGURE, WAIT_FIGURE, Flops, Speed
from bench.train.build import (
    TrainState,
    build_train_state,
    check_finite,
    count_trained_parameters,
    load_data,
    log_labels,
    log_workers,
    sample_counts,
    steps_with_each_size_first,
    take_steps_at_full_learning_rate,
)
from bench.train.distributed import (
    AUTOCAST_DTYPES,
    all_gather_floats,
    all_gather_objects,
    all_reduce_max,
    barrier,
    world_group,
)
from models.heads import DualEncoder


def measure_speed(
    experiment: Experiment, device: torch.device, results: Path, round_: int, flops: Flops | None = None
) -> Speed:
    """Time a run: warm-up (recorded, not counted), windows, then the phases in a separate pass.

    `flops` are those of the timed steps; None: they are counted. Every rank times its own windows, which begin at a
    barrier, and its phases; the other figures are of this rank. A window in which a graph was compiled is recorded as
    not measured, as is one in which a GPU was slowed by heat or by its hardware, unless all were: then they are kept,
    and the round counts as disturbed. Raises RuntimeError if no window is left.
    """
    run = build_train_state(load_data(experiment, device, results))
    if round_ == 0:
        log_labels(run.stream)
        log_workers(run.stream)
    warmup_steps = steps_with_each_size_first(experiment, experiment.timing.warmup_steps)
    first_step, count = experiment.timing.warmup_steps, experiment.timing.steps_per_window
    with clock(device) as warmup:
        check_finite(take_steps_at_full_learning_rate(run, warmup_steps), warmup_steps, run.stream)
        with heating(device) as heat:
            while not heat.is_over():
                take_steps_at_full_learning_rate(run, range(first_step, first_step + count))
                first_step += count

    wait_before = run.stream.wait_seconds
    timed_steps = range(first_step, first_step + experiment.timing.windows * count)
    if device.type == "cpu":  # nothing is launched ahead, and what disturbs short windows leaves others alone
        count = 1
    windows = [timed_steps[first : first + count] for first in range(0, len(timed_steps), count)]
    (seconds, graphs, waits, slowed), readings = time_all_windows(run, windows)
    graphs, slowed = (all_reduce_max(figures, device) for figures in (graphs, slowed))
    void = describe_void_windows(graphs, slowed)
    kept = [index for index in range(len(windows)) if f"window {index + 1}" not in void]
    if not kept:
        reasons = "; ".join(dict.fromkeys(void.values()))
        raise RuntimeError(f"no window can be used ({reasons}): give the experiment more warmup_steps")
    window_seconds, windows = [seconds[index] for index in kept], [windows[index] for index in kept]
    data_wait_share = (run.stream.wait_seconds - wait_before) / sum(seconds)

    phases, phase_readings = measure_phases(run, phase_steps := phase_timed_steps(experiment, device, timed_steps))
    if world_group() is None:  # to a rank, the others are among the other processes
        readings.replace_if_larger(phase_readings, (OTHERS_BUSY, HOST_BUSY))
    batches = [run.stream.target(k) for k in timed_steps]
    tokens = [batch.captions.tokens_per_caption for batch in batches if batch.captions]
    peak, peak_source = peak_flops(device, resolve_precision_and_compile(experiment.runtime, device)[0])
    of_ranks = _rank_figures(device, window_seconds, phases, readings, data_wait_share)  # which corrects the readings
    return Speed(
        round=round_,
        warmup_seconds=warmup.seconds,
        window_seconds=tuple(window_seconds),
        steps_per_window=count,
        window_core_waits=_core_waits_by_others(run, [waits[index] for index in kept]),
        window_images=window_images(experiment, windows),
        phase_seconds=phases,
        phase_images=window_images(experiment, [range(k, k + 1) for k in phase_steps]),
        flops=flops or count_flops(experiment, batches, [run.stream.order.image_size(k) for k in timed_steps]),
        tokens_per_caption=sum(tokens) / len(tokens) if tokens else None,
        trained_parameters=count_trained_parameters(run.model),
        tower_parameters=sum(parameter.numel() for parameter in run.tower.parameters()),
        peak_flops_per_second=peak,
        peak_source=peak_source,
        target_building_seconds=run.stream.target_building_seconds,
        num_captions=run.stream.num_captions,
        utilisation=readings.figures,
        not_measured=readings.not_measured | why_padded(run.model) | void,
        heating_seconds=heat.seconds,
        heat_state=heat.state,
        throttled_percent=fmean(slowed[index] for index in kept),
        monitor_thread_share=readings.monitor_thread_share,
        data_wait_share=data_wait_share,
        **sample_counts(run.stream),
        **of_ranks,
        compilation=compilation_counters(run),
    )


def _rank_figures(
    device: torch.device,
    window_seconds: Sequence[float],
    phases: Mapping[str, Sequence[float]],
    readings: Readings,
    data_wait_share: float,
) -> dict[str, Any]:
    """Return the fields of a record with the figures of all ranks, those that every rank has; empty for one process.

    The reading of the CPU time of other processes becomes that of `max_other_cpu_percent`.
    """
    if world_group() is None:
        return {}
    host = platform.node() + (f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "")
    medians = {PHASE_FIGURE.format(name): 1000 * median(seconds) for name, seconds in phases.items()}
    own = medians | {WAIT_FIGURE: data_wait_share} | readings.figures
    ranks = all_gather_objects((host, own))
    names = [name for name in own if all(name in figures for _, figures in ranks)]
    if OTHERS_BUSY in names:
        names.remove(OTHERS_BUSY)
        readings.figures[OTHERS_BUSY] = max_other_cpu_percent(ranks)
    return {
        "rank_window_seconds": all_gather_floats(window_seconds, device),
        "rank_figures": {name: tuple(figures[name] for _, figures in ranks) for name in names},
        "rank_hosts": tuple(host for host, _ in ranks),
    }


def time_all_windows(run: TrainState, windows: Sequence[range]) -> tuple[tuple[tuple[float, ...], ...], Readings]:
    """Return the results of `time_one_window` with the percentage of slowed readings, and the device's readings.

    The device is read only in this run's own slots, and a GPU window by window.
    """
    timed, readings, device = list[tuple[float, ...]](), list[Readings](), run.stream.device
    reader, one_by_one = open_reader(device), is_interleaved() or device.type == "cuda"
    for slot_windows in [[window] for window in windows] if one_by_one else [windows]:
        yield_slot()
        with sampled(reader, device) as slot_readings:
            slot_results = [time_one_window(run, window) for window in slot_windows]
        throttled_percent = max(slot_readings.figures.get(name, 0.0) for name in VOIDING_SLOWDOWNS)
        timed += [(*results, throttled_percent) for results in slot_results]
        readings.append(slot_readings)
    return tuple(zip(*timed, strict=True)), Readings.mean(readings)


def describe_void_windows(graphs: Sequence[float], slowed: Sequence[float]) -> dict[str, str]:
    """Return the reason why a window is void, by the name of the window; if every other one was slowed, none is."""
    names = [f"window {number + 1}" for number in range(len(graphs))]
    void = {name: f"{count:.0f} graphs were compiled in it" for name, count in zip(names, graphs, strict=True) if count}
    rest = {name: percent for name, percent in zip(names, slowed, strict=True) if name not in void}
    if not all(rest.values()):
        reason = "the GPU was slowed by heat or by its hardware in {:.0f} % of it"
        void |= {name: reason.format(percent) for name, percent in rest.items() if percent}
    return void


def phase_timed_steps(experiment: Experiment, device: torch.device, timed_steps: range) -> range:
    """Return the steps after the timed ones that are split into phases.

    They are as many; on a GPU, to keep the run short, those of one window, unless their images have several sizes.
    """
    is_one_window = device.type == "cuda" and not experiment.image.image_sizes
    count = experiment.timing.steps_per_window if is_one_window else len(timed_steps)
    return range(timed_steps.stop, timed_steps.stop + count)


def time_one_window(run: TrainState, window: range) -> tuple[float, float, float]:
    """Take steps after a barrier; return this rank's seconds, the graphs compiled in them, and its waits for cores."""
    graphs = count_graphs()
    barrier()
    waited = core_wait_seconds()
    with clock(run.stream.device) as elapsed:
        losses = take_steps_at_full_learning_rate(run, window)
    waits = math.nan if waited is None else ((core_wait_seconds() or 0.0) - waited) / elapsed.seconds
    check_finite(losses, window, run.stream)
    return elapsed.seconds, float(count_graphs() - graphs), waits


def _core_waits_by_others(run: TrainState, waits: Sequence[float]) -> tuple[float, ...]:
    """Return the waits for cores where they are all others' doing: of one process without loader workers on a CPU."""
    is_alone = run.stream.device.type == "cpu" and world_group() is None and not run.stream.workers.count
    return tuple(waits) if is_alone and not any(map(math.isnan, waits)) else ()


def compilation_counters(run: TrainState) -> dict[str, float]:
    """Return the number of graphs and of graph breaks, and the seconds of tracing and compiling, in this process.

    They are dynamo's counters; empty if the run is not compiled. Source: `torch._dynamo.utils`, `counters` and
    `calculate_time_spent`; the seconds are the sum of `entire_frame_compile` and `entire_backward_compile`.
    """
    if not resolve_precision_and_compile(run.stream.experiment.runtime, run.stream.device)[1]:
        return {}
    from torch._dynamo.utils import calculate_time_spent, counters

    return {
        "graphs": float(count_graphs()),
        "graph breaks": float(sum(counters["graph_break"].values())),
        "seconds": calculate_time_spent()["total_wall_time"],
    }


def peak_flops(device: torch.device, precision: str) -> tuple[float | None, str]:
    """Return the device's peak in FLOP/s and its source; None if it is unknown.

    On a CPU it is measured: the best of a few large matrix products in this precision, at this run's thread count.
    """
    if device.type != "cpu":
        return datasheet_peak(torch.cuda.get_device_name(device), precision)
    side, seconds = 1024, list[float]()
    a, b = torch.rand(2, side, side, dtype=AUTOCAST_DTYPES.get(precision, torch.float32))
    for _ in range(10):
        with clock(device) as elapsed:
            a @ b
        seconds.append(elapsed.seconds)
    source = f"best of ten 1024 x 1024 x 1024 {precision} matrix products measured in the same process"
    return 2 * side**3 / min(seconds), source


def window_images(experiment: Experiment, windows: Iterable[range]) -> tuple[int, ...]:
    """Return the images of each window; empty if all steps have one size."""
    if not experiment.image.image_sizes:
        return ()
    return tuple(
        images_before_step(experiment, steps.stop) - images_before_step(experiment, steps.start) for steps in windows
    )


def why_padded(model: nn.Module) -> dict[str, str]:
    """Return the reason why captions stay padded, if the text tower needs it."""
    reason = model.text.padding_reason if isinstance(model, DualEncoder) else None
    return {"captions without padding": reason} if reason else {}


def measure_phases(run: TrainState, steps: range) -> tuple[dict[str, tuple[float, ...]], Readings]:
    """Time the phases of each step with a device synchronisation between them, which a timed window must not have.

    A step in which a graph was compiled is taken again. The readings are of CPU time, in this run's own slots.
    """
    experiment, device = run.stream.experiment, run.stream.device
    modules: dict[str, nn.Module] = {"image forward": run.tower}
    if isinstance(augmentor := getattr(run.model, "augmentor", None), nn.Module):
        modules["augmentation"] = augmentor
    if isinstance(run.model, DualEncoder):
        modules["text forward"] = run.model.text
    seconds: dict[str, list[float]] = defaultdict(list)
    reader, readings, count = DeviceReader(spans=cpu_busy_spans()), list[Readings](), experiment.timing.steps_per_window
    for slot in (steps[first : first + count] for first in range(0, len(steps), count)):
        yield_slot()
        with sampled(reader, device) as slot_readings:
            for k in slot:
                has_new_graphs = True
                while has_new_graphs:
                    before = count_graphs()
                    step_seconds = _time_step(run, k, modules)
                    has_new_graphs = any(all_reduce_max([float(count_graphs() - before)], device))
                for name, elapsed in step_seconds.items():
                    seconds[name].append(elapsed)
        readings.append(slot_readings)
    return {name: tuple(values) for name, values in seconds.items()}, Readings.mean(readings)


def _time_step(run: TrainState, k: int, modules: dict[str, nn.Module]) -> dict[str, float]:
    """Take step k, and return the seconds of its phases; the forward is split by the forwards of `modules`."""
    experiment, device = run.stream.experiment, run.stream.device
    with clock(device) as data:
        batch = run.stream.batch(k)
    seconds = defaultdict[str, float](float, data=data.seconds)
    for micro_batch in batch.micro_batches(run.step.num_micro_batches):
        with clock(device) as forward, forward_clocks(modules, device) as towers:
            loss = run.step.forward(micro_batch)
        with clock(device) as backward:
            run.step.backward(loss)
        with clock(device) as slowdown:
            time.sleep(experiment.timing.injected_slowdown * (forward.seconds + backward.seconds))
        phases = towers | {"head and loss": forward.seconds - sum(towers.values())}
        phases["backward"] = backward.seconds + slowdown.seconds
        for name, elapsed in phases.items():
            seconds[name] += elapsed
    with clock(device) as update:
        run.step.update(loss, experiment.optimizer.learning_rate)
    return seconds | {"optimizer": update.seconds}
