"""Lines on the progress of a training, on standard error."""

import os
import time
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from tqdm import tqdm

from bench.console.console import log
from bench.data.stream import BatchStream

LINE_SECONDS = 20.0  # between two lines


class TrainLogger:
    """Logs the steps of a training, its images/s and its share of time waiting for data."""

    def __init__(self, stream: BatchStream[Any], total_steps: int, steps_taken: int) -> None:
        """Begin after `steps_taken` of `total_steps` steps."""
        self._stream = stream
        # Parallel runs share the terminal.
        self._is_quiet = "TQDM_DISABLE" in os.environ or stream.order.rank > 0
        self._total_steps = total_steps
        self._first_step = steps_taken
        self._taken = steps_taken
        self._started = time.perf_counter()
        self._last_call = self._started
        self._next_line = self._started
        self._last_wait = stream.wait_seconds

    def log_steps(
        self,
        losses: Sequence[float],
        num_images: int,
        learning_rate: float,
        grad_norms: Sequence[float] = (),
    ) -> None:
        """Log losses, images and gradient norms of the steps since the last call, and the last learning rate."""
        now = time.perf_counter()
        seconds = now - self._last_call
        waited = self._stream.wait_seconds - self._last_wait
        self._taken += len(losses)
        self._last_call = now
        self._last_wait = self._stream.wait_seconds
        if self._is_quiet or now < self._next_line:
            return
        self._next_line = now + LINE_SECONDS
        seconds_per_step = (now - self._started) / (self._taken - self._first_step)
        left = tqdm.format_interval((self._total_steps - self._taken) * seconds_per_step)
        norm = f", gradient norm {fmean(grad_norms):.3g}" if grad_norms else ""
        log(
            f"{self._stream.experiment.name}: {self._taken:,} of {self._total_steps:,} steps, loss {losses[-1]:.3f}, "
            f"{num_images / seconds:,.0f} images/s, {waited / seconds:.0%} waiting for data, "
            f"rate {learning_rate:.2e}{norm}, about {left} left"
        )
