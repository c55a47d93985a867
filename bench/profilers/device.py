"""Utilisation of the device and of the CPU while a block runs."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from statistics import fmean
from typing import TypeVar

import psutil
import pynvml
import torch

from bench.profilers.clock import synchronize
from bench.profilers.core_waits import times_of_own_cores
from bench.profilers.nvml import DeviceReader, Span, counter_rate, nvml_reader
from bench.records.record import HOST_BUSY, OTHERS_BUSY, OWN_BUSY

T = TypeVar("T")


@dataclass(slots=True)
class Readings:
    """Figures by name with unit after the block, and the reason for each that is missing or incomplete."""

    figures: dict[str, float] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)
    monitor_thread_share: float = 0.0  # CPU seconds of the sampling thread per second of the block

    @classmethod
    def mean(cls, blocks: Sequence["Readings"]) -> "Readings":
        """Return the means of blocks of about equal length; a figure that some lack is averaged over the others."""
        names = dict.fromkeys(name for block in blocks for name in block.figures)
        means = {
            name: fmean(block.figures[name] for block in blocks if name in block.figures)
            for name in names
        }
        missing = {name: reason for block in blocks for name, reason in block.not_measured.items()}
        return cls(means, missing, fmean(block.monitor_thread_share for block in blocks))

    def replace_if_larger(self, other: "Readings", names: Sequence[str]) -> None:
        """Take the figures of these names from another block if their sum is larger there."""
        theirs = {name: other.figures[name] for name in names if name in other.figures}
        if sum(theirs.values()) > sum(self.figures.get(name, 0.0) for name in names):
            self.figures |= theirs

    def add_means(self, values: Mapping[str, Sequence[float]], every_s: float) -> None:
        """Add the mean of each gauge's values, which were read every `every_s` seconds."""
        for name, read in values.items():
            if not read:
                too_short = f"the block ended before the first reading, {every_s} s after its start"
                self.not_measured.setdefault(name, too_short)
                continue
            self.figures[name] = fmean(read)
            if name in self.not_measured:
                self.not_measured[name] += f" (the figure is of the {len(read)} readings before)"

    def attempt(self, name: str, read: Callable[[], T]) -> T | None:
        """Return a reading, or record why it failed: an instrument's error must not stop the measured run."""
        try:
            return read()
        except Exception as error:  # noqa: BLE001
            self.not_measured[name] = f"{type(error).__name__}: {error}"
            return None


@contextmanager
def sampled(
    reader: DeviceReader, device: torch.device, *, every_s: float = 0.2
) -> Iterator[Readings]:
    """Read the device while the block runs: spans at its idle ends, gauges every `every_s` seconds, averaged.

    NVML averages over 1/6 s to 1 s itself, so a shorter interval returns the same number again. A gauge that fails is
    not read again.
    """
    readings = Readings(not_measured=dict(reader.missing))
    gauges = dict(reader.gauges)
    values: dict[str, list[float]] = {name: [] for name in gauges}
    done = threading.Event()

    def poll() -> None:
        """Read all gauges until the block ends."""
        while not done.wait(every_s):
            for name, gauge in tuple(gauges.items()):
                value = readings.attempt(name, gauge)
                if value is None:
                    del gauges[name]
                else:
                    values[name].append(value)
        readings.monitor_thread_share = time.thread_time()

    sampler = threading.Thread(target=poll, name="device-sampler", daemon=True)
    synchronize(device)
    end_gauges = {name: readings.attempt(name, begin) for name, begin in reader.spans.items()}
    start = time.perf_counter()
    if values:
        sampler.start()
    try:
        yield readings
        synchronize(device)
    finally:
        seconds = time.perf_counter() - start
        for name, gauge in end_gauges.items():
            value = None if gauge is None else readings.attempt(name, gauge)
            if value is not None:
                readings.figures[name] = value
        done.set()
        if values:
            sampler.join()
        readings.monitor_thread_share = readings.monitor_thread_share / seconds if seconds else 0.0
        readings.add_means(values, every_s)


def open_reader(device: torch.device) -> DeviceReader:
    """Return the reader of a device: the kernel's counters of CPU time, and NVML on CUDA; it never raises."""
    if device.type != "cuda":
        return DeviceReader(spans=cpu_busy_spans())
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    try:
        gpu = nvml_reader(uuid, device.index or 0)
    except pynvml.NVMLError as error:
        gpu = DeviceReader(missing={"GPU": f"{type(error).__name__}: {error}"})
    return DeviceReader(gpu.gauges, cpu_busy_spans() | dict(gpu.spans), gpu.missing)


def cpu_busy_spans() -> dict[str, Span]:
    """Return the CPU time, in percent of the cores that this process may use: its own, others' and other guests'.

    Processes that this one has started before, such as its loader workers, count as its own.
    """
    this_process = psutil.Process()
    processes = (this_process, *this_process.children(recursive=True))
    percent = 100 / len(times_of_own_cores())

    def own_seconds() -> float:
        """Return the CPU time of this process and its children."""
        seconds = 0.0
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                times = process.cpu_times()
                seconds += times.user + times.system
        return seconds

    def other_seconds() -> float:
        """Return the CPU time of all other processes on these cores."""
        busy = 0.0
        for times in times_of_own_cores():
            waiting = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "steal", 0.0)
            # Included in user and nice.
            guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
            busy += sum(times) - waiting - guests
        return busy - own_seconds()

    spans = {
        OWN_BUSY: counter_rate(own_seconds, percent),
        OTHERS_BUSY: counter_rate(other_seconds, percent),
    }
    if hasattr(psutil.cpu_times(), "steal"):
        spans[HOST_BUSY] = counter_rate(
            lambda: sum(times.steal for times in times_of_own_cores()), percent
        )
    return spans


def max_other_cpu_percent(ranks: Sequence[tuple[str, Mapping[str, float]]]) -> float:
    """Return the CPU time that processes of no rank took, in percent of the host where they took most.

    `ranks` has the host and the figures of every rank. To a rank, the other ranks of its host are among the others.
    """
    return max(0.0, *(host.others for host in _cpu_percents_by_host(ranks)))


def max_lacking_cores(ranks: Sequence[tuple[str, Mapping[str, float]]]) -> float:
    """Return the cores that other work took while none was idle, on the host where this run lacked most.

    Other work on cores that this run leaves idle does not slow it. The unit is core-seconds per second. NaN: the system
    does not report CPU time. See `max_other_cpu_percent` for `ranks`.
    """
    if not all(OWN_BUSY in figures and OTHERS_BUSY in figures for _, figures in ranks):
        return math.nan
    percents = [0.0]
    for host in _cpu_percents_by_host(ranks):
        other_work = host.others + host.other_guests
        idle = max(0.0, 100 - host.own - other_work)
        percents.append(other_work - idle)
    return max(percents) / 100 * len(times_of_own_cores())


@dataclass(frozen=True, slots=True)
class _HostCpu:
    """CPU time of a host in percent of its cores."""

    own: float  # of all ranks
    others: float  # of other processes
    other_guests: float  # taken from this virtual machine


def _cpu_percents_by_host(ranks: Sequence[tuple[str, Mapping[str, float]]]) -> list[_HostCpu]:
    hosts = []
    for name in dict.fromkeys(host for host, _ in ranks):
        figures = [rank_figures for host, rank_figures in ranks if host == name]
        own = sum(rank[OWN_BUSY] for rank in figures)
        others = figures[0][OTHERS_BUSY] - (own - figures[0][OWN_BUSY])
        hosts.append(_HostCpu(own, others, figures[0].get(HOST_BUSY, 0.0)))
    return hosts
