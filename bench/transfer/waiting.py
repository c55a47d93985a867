"""How a training on a task goes, for the person who waits for it: a bar, or now and then a line, on standard error."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from bench.console.console import printable
from bench.train.train_logger import LINE_SECONDS

T = TypeVar("T")


def waited_for(steps: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the steps of a training, and show how many are done and how long the others will take.

    Nothing is shown where several runs share the terminal.
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
