"""Steps before the first window that heat a GPU: a cold one has clocks that it does not keep."""

import time
from dataclasses import dataclass, field

import torch

from bench.profilers.clock import synchronize
from bench.train.distributed import all_reduce_max

HEATING_SECONDS = {"cuda": 20.0}  # a CPU is not heated


@dataclass(slots=True)
class Heating:
    """The time for which a device is heated, from the creation of the object on."""

    device: torch.device
    _start: float = field(default_factory=time.perf_counter)

    def is_over(self) -> bool:
        """Wait until the device is idle, and return whether any rank has heated it for 20 s; True on a CPU.

        All ranks get the same answer, so that they take the same steps.
        """
        seconds = HEATING_SECONDS.get(self.device.type)
        if seconds is None:
            return True
        synchronize(self.device)
        (elapsed,) = all_reduce_max([time.perf_counter() - self._start], self.device)
        return elapsed >= seconds
