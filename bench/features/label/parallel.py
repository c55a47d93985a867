"""Labelling on all cores: files side by side, each in one process."""

import multiprocessing
import signal
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pyarrow as pa

from bench.environment.child_processes import (
    exit_with_multiprocessing_parent,
    kill_multiprocessing_children,
)
from bench.environment.files import remove_abandoned_temporary_files
from bench.labels.label_files import LabelJob, run_job
from bench.labels.labeller import Tally

Outcome = Tally | ValueError | OSError


def run_jobs(jobs: Sequence[LabelJob], workers: int) -> Generator[Outcome, None, None]:
    """Run jobs on `workers` processes, or in this one if `workers` is 1; yield the tally or the error of each.

    An error that the user can fix (ValueError, OSError) fails one job; the others continue. ChildProcessError if a
    process was killed.
    """
    if workers == 1:
        yield from map(_run_caught, jobs)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _init_worker)
    try:
        yield from _map_without_interrupts(pool, jobs)
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
        for folder in {job.target.parent for job in jobs if job.target}:
            remove_abandoned_temporary_files(folder)


def _map_without_interrupts(
    pool: ProcessPoolExecutor, jobs: Sequence[LabelJob]
) -> Iterator[Outcome]:
    """Submit all jobs; the processes that this starts inherit the mask, and leave Ctrl-C to their parent."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.map(_run_caught, jobs)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _run_caught(job: LabelJob) -> Outcome:
    """Return the tally of a job, or the error that the user can fix."""
    try:
        return run_job(job)
    except (ValueError, OSError) as error:
        return error


def _init_worker() -> None:
    """Use one thread, and exit whenever the parent ends."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    exit_with_multiprocessing_parent()
