"""Counting of labels on all cores: files side by side, each in one process."""

import multiprocessing
import signal
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import pyarrow as pa

from bench.environment.child_processes import (
    exit_with_multiprocessing_parent,
    kill_multiprocessing_children,
)
from bench.labels.counting import count_file_labels
from bench.labels.labeller import LabelTally

TallyOrError = LabelTally | ValueError | OSError


def count_labels_of_files_in_parallel(
    files: Sequence[Path], rule: str, caption: str | None, workers: int
) -> Generator[TallyOrError, None, None]:
    """Count files on `workers` processes, or in this one if `workers` is 1; yield the tally or the error of each.

    An error that the user can fix (ValueError, OSError) fails one file. ChildProcessError if a process was killed.
    """
    count = partial(_count_or_return_error, rule, caption)
    if workers == 1:
        yield from map(count, files)
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _limit_threads_and_exit_with_parent
    )
    try:
        # The processes that this starts inherit the mask, and leave Ctrl-C to their parent.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        outcomes = pool.map(count, files)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        yield from outcomes
    except BaseException as error:
        # An exception that a signal raises in a child may be lost, for example in `__del__`.
        kill_multiprocessing_children()
        if isinstance(error, BrokenProcessPool):
            raise ChildProcessError(
                "a labelling process was killed: check the free memory, or lower --workers"
            ) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _count_or_return_error(rule: str, caption: str | None, path: Path) -> TallyOrError:
    """Return the tally of a file, or the error that the user can fix."""
    try:
        return count_file_labels(path, rule, caption)
    except (ValueError, OSError) as error:
        return error


def _limit_threads_and_exit_with_parent() -> None:
    """Use one thread, and exit whenever the parent ends."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    exit_with_multiprocessing_parent()
