"""Progress of a training: a bar or lines on standard error."""

import os
import sys
import time
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from tqdm import tqdm

from bench.console.console import escape_unprintable, log
from bench.console.progress import LINE_SECONDS
from bench.data.stream import BatchStream


class TrainLogger:
    """Shows the progress of a training, its images/s and its share of time waiting for data, as a bar or as lines."""

    def __init__(self, stream: BatchStream[Any], total_steps: int, steps_taken: int) -> None:
        """Begin after `steps_taken` of `total_steps` steps."""
        self._stream = stream
        # Parallel runs share the terminal.
        is_quiet = "TQDM_DISABLE" in os.environ or stream.order.rank > 0
        self._logs_lines = not is_quiet and not sys.stderr.isatty()
        self._bar = tqdm(
            total=total_steps,
            initial=steps_taken,
            desc=escape_unprintable(stream.experiment.name),
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
            leave=False,
            mininterval=1,
            disable=is_quiet or self._logs_lines,
        )
        self._first_step = steps_taken
        self._taken = steps_taken
        self._started = time.perf_counter()
        self._last_log = self._started
        self._next_line = self._started
        self._last_wait = stream.wait_seconds

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def log_steps(
        self,
        losses: Sequence[float],
        num_images: int,
        learning_rate: float,
        grad_norms: Sequence[float] = (),
    ) -> None:
        """Log losses, images and gradient norms of the steps since the last call, and the last learning rate."""
        now = time.perf_counter()
        seconds = now - self._last_log
        waited = self._stream.wait_seconds - self._last_wait
        figures = (
            f"loss {losses[-1]:.3f}, {num_images / seconds:,.0f} images/s, {waited / seconds:.0%} waiting for data, "
            f"rate {learning_rate:.2e}"
        )
        if grad_norms:
            figures += f", gradient norm {fmean(grad_norms):.3g}"
        self._taken += len(losses)
        self._last_log = now
        self._last_wait = self._stream.wait_seconds
        self._bar.set_postfix_str(figures, refresh=False)
        self._bar.update(len(losses))
        if self._logs_lines and now >= self._next_line:
            seconds_per_step = (now - self._started) / (self._taken - self._first_step)
            left = tqdm.format_interval((self._bar.total - self._taken) * seconds_per_step)
            name = self._stream.experiment.name
            log(
                f"{name}: {self._taken:,} of {self._bar.total:,} steps, {figures}, about {left} left"
            )
            self._next_line = now + LINE_SECONDS
