"""Instruments measure at the edges of a block, and a missing measurement is not zero."""

import gc
import itertools
import math
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import nn
from torch.distributed._tools.mem_tracker import MemTracker

from bench.data.stream import PackStream
from bench.environment.machine import default_device
from bench.experiment.config import Experiment
from bench.measure.memory import (
    measure_memory,
    take_step_and_count_peak_tensor_bytes,
)
from bench.measure.speed import (
    measure_speed,
    steps_as_windows_of_one_image,
    time_until_enough_windows,
)
from bench.measure.timed_run import TimedRun
from bench.methods.clip import Clip
from bench.profilers.clock import Elapsed, time_synchronized_block
from bench.profilers.core_waits import read_core_wait_seconds
from bench.profilers.counters import TensorByteCounter
from bench.profilers.device import make_device_gauges, sample_device_during_block
from bench.profilers.nvml import DeviceGauges, make_rate_gauge
from bench.records.record import PHASES, StepFlops
from bench.train.build import (
    TrainRun,
    build_train_run,
    open_batch_stream,
    take_steps_at_full_learning_rate,
)
from tests.processes import in_child, wait_until
from tests.small import TWO_BLOCKS, few_images, small

MIB = 2**20
CPU = torch.device("cpu")
TICK = 0.01  # second: the grain of the kernel's counters of CPU time
NO_FLOPS = StepFlops(image_forward=1, text_forward=1, forward=1, step=1)  # counting takes seconds
ON_A_GPU = small("clip", precision="bf16", images_seen=65_536, batch_size=16, steps_per_window=250)


def test_clock_measures_and_unfinished_blocks_are_nan() -> None:
    with time_synchronized_block(CPU) as elapsed:
        time.sleep(0.02)
    assert elapsed.seconds >= 0.02
    assert math.isnan(Elapsed().seconds)


def test_gauges_are_averaged_and_spans_are_differences() -> None:
    asked, counter = [0.0], [100.0]

    def gauge() -> float:
        asked.append(asked[-1] + 1)
        return asked[-1]

    reader = DeviceGauges(
        gauges={"busy percent": gauge},
        interval_gauges={"rise a second": make_rate_gauge(lambda: counter[0])},
    )
    before = time.perf_counter()
    with (
        sample_device_during_block(reader, CPU, interval_seconds=0.01) as readings,
        time_synchronized_block(CPU) as block,
    ):
        wait_until(lambda: len(asked) > 3)
        counter[0] += 5.0
    longest = time.perf_counter() - before
    assert readings.figures["busy percent"] == pytest.approx(sum(asked) / (len(asked) - 1))
    assert 5 / longest <= readings.figures["rise a second"] <= 5 / block.seconds
    assert readings.not_measured == {}


def test_failing_gauge_leaves_its_reason_and_others_continue() -> None:
    left = iter([1.0, 3.0])

    def fails_later() -> float:
        return next(left)

    def fails() -> float:
        raise OSError("no driver")

    gauges = {"dies": fails_later, "is dead": fails, "lives": lambda: 7.0}
    with sample_device_during_block(
        DeviceGauges(gauges=gauges, interval_gauges={"no span": lambda: fails}),
        CPU,
        interval_seconds=0.01,
    ) as readings:
        wait_until(lambda: "dies" in readings.not_measured)
    assert readings.figures == {"dies": 2.0, "lives": 7.0}  # the mean of what there was
    assert (
        readings.not_measured["is dead"] == readings.not_measured["no span"] == "OSError: no driver"
    )


@contextmanager
def busy_process(*, is_own: bool) -> Iterator[psutil.Process]:
    """A process that uses a core: a child of this process, or one that its parent left behind."""
    busy = [sys.executable, "-c", "while True: pass"]
    start = f"import subprocess; print(subprocess.Popen({busy}, stdout=subprocess.DEVNULL).pid)"
    if is_own:
        process: psutil.Process = psutil.Popen(busy)
    else:
        process = psutil.Process(int(subprocess.check_output([sys.executable, "-c", start])))
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_cpu_reader_tells_this_process_from_the_others() -> None:
    own, others = "process CPU busy percent", "other processes CPU busy percent"
    before = time.perf_counter()
    with sample_device_during_block(make_device_gauges(CPU), CPU) as readings:
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            sum(range(1000))
    assert {own, others} <= readings.figures.keys()
    machine_seconds = os.cpu_count() * (time.perf_counter() - before)
    assert readings.figures[own] > 100 * (0.2 - 2 * TICK) / machine_seconds
    for is_own, name in ((True, own), (False, others)):
        with busy_process(is_own=is_own) as process:
            before, used = time.perf_counter(), sum(process.cpu_times()[:2])
            with sample_device_during_block(make_device_gauges(CPU), CPU) as readings:
                wait_until(
                    lambda process=process, used=used: sum(process.cpu_times()[:2]) > used + 0.3
                )
            machine_seconds = os.cpu_count() * (time.perf_counter() - before)
        assert readings.figures[name] > 100 * (0.3 - 2 * TICK) / machine_seconds
    # Of this process without the other.
    assert readings.figures[own] < 50 / os.cpu_count()


