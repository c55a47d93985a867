"""How busy the device is while a block runs."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean
from typing import TypeVar

import psutil
import torch

from bench.profilers.clock import wait_for
from bench.profilers.nvml import nvml_reader
from bench.profilers.reader import Figure, Reader, Span, rising

T = TypeVar("T")
OTHERS_BUSY = "other processes CPU busy percent"


@dataclass(slots=True)
class Readings:
    """Figures by name with unit once the block has ended, and the reason for each that is missing or not whole."""

    figures: dict[str, float] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)
    sampler_share: float = 0.0  # of the block's time that the sampling thread ran, by its own clock

    @classmethod
    def mean(cls, blocks: Sequence["Readings"]) -> "Readings":
        """Return the means of blocks that lasted about as long; of a figure that some have not, over the others."""
        names = dict.fromkeys(name for block in blocks for name in block.figures)
        found = {name: fmean(block.figures[name] for block in blocks if name in block.figures) for name in names}
        missing = {name: reason for block in blocks for name, reason in block.not_measured.items()}
        return cls(found, missing, fmean(block.sampler_share for block in blocks))

    def attempt(self, name: str, read: Callable[[], T]) -> T | None:
        """Return what is read, or keep the reason why it cannot be: an instrument must not stop what it measures."""
        try:
            return read()
        except Exception as error:  # noqa: BLE001
            self.not_measured[name] = f"{type(error).__name__}: {error}"
            return None


@contextmanager
def sampled(reader: Reader, device: torch.device, *, every_s: float = 0.2) -> Iterator[Readings]:
    """Read the device while the block runs: spans at its idle ends, gauges every `every_s` seconds, averaged.

    NVML averages over 1/6 s to 1 s itself, so asking more often returns the same number again.
    """
    readings = Readings(not_measured=dict(reader.missing))
    sampler = _Sampler(reader.gauges, every_s, readings)
    wait_for(device)
    ends = {name: readings.attempt(name, begin) for name, begin in reader.spans.items()}
    start = time.perf_counter()
    sampler.start()
    try:
        yield readings
        wait_for(device)
    finally:
        seconds = time.perf_counter() - start
        for name, end in ends.items():
            if end is not None and (value := readings.attempt(name, end)) is not None:
                readings.figures[name] = value
        sampler.stop()
        readings.sampler_share = sampler.seconds / seconds


class _Sampler:
    """A thread that reads gauges until the block is over; one that fails is not asked again."""

    def __init__(self, gauges: Mapping[str, Figure], every_s: float, readings: Readings) -> None:
        self.seconds = 0.0
        self._gauges, self._every_s, self._readings = dict(gauges), every_s, readings
        self._values: dict[str, list[float]] = {name: [] for name in gauges}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="device-sampler", daemon=True)

    def start(self) -> None:
        if self._gauges:
            self._thread.start()

    def stop(self) -> None:
        self._done.set()
        if self._thread.ident is not None:
            self._thread.join()
        for name, values in self._values.items():
            if values:
                self._readings.figures[name] = fmean(values)
            if values and name in self._readings.not_measured:
                self._readings.not_measured[name] += f" (the figure is of the {len(values)} readings before)"
            if not values:
                too_short = f"the block was over before the first reading, {self._every_s} s after its start"
                self._readings.not_measured.setdefault(name, too_short)

    def _poll(self) -> None:
        while not self._done.wait(self._every_s):
            for name, gauge in tuple(self._gauges.items()):
                value = self._readings.attempt(name, gauge)
                if value is None:
                    del self._gauges[name]
                else:
                    self._values[name].append(value)
        self.seconds = time.thread_time()


def open_reader(device: torch.device) -> Reader:
    """Return what reads this device: the kernel's counters of CPU time, and NVML on CUDA; it never raises."""
    if device.type != "cuda":
        return Reader(spans=cpu_spans())
    opening = Readings()
    uuid, index = str(torch.cuda.get_device_properties(device).uuid), device.index or 0
    gpu = opening.attempt("GPU", lambda: nvml_reader(uuid, index)) or Reader(missing=opening.not_measured)
    return Reader(gpu.gauges, cpu_spans() | dict(gpu.spans), gpu.missing)


def cpu_spans() -> dict[str, Span]:
    """Return what share of all cores this process, the rest of the machine and the host's other guests keep busy."""
    process, cores = psutil.Process(), psutil.cpu_count(logical=True) or 1

    def own() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    def others() -> float:
        times = psutil.cpu_times()
        waiting = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "steal", 0.0)
        guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted in user and nice already
        return float(sum(times) - waiting - guests - own())

    spans = {
        "process CPU busy percent": rising(own, 100 / cores),
        OTHERS_BUSY: rising(others, 100 / cores),
    }
    if hasattr(psutil.cpu_times(), "steal"):
        spans["taken by the host CPU percent"] = rising(lambda: float(psutil.cpu_times().steal), 100 / cores)
    return spans
