"""Utilisation of the device and of the CPU while a block runs."""

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TypeVar

import psutil
import pynvml
import torch

from bench.profilers.clock import synchronize
from bench.profilers.core_waits import (
    read_cpu_times_of_allowed_cores,
    read_stolen_seconds_of_allowed_cores,
)
from bench.profilers.nvml import (
    DeviceGauges,
    Gauge,
    IntervalGauge,
    make_nvml_gauges,
    make_rate_gauge,
)
from bench.records.record import HOST_BUSY, OTHERS_BUSY, OWN_BUSY

T = TypeVar("T")


@dataclass(slots=True)
class DeviceReadings:
    """Figures of a device by name with unit while a block ran, and why figures are missing or incomplete."""

    figures: dict[str, float] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)

    @classmethod
    def mean(cls, readings_of_blocks: Sequence["DeviceReadings"]) -> "DeviceReadings":
        """Return the mean figures of blocks of about equal length."""
        values = defaultdict[str, list[float]](list)
        mean = cls()
        for readings in readings_of_blocks:
            mean.not_measured |= readings.not_measured
            for name, figure in readings.figures.items():
                values[name].append(figure)
        mean.figures = {name: fmean(figures) for name, figures in values.items()}
        return mean

    def read_or_note_error(self, name: str, read: Callable[[], T]) -> T | None:
        """Return `read()`, or None and the error in `not_measured`: an instrument must not stop the measured run."""
        try:
            return read()
        except Exception as error:  # noqa: BLE001
            self.not_measured[name] = f"{type(error).__name__}: {error}"
            return None


@contextmanager
def sample_device_during_block(
    reader: DeviceGauges, device: torch.device, *, interval_seconds: float = 0.2
) -> Iterator[DeviceReadings]:
    """Read a device's gauges while the block runs; the figures of the yielded readings are set when it ends.

    Interval gauges are read at the two ends, with the device idle; gauges every `interval_seconds` and at the end, and
    averaged.
    NVML averages over 1/6 s to 1 s itself, so a shorter interval returns the same number again.
    """
    readings = DeviceReadings(not_measured=dict(reader.missing))
    values = defaultdict[str, list[float]](list)
    done = threading.Event()

    def read_gauge(name: str, gauge: Gauge) -> None:
        value = readings.read_or_note_error(name, gauge)
        if value is not None:
            values[name].append(value)

    def poll() -> None:
        is_done = False
        while not is_done:
            is_done = done.wait(interval_seconds)
            for name, gauge in reader.gauges.items():
                read_gauge(name, gauge)

    sampler = threading.Thread(target=poll, name="device-sampler", daemon=True)
    synchronize(device)
    end_gauges = {
        name: readings.read_or_note_error(name, begin)
        for name, begin in reader.interval_gauges.items()
    }
    if reader.gauges:
        sampler.start()
    try:
        yield readings
        synchronize(device)
    finally:
        for name, gauge in end_gauges.items():
            if gauge is not None:
                read_gauge(name, gauge)
        done.set()
        if sampler.is_alive():
            sampler.join()
        readings.figures = {name: fmean(numbers) for name, numbers in values.items()}


def make_device_gauges(device: torch.device) -> DeviceGauges:
    """Return the gauges of a device: CPU time, and on CUDA also NVML's, or why these are missing."""
    cpu_gauges = make_cpu_busy_gauges()
    if device.type != "cuda":
        return DeviceGauges(interval_gauges=cpu_gauges)
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    try:
        gpu = make_nvml_gauges(uuid)
    except pynvml.NVMLError as error:
        gpu = DeviceGauges(missing={"GPU": f"{type(error).__name__}: {error}"})
    return replace(gpu, interval_gauges={**cpu_gauges, **gpu.interval_gauges})


def make_cpu_busy_gauges() -> dict[str, IntervalGauge]:
    """Return gauges of CPU time in percent of the cores that this process may use.

    They are of this process, of others on these cores, and of other virtual machines on the host. Processes that this
    one has started before, such as its loader workers, count as its own.
    """
    this_process = psutil.Process()
    processes = (this_process, *this_process.children(recursive=True))
    percent = 100 / len(read_cpu_times_of_allowed_cores())

    def read_own_cpu_seconds() -> float:
        """Return the CPU time of this process and its children."""
        seconds = 0.0
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                times = process.cpu_times()
                seconds += times.user + times.system
        return seconds

    def read_other_cpu_seconds() -> float:
        """Return the CPU time of all other processes on these cores."""
        busy = 0.0
        for times in read_cpu_times_of_allowed_cores():
            seconds = times._asdict()
            # Times of guests are included in user and nice.
            not_counted = ("idle", "iowait", "steal", "guest", "guest_nice")
            busy += sum(times) - sum(seconds.get(name, 0.0) for name in not_counted)
        return busy - read_own_cpu_seconds()

    interval_gauges = {
        OWN_BUSY: make_rate_gauge(read_own_cpu_seconds, percent),
        OTHERS_BUSY: make_rate_gauge(read_other_cpu_seconds, percent),
    }
    if hasattr(psutil.cpu_times(), "steal"):
        interval_gauges[HOST_BUSY] = make_rate_gauge(read_stolen_seconds_of_allowed_cores, percent)
    return interval_gauges


def estimate_lost_cores(
    host_and_figures_by_rank: Sequence[tuple[str, Mapping[str, float]]],
) -> float:
    """Return the cores that other work took while none was idle, on the host where this run lacked most.

    Other work on cores that this run leaves idle does not slow it. The unit is core-seconds per second. NaN: the system
    does not report CPU time. To a rank, the other ranks of its host are among the others.
    """
    figures_by_host: dict[str, list[Mapping[str, float]]] = {}
    for host, figures in host_and_figures_by_rank:
        if OWN_BUSY not in figures or OTHERS_BUSY not in figures:
            return math.nan
        figures_by_host.setdefault(host, []).append(figures)
    lacking_percent = 0.0
    for host_figures in figures_by_host.values():
        first = host_figures[0]
        all_ranks = sum(figures[OWN_BUSY] for figures in host_figures)
        other_ranks = all_ranks - first[OWN_BUSY]
        other_work = first[OTHERS_BUSY] - other_ranks + first.get(HOST_BUSY, 0.0)
        idle = max(0.0, 100 - all_ranks - other_work)
        lacking_percent = max(lacking_percent, other_work - idle)
    return lacking_percent / 100 * len(read_cpu_times_of_allowed_cores())
