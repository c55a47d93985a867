"""A speed run: warm-up, timed windows, and a pass over the phases."""

import math
import platform
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.data.stream import BatchStream
from bench.environment.gpu_specs import find_datasheet_peak
from bench.environment.slots import yield_and_wait_for_slot
from bench.experiment.auto_fields import resolve_precision_and_compile
from bench.experiment.config import Experiment
from bench.experiment.fields import TimingSettings
from bench.interfaces.method import get_method
from bench.measure.costs import count_mean_step_flops
from bench.measure.heating import yield_until_device_is_hot
from bench.measure.windows import MAX_WINDOWS_FACTOR, TimingWindows
from bench.profilers.clock import time_forward_of_each_module, time_synchronized_block
from bench.profilers.core_waits import read_core_wait_seconds
from bench.profilers.counters import count_compiled_graphs
from bench.profilers.device import (
    DeviceReadings,
    estimate_lost_cores,
    make_cpu_busy_gauges,
    make_device_gauges,
    sample_device_during_block,
)
from bench.profilers.nvml import VOIDING_SLOWDOWNS, DeviceGauges
from bench.records.record import OTHERS_BUSY, Speed, StepFlops
from bench.train.attention import run_and_list_attention_kernels
from bench.train.build import (
    TrainRun,
    build_train_run,
    count_trained_parameters,
    log_loader_workers,
    make_sample_record_fields,
    open_batch_stream,
    require_finite_losses,
    steps_with_each_size_first,
    take_steps_at_full_learning_rate,
)
from bench.train.distributed import (
    AUTOCAST_DTYPES,
    all_gather_objects,
    all_reduce_max,
    barrier,
    world_group_or_none,
)
from models.heads import DualEncoder

NOT_READ = -1.0  # stands for a missing reading in a maximum over ranks


