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


class TrainLogger:
    """Logs the steps of a training with images per second, and the share of time waiting for data."""

    def __init__(self, stream: BatchStream[Any], total: int, taken: int, events: str = "") -> None:
        """Begin after `taken` of `total` steps; `events` is the folder of TensorBoard's files."""
        self._stream = stream
        self._total = total
        self._steps_at_start = taken
        self._taken = taken
        # Parallel runs share the terminal.
        self._is_quiet = "TQDM_DISABLE" in os.environ or stream.order.rank > 0
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
        self._board: Any = None
        if events and stream.order.rank == 0:
            from torch.utils.tensorboard import SummaryWriter

            # Hides later steps of an earlier process.
            self._board = SummaryWriter(events, purge_step=taken + 1)
        self._started = time.perf_counter()
        self._last_log = self._started
        self._next_line = self._started
        self._last_wait = stream.wait_seconds

    def close(self) -> None:
        """Remove the bar, and flush the event files."""
        self._bar.close()
        if self._board is not None:
            self._board.close()

    def log_steps(
        self,
        losses: Sequence[float],
        images: int,
        learning_rate: float,
        grad_norms: Sequence[float] = (),
    ) -> None:
        """Log losses, images and gradient norms of the steps since the last call, and the last learning rate."""
        now = time.perf_counter()
        seconds = now - self._last_log
        values = {
            "loss": fmean(losses),
            "learning rate": learning_rate,
            "images per second": images / seconds,
            "share of time waiting for data": (self._stream.wait_seconds - self._last_wait)
            / seconds,
        }
        if grad_norms:
            values["gradient norm"] = fmean(grad_norms)
        self._taken += len(losses)
        self._last_log = now
        self._last_wait = self._stream.wait_seconds
        figures = f"loss {losses[-1]:.3f}, {values['images per second']:,.0f} images/s, "
        figures += f"{values['share of time waiting for data']:.0%} waiting for data, rate {learning_rate:.2e}"
        if grad_norms:
            figures += f", gradient norm {values['gradient norm']:.3g}"
        self._bar.set_postfix_str(figures, refresh=False)
        self._bar.update(len(losses))
        if not self._has_bar and not self._is_quiet and now >= self._next_line:
            seconds_left = (
                (self._total - self._taken)
                * (now - self._started)
                / (self._taken - self._steps_at_start)
            )
            steps = f"{self._stream.experiment.name}: {self._taken:,} of {self._total:,} steps"
            log(f"{steps}, {figures}, about {tqdm.format_interval(seconds_left)} left")
            self._next_line = now + LINE_SECONDS
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, self._taken)
