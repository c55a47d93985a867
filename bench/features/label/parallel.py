"""Labelling on all cores: shards side by side, or the batches of one shard if there are more cores than shards."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TypeVar

import pyarrow as pa

from bench.environment.child_processes import (
    exit_with_multiprocessing_parent,
    kill_multiprocessing_children,
)
from bench.environment.files import remove_abandoned_temporary_files
from bench.labels.label_files import LabelJob, ReportProgress, run_job
from bench.labels.labeller import Tally

T = TypeVar("T")
R = TypeVar("R")


def run_jobs(
    jobs: Sequence[LabelJob], workers: int, report: ReportProgress
) -> Generator[Tally | Exception, None, None]:
    """Run jobs on `workers` processes, or in this one if `workers` is 1; yield the tally or the error of each.

    An error that the user can fix (ValueError, OSError) fails one job; the others continue.
    """
    if workers == 1:
        for job in jobs:
            yield _run_caught(partial(run_job, job, report))
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _init_worker)
    try:
        if len(jobs) < workers:
            map_function = partial(_map_on_pool, pool, workers + 2)
            for job in jobs:
                yield _run_caught(partial(run_job, job, report, map_function))
        else:
            job_of = {_submit(pool, run_job, job): job for job in jobs}
            for future in as_completed(job_of):
                yield _run_caught(future.result)
                report(job_of[future].size)
    except BaseException:
        # An exception that a signal raises in a child may be lost, for example in `__del__`.
        kill_multiprocessing_children()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        for folder in {job.target.parent for job in jobs if job.target}:
            remove_abandoned_temporary_files(folder)


def _submit(pool: ProcessPoolExecutor, function: Callable[[T], R], item: T) -> Future[R]:
    """Submit a call; a process that this starts inherits the mask, and leaves Ctrl-C to its parent."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(function, item)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _map_on_pool(
    pool: ProcessPoolExecutor, max_submitted: int, function: Callable[[T], R], items: Iterable[T]
) -> Iterator[R]:
    """Yield the results of items in order, with at most `max_submitted` of them submitted."""
    waiting = deque[Future[R]]()
    for item in items:
        waiting.append(_submit(pool, function, item))
        if len(waiting) == max_submitted:
            yield waiting.popleft().result()
    for future in waiting:
        yield future.result()


def _run_caught(run: Callable[[], Tally]) -> Tally | Exception:
    """Return a tally, or the error that the user can fix; ChildProcessError if a process of the pool was killed."""
    try:
        return run()
    except (ValueError, OSError) as error:
        return error
    except BrokenProcessPool:
        raise ChildProcessError(
            "a labelling process was killed: check the free memory, or lower --workers"
        ) from None


def _init_worker() -> None:
    """Use one thread, and exit whenever the parent ends."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    exit_with_multiprocessing_parent()
