"""How busy the device is while a block runs."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import fmean

import psutil
import torch

Reading = Mapping[str, float]
Reader = Callable[[], Reading]


class Samples:
    """Readings by name with unit, and why there are no more where the reader failed."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.failure: str | None = None

    def means(self) -> dict[str, float]:
        """Return the mean of each reading."""
        names = dict.fromkeys(name for reading in self.readings for name in reading)
        return {name: fmean(reading[name] for reading in self.readings if name in reading) for name in names}


@contextmanager
def sampled(open_reader: Callable[[], Reader], *, every_s: float = 0.2) -> Iterator[Samples]:
    """Read the device every `every_s` seconds in a thread while the block runs.

    NVML averages over 1/6 s to 1 s, so asking more often returns the same number again. A reader that cannot be opened
    or fails stops the sampling and leaves its reason; it never disturbs the block.
    """
    samples, done = Samples(), threading.Event()

    def poll() -> None:
        try:
            read = open_reader()
            while not done.wait(every_s):
                samples.readings.append(read())
        except Exception as error:  # noqa: BLE001 - an instrument must not stop what it measures
            samples.failure = f"{type(error).__name__}: {error}"

    poller = threading.Thread(target=poll, name="device-sampler", daemon=True)
    poller.start()
    try:
        yield samples
    finally:
        done.set()
        poller.join()


def open_reader(device: torch.device) -> Reader:
    """Return what reads this device: NVML on CUDA, psutil elsewhere."""
    return _nvml_reader(device) if device.type == "cuda" else _cpu_reader()


def _cpu_reader() -> Reader:
    """Read what share of all cores this process and the rest of the machine use, since the last reading."""
    process, cores = psutil.Process(), psutil.cpu_count(logical=True) or 1
    process.cpu_percent()
    psutil.cpu_percent()

    def read() -> Reading:
        own, machine = process.cpu_percent() / cores, psutil.cpu_percent()
        return {"process CPU busy percent": own, "other processes CPU busy percent": max(0.0, machine - own)}

    return read


def _nvml_reader(device: torch.device) -> Reader:
    """Read the GPU that CUDA calls `device`, found by its UUID: the two libraries number devices differently.

    "Busy" is NVML's: the share of time in which at least one kernel ran. It is not efficiency.
    """
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")

    def read() -> Reading:
        return {
            "GPU busy percent": float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            "power W": pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            "SM clock MHz": float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
            "temperature C": float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
        }

    return read