def test_threads_without_the_counter_of_waits_are_not_threads_that_never_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1234").mkdir()  # a thread, on a kernel without CONFIG_SCHED_INFO
    monkeypatch.setattr("bench.profilers.core_waits.TASKS", tmp_path)
    assert read_core_wait_seconds() is None


@pytest.mark.skipif(
    read_core_wait_seconds() is None,
    reason="this kernel does not say how long threads wait for a core",
)
def test_a_thread_that_shares_its_core_waits_about_as_long_as_it_runs() -> None:
    cores, core = os.sched_getaffinity(0), min(os.sched_getaffinity(0))
    with busy_process(is_own=True) as process:
        try:
            os.sched_setaffinity(0, {core})
            os.sched_setaffinity(process.pid, {core})
            waited, ran = read_core_wait_seconds() or 0.0, time.thread_time()
            while time.thread_time() < ran + 0.2:
                pass
            waits = (read_core_wait_seconds() or 0.0) - waited
        finally:
            os.sched_setaffinity(0, cores)
    assert waits > 0.1


def test_compiled_model_is_freed_before_the_uncompiled_step_is_counted(results: Path) -> None:
    experiment = few_images("catlip", **TWO_BLOCKS, compile="on")
    assert in_child(count_weights_alive, experiment, results) == 0


def count_weights_alive(experiment: Experiment, results: Path) -> int:
    """Return how many weights of a memory run live on when the tensors of its uncompiled step are counted.

    Whether Python's collector has come by until then depends on what else the process allocates.
    """
    gc.disable()
    weights, alive = list[weakref.ref[nn.Parameter]](), list[int]()

    def build(stream: PackStream) -> TrainRun:
        run = build_train_run(stream)
        weights.extend(map(weakref.ref, run.model.parameters()))
        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
        patch.setattr("bench.measure.memory.build_train_run", build)
        patch.setattr(
            "bench.measure.memory.take_step_and_count_peak_tensor_bytes",
            lambda _: alive.append(sum(one() is not None for one in weights)),
        )
        measure_memory(experiment, CPU, results)
    assert weights
    return alive[0]


def test_tensor_bytes_of_a_step_are_those_of_torchs_tracker() -> None:
    """torch.distributed._tools counts by hooks on modules and optimizer where this counts storages alone."""
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))
    optimizer, images = torch.optim.AdamW(model.parameters(), fused=True), torch.randn(32, 64)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(images).square().mean().backward()
        optimizer.step()

    step()
    state = [value for of_one in optimizer.state.values() for value in of_one.values()]
    counted = TensorByteCounter(
        CPU, [images, *model.parameters(), *(p.grad for p in model.parameters()), *state]
    )
    with counted:
        step()
    tracker = MemTracker()
    tracker.track_external(model, optimizer, images)
    with tracker:
        step()
    assert counted.peak_bytes == tracker.get_tracker_snapshot("peak")[CPU]["Total"]


class Unused(nn.Module):
    def forward(self, *_: object) -> torch.Tensor:
        return torch.zeros(())


