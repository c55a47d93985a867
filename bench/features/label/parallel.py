"""Labelling on all cores: shards side by side, or the batches of one shard if there are more cores than shards."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from bench.data.captions.batches import CaptionBatch
from bench.environment.child_processes import exit_with_parent, kill_children
from bench.environment.files import remove_abandoned_writes
from bench.labels.label_files import LabelJob, LabelledBatch, ReportProgress, run_job
from bench.labels.labeller import LABEL_LISTS, Tally, get_labeller

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import SynchronizedArray

MIN_BYTES_PER_PROCESS = 8 * 2**20  # bytes of input
POLL_SECONDS = 0.5
CAPTIONS = pa.schema([("", pa.binary())])
LABELS = pa.schema([("", LABEL_LISTS)])

JobOutcome = tuple[LabelJob, Tally | Exception]
SerializedLabels = tuple[pa.Buffer, Tally]


def count_useful_processes(jobs: Sequence[LabelJob], cores: int) -> int:
    """Return the number of processes to start, at most `cores`."""
    return min(cores, 1 + sum(job.size for job in jobs) // MIN_BYTES_PER_PROCESS)


def run_jobs(
    jobs: Sequence[LabelJob], workers: int, report: ReportProgress
) -> Generator[JobOutcome, None, None]:
    """Run jobs on `workers` processes, or in this one if `workers` is 1; yield each with its tally or its error.

    An error that the user can fix (ValueError, OSError) fails one job; the others continue.
    """
    if workers == 1:
        for job in jobs:
            yield job, _run_caught(partial(run_job, job, report))
        return
    context = multiprocessing.get_context("spawn")
    progress = context.Array("q", 2)
    pool = ProcessPoolExecutor(workers, context, _init_worker, (progress,))
    try:
        if len(jobs) < workers:
            label = partial(_label_on_pool, pool, workers + 2)
            for job in jobs:
                yield job, _run_caught(partial(run_job, job, report, label))
        else:
            yield from _run_side_by_side(jobs, pool, progress, report)
    except BaseException:
        kill_children()  # an exception that a signal raises in a child may be lost, for example in `__del__`
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        for folder in {job.target.parent for job in jobs if job.target}:
            with suppress(
                OSError
            ):  # for example of a network file system: the next writer tries again
                remove_abandoned_writes(folder)


def _run_side_by_side(
    jobs: Sequence[LabelJob],
    pool: ProcessPoolExecutor,
    progress: "SynchronizedArray[int]",
    report: ReportProgress,
) -> Iterator[JobOutcome]:
    """Run each job in a process of the pool; the processes add their progress to a shared array."""
    job_of = {pool.submit(run_job, job, _add_progress): job for job in jobs}
    waiting = set(job_of)
    reported = [0, 0]
    while waiting:
        done, waiting = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
        captions, num_bytes = progress[:]
        report(captions - reported[0], num_bytes - reported[1])
        reported = [captions, num_bytes]
        for future in done:
            yield job_of[future], _run_caught(future.result)


def _label_on_pool(
    pool: ProcessPoolExecutor, max_submitted: int, job: LabelJob, batches: Iterator[CaptionBatch]
) -> Iterator[LabelledBatch]:
    """Label batches on a pool, in order, with at most `max_submitted` of them submitted."""
    waiting = deque[tuple[CaptionBatch, Future[SerializedLabels]]]()
    for batch in batches:
        future = pool.submit(
            _label_batch,
            job.rule,
            job.vocabulary,
            _serialize(batch.captions, CAPTIONS),
            batch.num_replaced,
        )
        waiting.append((replace(batch, captions=pa.nulls(0, pa.binary())), future))
        if len(waiting) == max_submitted:
            yield _await_labels(*waiting.popleft())
    while waiting:
        yield _await_labels(*waiting.popleft())


def _await_labels(batch: CaptionBatch, future: Future[SerializedLabels]) -> LabelledBatch:
    labels, tally = future.result()
    return batch, _deserialize(labels, LABELS), tally


def _serialize(array: pa.Array, schema: pa.Schema) -> pa.Buffer:
    """Return an array as bytes; a pickled slice would contain the whole array that it was cut from."""
    return pa.record_batch([array], schema=schema).serialize()


def _deserialize(content: pa.Buffer, schema: pa.Schema) -> pa.Array:
    return pa.ipc.read_record_batch(content, schema).column(0)


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


# The functions below run in a process of the pool.
_progress: "SynchronizedArray[int]"  # captions and bytes of all processes on whole shards


def _init_worker(progress: "SynchronizedArray[int]") -> None:
    """Ignore Ctrl-C, which the parent handles; exit whenever the parent ends."""
    global _progress  # noqa: PLW0603 - a pool's initializer has no other way to keep its argument
    _progress = progress
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    exit_with_parent()


def _add_progress(captions: int, num_bytes: int) -> None:
    with _progress.get_lock():
        _progress[0] += captions
        _progress[1] += num_bytes


def _label_batch(
    rule: str, vocabulary: str | None, captions: pa.Buffer, num_replaced: int
) -> SerializedLabels:
    batch = CaptionBatch(
        pa.nulls(0, pa.string()), _deserialize(captions, CAPTIONS), 0, num_replaced
    )
    labels, tally = get_labeller(rule, vocabulary)(batch)
    return _serialize(labels, LABELS), tally