def measure_speed(
    experiment: Experiment,
    device: torch.device,
    results: Path,
    round_: int,
    flops: StepFlops | None = None,
) -> Speed:
    """Run the warm-up, which is recorded and not counted, time windows, then the phases of further steps.

    `flops` are the mean of the planned steps; None: they are counted. Every rank times its own windows, which begin at
    a barrier, and its phases; the other figures are of this rank. Windows are timed until enough of them count
    (bench/measure/windows.py). A window in which a graph was compiled is recorded as not measured. Raises RuntimeError
    if graphs were compiled in all windows.
    """
    run = build_train_run(open_batch_stream(experiment, device, results))
    if round_ == 0:
        log_loader_workers(run.stream)
    untimed_steps = steps_with_each_size_first(
        run.stream.order.batch_shapes, experiment.timing.untimed_steps
    )
    first_step = experiment.timing.untimed_steps
    steps_per_window = experiment.timing.steps_per_window
    with time_synchronized_block(device) as warmup:
        require_finite_losses(
            take_steps_at_full_learning_rate(run, untimed_steps), untimed_steps, run.stream
        )
        for _ in yield_until_device_is_hot(device):
            take_steps_at_full_learning_rate(run, range(first_step, first_step + steps_per_window))
            first_step += steps_per_window

    planned_steps = range(
        first_step, first_step + experiment.timing.timed_windows * steps_per_window
    )
    if device.type == "cpu":
        # Nothing is launched ahead, and other work disturbs fewer of short windows.
        steps_per_window = 1
    wait_before = run.stream.wait_seconds
    windows, readings = time_until_enough_windows(run, planned_steps, steps_per_window)
    if not windows:
        raise RuntimeError(
            "no window can be used (graphs were compiled in all): give the experiment more untimed_steps"
        )
    window_seconds = [window.seconds for window in windows]
    data_wait_share = (run.stream.wait_seconds - wait_before) / sum(window_seconds)
    rank_window_seconds = []
    if world_group_or_none() is not None:
        rank_window_seconds = all_gather_objects(tuple(window_seconds))
        # To a rank, the other ranks are among the other processes.
        readings.figures.pop(OTHERS_BUSY, None)

    num_planned = len(planned_steps) // steps_per_window
    timing_windows = steps_as_windows_of_one_image(windows, num_planned)
    is_disturbed = timing_windows.undisturbed_images_per_second() is None
    phase_steps = plan_steps_timed_by_phase(
        experiment.timing,
        device,
        windows[-1].steps.stop,
        has_several_sizes=bool(experiment.image.random_image_sizes),
    )
    phases = time_step_phases(run, phase_steps, may_prolong=not is_disturbed)
    phase_seconds = {}
    for name in phases[0].phase_seconds:
        seconds = tuple(step.phase_seconds[name] for step in phases)
        if min(seconds) > 0:
            phase_seconds[name] = seconds
        else:
            readings.not_measured[f"phase {name}"] = "a step did not call its module"
    if isinstance(run.model, DualEncoder) and run.model.text.padding_reason:
        readings.not_measured["captions without padding"] = run.model.text.padding_reason
    targets = [run.stream.target(k) for k in planned_steps]
    image_sizes = [run.stream.order.image_side(k) for k in planned_steps]
    tokens = [target.captions.tokens_per_caption for target in targets if target.captions]
    precision, _ = resolve_precision_and_compile(experiment.runtime, device)
    peak, peak_source = find_or_measure_peak_flops_and_source(device, precision)
    return Speed(
        round=round_,
        warmup_seconds=warmup.seconds,
        window_seconds=tuple(window_seconds),
        steps_per_window=steps_per_window,
        window_core_waits=tuple(timing_windows.waiting_cores),
        window_throttled_percent=tuple(timing_windows.throttled_percent),
        window_images=_count_images_if_sizes_vary(run.stream, windows),
        phase_seconds=phase_seconds,
        planned_phase_steps=len(phase_steps),
        phase_core_waits=_empty_if_any_nan([step.waiting_cores for step in phases]),
        phase_images=_count_images_if_sizes_vary(run.stream, phases),
        flops=flops or count_mean_step_flops(experiment, targets, image_sizes),
        tokens_per_caption=sum(tokens) / len(tokens) if tokens else None,
        trained_parameters=count_trained_parameters(run.model),
        tower_parameters=sum(parameter.numel() for parameter in run.tower.parameters()),
        peak_flops_per_second=peak,
        peak_source=peak_source,
        target_building_seconds=run.stream.target_building_seconds,
        num_captions=run.stream.num_captions,
        utilisation=readings.figures,
        not_measured=readings.not_measured,
        data_wait_share=data_wait_share,
        **make_sample_record_fields(run.stream),
        attention_kernels=run_and_list_attention_kernels(
            lambda: run.step.forward(run.stream.batch(0))
        ),
        rank_window_seconds=tuple(rank_window_seconds),
    )


@dataclass(slots=True)
class TimedSteps:
    """Steps that were timed together; the figures are set after the last of them."""

    steps: range
    seconds: float = math.nan  # of this rank
    # Core-seconds per second that threads waited for a core; NaN: unknown.
    waiting_cores: float = math.nan
    # Percent of the time, by heat or by the GPU's hardware, on the worst rank; NaN: not read.
    throttled_percent: float = math.nan
    new_graphs: int = 0  # number of graphs that were compiled meanwhile, on the rank with the most
    # Of a step that was timed in phases, by the name of the phase.
    phase_seconds: dict[str, float] = field(default_factory=dict)
    readings: DeviceReadings = field(default_factory=DeviceReadings)


@contextmanager
def time_steps_in_block(run: TrainRun, steps: range, reader: DeviceGauges) -> Iterator[TimedSteps]:
    """Time the block of a `with` statement, which takes the steps; yield an object that is filled in at its end."""
    device = run.stream.device
    timed = TimedSteps(steps)
    graphs_before = count_compiled_graphs()
    waited_seconds_before = read_core_wait_seconds()
    with (
        sample_device_during_block(reader, device) as timed.readings,
        time_synchronized_block(device) as elapsed,
    ):
        yield timed
    timed.seconds = elapsed.seconds
    timed.waiting_cores = measure_or_estimate_lost_cores(
        run, timed.readings, waited_seconds_before, elapsed.seconds
    )
    figures = timed.readings.figures
    throttled_percent = max(figures.get(name, NOT_READ) for name in VOIDING_SLOWDOWNS)
    new_graphs, throttled_percent = all_reduce_max(
        [float(count_compiled_graphs() - graphs_before), throttled_percent]
    )
    timed.new_graphs = int(new_graphs)
    timed.throttled_percent = math.nan if throttled_percent < 0 else throttled_percent