def test_phase_that_no_step_runs_is_not_measured(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_model = Clip.build_model

    def build_with_unused_module(*arguments: Any) -> nn.Module:
        model = build_model(*arguments)
        model.unused = Unused()
        return model

    monkeypatch.setattr(Clip, "text_module", "unused")
    monkeypatch.setattr(Clip, "build_model", build_with_unused_module)
    experiment = few_images("clip", **TWO_BLOCKS, text_padding="max_length")
    speed = measure_speed(experiment, CPU, results, 0)
    assert "text forward" not in speed.phase_seconds
    assert speed.not_measured["phase text forward"] == "a step did not call its module"
    assert speed.flops.text_forward == 0


def test_a_speed_run_records_every_window_and_phase(results: Path) -> None:
    experiment = few_images("clip", **TWO_BLOCKS, text_padding="max_length")
    speed = measure_speed(experiment, CPU, results, 3)
    assert speed.round == 3
    windows = TimedRun(experiment, speed).windows()
    assert windows.num_planned == 2
    assert windows.has_enough_windows()
    names = ["data", "image forward", "text forward", "head and loss", "backward", "optimizer"]
    assert [phase for phase in PHASES if phase in speed.phase_seconds] == names
    assert speed.phase_seconds.keys() == {*names}
    assert {*map(len, speed.phase_seconds.values())} == {len(speed.phase_core_waits)}
    assert all(min(seconds) > 0 for seconds in speed.phase_seconds.values())
    assert speed.flops.step > 2 * speed.flops.forward
    assert speed.tokens_per_caption is not None
    assert speed.trained_parameters > speed.tower_parameters > 0
    assert speed.not_measured == speed.skipped == {}
    assert 0 < speed.data_wait_share < 1


def test_windows_with_a_compilation_are_discarded_and_a_run_without_others_fails(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = few_images("catlip", **TWO_BLOCKS)
    graphs = itertools.chain([0, 2], itertools.repeat(2))  # before and after each window
    monkeypatch.setattr("bench.measure.speed.count_compiled_graphs", lambda: next(graphs))
    speed = measure_speed(experiment, CPU, results, 0, NO_FLOPS)
    assert speed.not_measured == {"window 1": "2 graphs were compiled in it"}
    assert len(speed.window_seconds) >= 2
    graphs = itertools.count()
    with pytest.raises(RuntimeError, match=r"graphs were compiled in all.* more untimed_steps"):
        measure_speed(experiment, CPU, results, 0, NO_FLOPS)


def test_window_in_which_the_gpu_was_throttled_is_made_up_for(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter([0.0, 40.0, 0.0])
    reader = DeviceGauges(
        interval_gauges={"slowed by heat percent": lambda: lambda: next(readings)}
    )
    monkeypatch.setattr("bench.measure.speed.make_device_gauges", lambda _: reader)
    monkeypatch.setattr("bench.measure.speed.measure_or_estimate_lost_cores", lambda *_: 0.0)
    run = build_train_run(open_batch_stream(few_images("catlip"), CPU, results))
    windows, _ = time_until_enough_windows(run, range(2), steps_per_window=1)
    assert [window.throttled_percent for window in windows] == [0.0, 40.0, 0.0]
    assert steps_as_windows_of_one_image(windows, 2).num_counted() == 2


def test_injected_slowdown_is_a_fraction_of_the_step_time(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept, batches = list[float](), list[float]()
    monkeypatch.setattr(time, "sleep", slept.append)
    run = build_train_run(
        open_batch_stream(few_images("catlip", injected_slowdown=0.1), CPU, results)
    )
    plain = PackStream.batch

    def timed(stream: PackStream, k: int) -> object:
        with time_synchronized_block(CPU) as elapsed:
            batch = plain(stream, k)
        batches.append(elapsed.seconds)
        return batch

    monkeypatch.setattr(PackStream, "batch", timed)
    with time_synchronized_block(CPU) as elapsed:
        take_steps_at_full_learning_rate(run, [0, 1])
    assert len(slept) == 1
    assert 0 < sum(batches) < slept[0] / 0.1 <= elapsed.seconds


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peak resident memory is read from /proc"
)
def test_cpu_memory_has_a_peak_and_no_cuda_counts(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept, too, if the uncompiled step does not fit."""
    experiment = few_images("catlip", **TWO_BLOCKS)
    memory = measure_memory(experiment, CPU, results)
    assert memory.peak_rss_bytes is not None
    # This process has had more before; the kernel counts in steps.
    assert memory.peak_rss_bytes > -MIB
    assert memory.peak_allocated_bytes is memory.process_bytes is None
    weights = 4 * memory.trained_parameters
    assert memory.peak_tensor_bytes > 4 * weights  # with gradients and two moments

    def fails(_: object) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("bench.measure.memory.take_step_and_count_peak_tensor_bytes", fails)
    memory = measure_memory(experiment, CPU, results)
    assert memory.peak_tensor_bytes is None
    assert memory.peak_rss_bytes is not None


def test_tensors_of_a_step_are_the_same_on_every_run_and_grow_with_the_batch(results: Path) -> None:
    def count(batch_size: int) -> int:
        experiment = few_images("superclass", **TWO_BLOCKS, batch_size=batch_size)
        return take_step_and_count_peak_tensor_bytes(open_batch_stream(experiment, CPU, results))

    assert count(16) == count(16) < count(32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_measured(results: Path) -> None:
    """NVML is read by a thread whose driver calls take milliseconds; they are not Python's and stop no step."""
    device = default_device()
    memory = measure_memory(ON_A_GPU, device, results)
    assert memory.peak_rss_bytes is None
    assert memory.peak_allocated_bytes
    assert memory.peak_tensor_bytes
    speed = measure_speed(ON_A_GPU, device, results, 0)
    assert min(speed.window_seconds) > 0.6, "a window has three readings or more"
    assert "GPU" not in speed.not_measured
    assert speed.utilisation["GPU busy percent"] > 0
    assert {*map(len, speed.phase_seconds.values())} == {ON_A_GPU.timing.steps_per_window}
