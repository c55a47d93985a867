"""Labelling on all cores: whole shards in parallel, or the batches of one shard if there are more cores than shards."""

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, ParamSpec

import pyarrow as pa

from bench.data.captions.batches import CaptionBatch
from bench.labels.labeller import Tally, labeller
from bench.labels.shard_job import LabelJob, Labelled, Report, run_job

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

MIN_BYTES_PER_PROCESS = 8 * 2**20  # bytes of input
POLL_SECONDS = 0.5

P = ParamSpec("P")
Ended = tuple[LabelJob, Tally | Exception]


def useful_processes(jobs: Sequence[LabelJob], cores: int) -> int:
    """Return the number of processes to start, at most `cores`."""
    return min(cores, 1 + sum(job.size for job in jobs) // MIN_BYTES_PER_PROCESS)


def run_jobs(jobs: Sequence[LabelJob], workers: int, report: Report) -> Iterator[Ended]:
    """Run jobs on `workers` processes, or in this one if `workers` is 1; yield each with its tally or its error.

    An error that the user can fix (ValueError, OSError) fails one job; the others continue.
    """
    if workers == 1:
        for job in jobs:
            yield job, _run_caught(run_job, job, report)
        return
    context = multiprocessing.get_context("spawn")
    shared = _Shared(context.Value("q"), context.Value("q"))
    pool = ProcessPoolExecutor(workers, context, _init_worker, (shared,))
    try:
        if len(jobs) < workers:
            for job in jobs:
                yield job, _run_caught(run_job, job, report, partial(_label_on_pool, pool, workers + 2))
        else:
            yield from _side_by_side(jobs, pool, shared, report)
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()  # each removes its unfinished file
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _side_by_side(
    jobs: Sequence[LabelJob], pool: ProcessPoolExecutor, shared: "_Shared", report: Report
) -> Iterator[Ended]:
    job_of = {pool.submit(_run_here, job): job for job in jobs}
    waiting, captions, size = set(job_of), 0, 0
    while waiting:
        done, waiting = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
        now = shared.captions.value, shared.bytes.value
        report(now[0] - captions, now[1] - size)
        captions, size = now
        for future in done:
            yield job_of[future], _run_caught(future.result)


def _label_on_pool(
    pool: ProcessPoolExecutor, ahead: int, job: LabelJob, batches: Iterator[CaptionBatch]
) -> Iterator[Labelled]:
    """Label batches on a pool, in order, with at most `ahead` of them submitted."""
    waiting = deque[tuple[CaptionBatch, Future[tuple[pa.Buffer, Tally]]]]()
    for batch in batches:
        future = pool.submit(_label_here, job.rule, job.vocabulary, _stream_of(batch.captions), batch.flaws)
        waiting.append((replace(batch, captions=pa.nulls(0, pa.binary())), future))
        if len(waiting) == ahead:
            yield _received(*waiting.popleft())
    while waiting:
        yield _received(*waiting.popleft())


def _received(batch: CaptionBatch, future: Future[tuple[pa.Buffer, Tally]]) -> Labelled:
    labels, tally = future.result()
    return batch, _array_of(labels), tally


def _stream_of(array: pa.Array) -> pa.Buffer:
    """Return an array as bytes; a pickled slice would contain the whole array that it was cut from."""
    batch = pa.record_batch({"": array})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue()


def _array_of(stream: pa.Buffer) -> pa.Array:
    return pa.ipc.open_stream(stream).read_next_batch().column(0)


def _run_caught(run: Callable[P, Tally], *args: P.args, **kwargs: P.kwargs) -> Tally | Exception:
    try:
        return run(*args, **kwargs)
    except (ValueError, OSError) as error:
        return error
    except BrokenProcessPool:
        raise ChildProcessError("a labelling process was killed: check the free memory, or lower --workers") from None


# The functions below run in a process of the pool.


@dataclass(frozen=True, slots=True)
class _Shared:
    """Progress of all processes on whole shards."""

    captions: "Synchronized[int]"
    bytes: "Synchronized[int]"


_shared: _Shared


def _init_worker(shared: _Shared) -> None:
    """Ignore Ctrl-C, which the parent handles; exit cleanly on SIGTERM, and whenever the parent ends."""
    global _shared  # noqa: PLW0603 - a pool's initializer has no other way to keep its argument
    _shared = shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run_here(job: LabelJob) -> Tally:
    return run_job(job, _report)


def _report(captions: int, size: int) -> None:
    with _shared.captions.get_lock():
        _shared.captions.value += captions
    with _shared.bytes.get_lock():
        _shared.bytes.value += size


def _label_here(rule: str, vocabulary: str | None, captions: pa.Buffer, flaws: Counter[str]) -> tuple[pa.Buffer, Tally]:
    batch = CaptionBatch(pa.nulls(0, pa.string()), _array_of(captions), bytes_read=0, flaws=flaws)
    labels, tally = labeller(rule, vocabulary)(batch)
    return _stream_of(labels), tally