def time_until_enough_windows(
    run: TrainRun, planned_steps: range, steps_per_window: int
) -> tuple[list[TimedSteps], DeviceReadings]:
    """Time windows until as many count as are planned, or five times as many were timed.

    Return the windows, and the means of the device's readings over all of them. Windows in which a graph was compiled
    are left out, and noted as not measured. All ranks time the same windows. An interleaved run yields its slot before
    each window.
    """
    reader = make_device_gauges(run.stream.device)
    num_planned = len(planned_steps) // steps_per_window
    windows: list[TimedSteps] = []
    left_out: dict[str, str] = {}
    all_readings: list[DeviceReadings] = []
    first_step = planned_steps.start
    while not steps_as_windows_of_one_image(windows, num_planned).has_enough_windows():
        if len(all_readings) >= MAX_WINDOWS_FACTOR * num_planned:
            break
        steps = range(first_step, first_step + steps_per_window)
        yield_and_wait_for_slot()
        barrier()
        with time_steps_in_block(run, steps, reader) as window:
            losses = take_steps_at_full_learning_rate(run, steps)
        require_finite_losses(losses, steps, run.stream)
        all_readings.append(window.readings)
        if window.new_graphs:
            number = f"window {len(all_readings)}"
            left_out[number] = f"{window.new_graphs} graphs were compiled in it"
        else:
            windows.append(window)
        first_step = steps.stop
    readings = DeviceReadings.mean(all_readings)
    readings.not_measured |= left_out
    return windows, readings


def steps_as_windows_of_one_image(timed: Sequence[TimedSteps], num_planned: int) -> TimingWindows:
    """Return timed steps as `TimingWindows` of one image each, for the rule which of them count."""
    return TimingWindows(
        num_planned=num_planned,
        images=[1] * len(timed),
        seconds=[window.seconds for window in timed],
        waiting_cores=_empty_if_any_nan([window.waiting_cores for window in timed]),
        throttled_percent=_empty_if_any_nan([window.throttled_percent for window in timed]),
    )


def _empty_if_any_nan(readings: Sequence[float]) -> tuple[float, ...]:
    """Return the readings of windows; none of them if this system does not give all."""
    if any(math.isnan(reading) for reading in readings):
        return ()
    return tuple(readings)


def measure_or_estimate_lost_cores(
    run: TrainRun, readings: DeviceReadings, waited_seconds_before: float | None, seconds: float
) -> float:
    """Return the core-seconds per second for which other work kept this run from a core; NaN if nothing reports it.

    All ranks call it: where waits cannot be measured, the readings of all ranks give an estimate.
    `waited_seconds_before` is `read_core_wait_seconds` before the block of the readings, which took `seconds`.
    """
    waited_seconds = read_core_wait_seconds()
    # Threads of loader workers and of other ranks wait for each other, so that their waits say nothing of other work.
    is_alone = not run.stream.num_workers and world_group_or_none() is None
    may_have_waits = run.stream.device.type == "cpu" and is_alone
    if may_have_waits and waited_seconds is not None and waited_seconds_before is not None:
        return (waited_seconds - waited_seconds_before) / seconds
    return estimate_lost_cores(all_gather_objects((platform.node(), readings.figures)))


def plan_steps_timed_by_phase(
    timing: TimingSettings, device: torch.device, first_step: int, *, has_several_sizes: bool
) -> range:
    """Return the steps to split into phases: as many as in all windows.

    On a GPU, to keep the run short, they are as many as in one window, unless the images have several sizes.
    """
    count = timing.steps_per_window
    if device.type != "cuda" or has_several_sizes:
        count *= timing.timed_windows
    return range(first_step, first_step + count)


