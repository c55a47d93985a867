"""Progress of a training: a bar or lines on standard error, and optional TensorBoard event files."""

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
from bench.profilers.memory import MemoryGrowth


class TrainLogger:
    """Logs the steps of a training with images per second, the share of time waiting for data, and memory growth."""

    def __init__(self, stream: BatchStream[Any], total: int, taken: int, events: str = "") -> None:
        """Begin after `taken` of `total` steps; `events` is the folder of TensorBoard's files."""
        self._stream, self._total, self._steps_at_start, self._taken = stream, total, taken, taken
        self._is_quiet = "TQDM_DISABLE" in os.environ or stream.order.rank > 0  # parallel runs share the terminal
        self._has_bar = sys.stderr.isatty() and not self._is_quiet
        self._bar = tqdm(
            total=total,
            initial=taken,
            desc=escape_unprintable(stream.experiment.name),
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
            leave=False,
            mininterval=1,
            disable=not self._has_bar,
        )
        self.growth = MemoryGrowth()
        self._board: Any = None
        if events and stream.order.rank == 0:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(events, purge_step=taken + 1)  # hides later steps of an earlier process
        self._started = self._last_log = time.perf_counter()
        self._last_wait, self._next_line = stream.wait_seconds, self._started

    def close(self) -> None:
        """Remove the bar, and flush the event files."""
        self._bar.close()
        if self._board is not None:
            self._board.close()

    def log_steps(
        self, losses: Sequence[float], images: int, learning_rate: float, grad_norms: Sequence[float] = ()
    ) -> None:
        """Log losses, images and gradient norms of the steps since the last call, and the last learning rate."""
        now, waited = time.perf_counter(), self._stream.wait_seconds
        seconds = now - self._last_log
        images_per_second = images / seconds
        waiting = (waited - self._last_wait) / seconds
        self._taken, self._last_log, self._last_wait = self._taken + len(losses), now, waited
        self.growth.sample(self._taken)
        figures = f"loss {losses[-1]:.3f}, {images_per_second:,.0f} images/s, {waiting:.0%} waiting for data"
        figures += f", rate {learning_rate:.2e}"
        figures += f", gradient norm {fmean(grad_norms):.3g}" if grad_norms else ""
        self._bar.set_postfix_str(figures, refresh=False)
        self._bar.update(len(losses))
        if not self._has_bar and not self._is_quiet and now >= self._next_line:
            left = (self._total - self._taken) * (now - self._started) / (self._taken - self._steps_at_start)
            done = f"{self._stream.experiment.name}: {self._taken:,} of {self._total:,} steps"
            log(f"{done}, {figures}, about {tqdm.format_interval(left)} left")
            self._next_line = now + LINE_SECONDS
        if self._board is not None:
            values = {
                "loss": fmean(losses),
                "learning rate": learning_rate,
                "images per second": images_per_second,
                "share of time waiting for data": waiting,
            }
            values |= {"gradient norm": fmean(grad_norms)} if grad_norms else {}
            for name, value in values.items():
                self._board.add_scalar(name, value, self._taken)
