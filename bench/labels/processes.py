"""All cores: whole shards side by side, or the batches of one shard where there are fewer shards than cores."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, ParamSpec

import pyarrow as pa

from bench.data.captions.batches import Batch
from bench.labels.labeller import Tally, labeller
from bench.labels.shard_job import Job, Label, Labelled, Report, one_by_one, run_job

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

WORTH_A_PROCESS = 8 * 2**20  # bytes of input
POLL_SECONDS = 0.5

P = ParamSpec("P")
Ended = tuple[Job, Tally | Exception]


def worth(jobs: Sequence[Job], cores: int) -> int:
    """Return how many processes are worth to be started, of so many cores."""
    return min(cores, 1 + sum(job.size for job in jobs) // WORTH_A_PROCESS)


def run_jobs(jobs: Sequence[Job], workers: int, report: Report) -> Iterator[Ended]:
    """Run jobs on so many processes, or in this one where one is enough; yield each with its tally or why it failed.

    What a person can mend fails one job (ValueError, OSError); the others go on.
    """
    if workers == 1:
        for job in jobs:
            yield job, _tried(run_job, job, one_by_one(job), report)
        return
    shared = _Shared.new()
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (shared,))
    try:
        if len(jobs) < workers:
            for job in jobs:
                yield job, _tried(run_job, job, _on_pool(job, pool, workers + 2), report)
        else:
            yield from _side_by_side(jobs, pool, shared, report)
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()  # each removes the file that it was writing
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _side_by_side(jobs: Sequence[Job], pool: ProcessPoolExecutor, shared: "_Shared", report: Report) -> Iterator[Ended]:
    job_of = {pool.submit(_run_here, job): job for job in jobs}
    waiting, captions, size = set(job_of), 0, 0
    while waiting:
        done, waiting = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
        now = shared.captions.value, shared.bytes.value
        report(now[0] - captions, now[1] - size)
        captions, size = now
        for future in done:
            yield job_of[future], _tried(future.result)


def _on_pool(job: Job, pool: ProcessPoolExecutor, ahead: int) -> Label:
    """Return the way to label on a pool: batches in order, at most `ahead` of them in work."""

    def label(batches: Iterator[Batch]) -> Iterator[Labelled]:
        waiting = deque[tuple[Batch, Future[tuple[pa.Buffer, Tally]]]]()
        for batch in batches:
            waiting.append(
                (_without_captions(batch), pool.submit(_label_here, job.rule, job.vocabulary, _packed(batch)))
            )
            if len(waiting) == ahead:
                yield _received(*waiting.popleft())
        while waiting:
            yield _received(*waiting.popleft())

    return label


def _received(batch: Batch, future: Future[tuple[pa.Buffer, Tally]]) -> Labelled:
    packed, tally = future.result()
    return batch, pa.ipc.open_stream(packed).read_next_batch().column(0), tally


def _without_captions(batch: Batch) -> Batch:
    return Batch(batch.keys, pa.nulls(0, pa.binary()), batch.bytes_read, batch.flaws)


def _packed(batch: Batch) -> tuple[pa.Buffer, Batch]:
    """Return captions as bytes that hold no more than them: a pickled slice holds what it was cut from."""
    empty = Batch(pa.nulls(0, pa.string()), pa.nulls(0, pa.binary()), batch.bytes_read, batch.flaws)
    return _stream_of(batch.captions), empty


def _stream_of(array: pa.Array) -> pa.Buffer:
    batch = pa.record_batch({"": array})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue()


def _tried(run: Callable[P, Tally], *args: P.args, **kwargs: P.kwargs) -> Tally | Exception:
    try:
        return run(*args, **kwargs)
    except (ValueError, OSError) as error:
        return error
    except BrokenProcessPool:
        raise ChildProcessError("a process that labelled was killed; was there too little memory?") from None


# What follows runs in a process of the pool.


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all processes have labelled of their files."""

    captions: "Synchronized[int]"
    bytes: "Synchronized[int]"

    @classmethod
    def new(cls) -> "_Shared":
        context = multiprocessing.get_context("spawn")
        return cls(context.Value("q"), context.Value("q"))


_shared: _Shared


def _begin(shared: _Shared) -> None:
    """Leave Ctrl-C to the parent, end cleanly when it says so, and end with it however it ends."""
    global _shared  # noqa: PLW0603 - this is what a pool's initializer is for
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


def _run_here(job: Job) -> Tally:
    return run_job(job, one_by_one(job), _report)


def _report(captions: int, size: int) -> None:
    with _shared.captions.get_lock():
        _shared.captions.value += captions
    with _shared.bytes.get_lock():
        _shared.bytes.value += size


def _label_here(rule: str, vocabulary: str | None, packed: tuple[pa.Buffer, Batch]) -> tuple[pa.Buffer, Tally]:
    captions, rest = packed
    array = pa.ipc.open_stream(captions).read_next_batch().column(0)
    labels, tally = labeller(rule, vocabulary)(Batch(rest.keys, array, rest.bytes_read, rest.flaws))
    return _stream_of(labels), tally