def find_or_measure_peak_flops_and_source(
    device: torch.device, precision: str
) -> tuple[float | None, str]:
    """Return the device's peak in FLOP/s and where it is from; None and the reason if it is unknown.

    On a CPU it is measured: the best of a few large matrix products in this precision, at this run's thread count.
    """
    if device.type != "cpu":
        return find_datasheet_peak(torch.cuda.get_device_name(device), precision)
    side = 1024
    seconds: list[float] = []
    a, b = torch.rand(2, side, side, dtype=AUTOCAST_DTYPES.get(precision, torch.float32))
    for _ in range(10):
        with time_synchronized_block(device) as elapsed:
            a @ b
        seconds.append(elapsed.seconds)
    products = f"1024 x 1024 x 1024 {precision} matrix products"
    return 2 * side**3 / min(seconds), f"best of ten {products} measured in the same process"


def _count_images_if_sizes_vary(
    stream: BatchStream[Any], windows: Iterable[TimedSteps]
) -> tuple[int, ...]:
    """Return the number of images of each window on one device; empty if all images have one size."""
    if not stream.experiment.image.random_image_sizes:
        return ()
    shape_at = stream.order.batch_shapes.shape_at
    return tuple(sum(shape_at(step).num_images for step in window.steps) for window in windows)


def time_step_phases(
    run: TrainRun, planned_steps: range, *, may_prolong: bool = True
) -> list[TimedSteps]:
    """Time the phases of each step with a device synchronisation between them, which a timed window must not have.

    With `may_prolong`, steps are timed until as many count as planned, as in `time_until_enough_windows`. A step in
    which a graph was compiled is taken again.
    """
    modules: dict[str, nn.Module] = {"image forward": run.tower}
    augmentor = getattr(run.model, "augmentor", None)
    if isinstance(augmentor, nn.Module):
        modules["augmentation"] = augmentor
    text_name = get_method(run.stream.experiment.method).text_module
    if hasattr(run.model, text_name):
        modules["text forward"] = getattr(run.model, text_name)
    reader = DeviceGauges(interval_gauges=make_cpu_busy_gauges())
    steps: list[TimedSteps] = []
    max_factor = MAX_WINDOWS_FACTOR if may_prolong else 1
    k = planned_steps.start
    while not steps_as_windows_of_one_image(steps, len(planned_steps)).has_enough_windows(
        max_factor
    ):
        if len(steps) % run.stream.experiment.timing.steps_per_window == 0:
            yield_and_wait_for_slot()
        with time_steps_in_block(run, range(k, k + 1), reader) as step:
            step.phase_seconds = _take_step_and_time_phases(run, k, modules)
        if step.new_graphs:
            continue
        steps.append(step)
        k += 1
    return steps


def _take_step_and_time_phases(
    run: TrainRun, k: int, modules: dict[str, nn.Module]
) -> dict[str, float]:
    """Take step k, and return the seconds of its phases by name; the forward is split by the forwards of `modules`."""
    experiment = run.stream.experiment
    device = run.stream.device
    with time_synchronized_block(device) as data:
        batch = run.stream.batch(k)
    seconds = defaultdict[str, float](float, data=data.seconds)
    for micro_batch in batch.split_into_micro_batches(run.step.num_micro_batches):
        with (
            time_synchronized_block(device) as forward,
            time_forward_of_each_module(modules, device) as towers,
        ):
            loss = run.step.forward(micro_batch)
        with time_synchronized_block(device) as backward:
            run.step.backward(loss)
        with time_synchronized_block(device) as slowdown:
            time.sleep(experiment.timing.injected_slowdown * (forward.seconds + backward.seconds))
        for name, elapsed in towers.items():
            seconds[name] += elapsed
        seconds["head and loss"] += forward.seconds - sum(towers.values())
        seconds["backward"] += backward.seconds + slowdown.seconds
    with time_synchronized_block(device) as update:
        run.step.update(loss, experiment.optimizer.learning_rate)
    seconds["optimizer"] = update.seconds
    return seconds
