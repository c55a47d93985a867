"""Progress of a training on a task, on standard error: a bar on a terminal, otherwise a line now and then."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from bench.console.console import printable
from bench.train.train_logger import LINE_SECONDS

T = TypeVar("T")


def progress_bar(steps: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the steps of a training, and show the number of finished steps and the remaining time.

    Nothing is shown if TQDM_DISABLE is set, which is the case where several runs share the terminal.
    """
    what = printable(what)
    if "TQDM_DISABLE" in os.environ:
        yield from steps
    elif sys.stderr.isatty():
        yield from tqdm(steps, what, total, leave=False, mininterval=1, unit=" steps")
    else:
        began = line_at = time.perf_counter()
        for done, step in enumerate(steps):
            now = time.perf_counter()
            if done and now >= line_at + LINE_SECONDS:
                left = tqdm.format_interval((total - done) * (now - began) / done)
                print(f"{what}: {done:,} of {total:,} steps, about {left} left", file=sys.stderr, flush=True)
                line_at = now
            yield step
