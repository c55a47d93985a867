"""Loads batches ahead of their training, in worker processes with shared memory."""

import signal
from collections.abc import Iterator
from itertools import count
from multiprocessing import forkserver, popen_forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.queues import Queue
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader

from bench.console.console import EXIT_CODE_BY_SIGNAL, UserError
from bench.environment.child_processes import exit_with_multiprocessing_parent

B = TypeVar("B")
WORKER_MEMORY_REMEDY = (
    "use fewer workers (--set workers=N) or none (--set workers=0), "
    "or give the container more memory"
)
# Modules that the process imports from which workers fork.
FORKSERVER_PRELOAD = ["bench.data.worker_imports"]


class PrefetchingLoader(Generic[B]):
    """Returns `loader[k]` while workers load k + 1, k + 2, …; a k out of sequence restarts the workers there.

    The workers fork from a process that has imported `preloaded_module`. With `pin_memory`, a thread calls `pin_memory`
    of the batches that the workers hand over.
    """

    def __init__(
        self,
        loader: Any,
        num_workers: int,
        preloaded_module: str,
        *,
        pin_memory: bool = False,
    ) -> None:
        self._numbers = _CountingSampler()
        self._loader: DataLoader[B | Exception] = DataLoader(
            loader,
            batch_size=None,
            sampler=self._numbers,
            num_workers=num_workers,
            pin_memory=pin_memory,
            multiprocessing_context=_start_worker_fork_server_context(preloaded_module),
            worker_init_fn=_exit_with_parent,
            persistent_workers=True,
            generator=torch.Generator(),  # otherwise each start would draw from the model's generator
        )
        self._batches: Iterator[B | Exception] = iter(())

    def __getitem__(self, k: int) -> B | Exception:
        """Return batch k, or the error of its worker that a person can mend."""
        if k != self._numbers.next:
            self._numbers.next = k
            self._batches = iter(self._loader)
        self._numbers.next = k + 1
        try:
            return next(self._batches)
        except (RuntimeError, OSError, EOFError) as error:
            # An OSError or EOFError: the worker has ended while it handed a batch over.
            died = ("DataLoader worker", "Pin memory thread")
            if isinstance(error, RuntimeError) and not str(error).startswith(died):
                raise
            reason = f"a loader worker was killed, perhaps because memory ran out ({error})"
            return UserError(f"{reason}: {WORKER_MEMORY_REMEDY}")


class _BatchOrErrorQueue(Queue):  # type: ignore[type-arg]
    """The queue from a worker. In place of a batch that it cannot hand over, it hands over the error.

    Python would print the error in the worker and lose the batch, and the training would wait for it.
    """

    def _on_queue_feeder_error(self, error: Exception, item: tuple[int, object]) -> None:
        number, _ = item
        reason = f"a loader worker cannot hand over a batch ({error})"
        self.put((number, UserError(f"{reason}: {WORKER_MEMORY_REMEDY}")))


class _KillOnTerminatePopen(popen_forkserver.Popen):
    """A running worker. It is killed instead of terminated, because workers block SIGTERM."""

    def terminate(self) -> None:
        self.kill()


class _KillOnTerminateProcess(ForkServerProcess):
    _Popen = (
        _KillOnTerminatePopen  # multiprocessing itself terminates its workers when a process ends
    )


class _WorkerForkServerContext(ForkServerContext):
    """The context in which workers fork from a process that has only imported modules.

    A fork of the training process may inherit a lock that one of its threads holds, and deadlock. Spawned workers would
    each import for themselves.
    """

    Process = _KillOnTerminateProcess

    def Queue(self, maxsize: int = 0) -> _BatchOrErrorQueue:  # noqa: N802 - as it is named in multiprocessing
        """Return a queue."""
        return _BatchOrErrorQueue(maxsize, ctx=self.get_context())


def _start_worker_fork_server_context(preloaded_module: str) -> _WorkerForkServerContext:
    """Start the process from which workers fork, and return their context.

    That process and the workers block the signals that end a training: SLURM signals every process of a job step, and
    the training may need more batches before it can save its state.
    """
    context = _WorkerForkServerContext()
    context.set_forkserver_preload([*FORKSERVER_PRELOAD, preloaded_module])
    resource_tracker.ensure_running()  # comes first, because its start unblocks signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, EXIT_CODE_BY_SIGNAL)
    try:
        forkserver.ensure_running()  # it imports while the model is built
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def _exit_with_parent(_: int) -> None:
    exit_with_multiprocessing_parent()  # the loader's own watchdog polls the parent's id, which is the fork server's


class _CountingSampler:
    """All numbers from `next` on."""

    next = -1

    def __iter__(self) -> Iterator[int]:
        return count(self.next)
