"""A training under torchrun, in the processes that torchrun started: rank 0 prepares and scores, all ranks train.

Rank 0 checks the options, indexes the data and chooses the checkpoint, which may take hours, and then shares the run in
the key-value store of the ranks.
"""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress

from bench.console.console import FAILED_CASE, OK, TERMINATED, Stopped, handle_stop_signals, log
from bench.environment.child_processes import kill_multiprocessing_children
from bench.environment.imports import imports_without_gc
from bench.orchestration.runner import ENVIRONMENT, Runner, TimeSlotSockets
from bench.orchestration.runs import (
    FunctionRun,
    decode_run_from_json,
    execute_run_and_write_record,
    log_and_describe_failure,
)

POLL_SECONDS = 0.2  # between two reads of the store
RUN_KEY = "run"  # of the run as JSON; empty: there is nothing to train
FAILURE_KEY = "failure"  # of the reason of the first failure


class Rank0Runner(Runner):
    """Executes distributed runs in this process, rank 0 of a torchrun, and other runs in fresh processes."""

    def run(self, runs: Sequence[FunctionRun], *, max_parallel: int = 1, threads: int) -> None:
        """Execute the distributed run, the training, if any, on all ranks; then the other runs as `Runner.run` does."""
        distributed = [run for run in runs if run.is_distributed and not run.is_done]
        if distributed:
            (training,) = distributed  # the other ranks wait for one run
            self._run_and_record_failure(training, {})  # in the main thread, which handles signals
        others = [run for run in runs if not run.is_distributed]
        super().run(others, max_parallel=max_parallel, threads=threads)

    def _execute_and_return_failure_reason(
        self, run: FunctionRun, settings: dict[str, str], slot: TimeSlotSockets | None = None
    ) -> str:
        if not run.is_distributed:
            return super()._execute_and_return_failure_reason(run, settings, slot)
        content = run.encode_as_json()
        share_run_with_ranks(content)
        return execute_on_this_rank(content)


def open_rank_store() -> None:
    """Open the store on rank 0, before it prepares for longer than other ranks would try to connect.

    Where rank 0 holds the store, it waits for the other ranks here. torchrun usually holds it; then nothing waits,
    because the store outlives all ranks.
    """
    with imports_without_gc():
        from bench.train.distributed import connect_rank_store

    connect_rank_store()


def share_run_with_ranks(content: str) -> None:
    """Let the other ranks execute a run, given as JSON; "" ends ranks that wait. The first call counts."""
    from bench.train.distributed import connect_rank_store

    connect_rank_store().compare_set(RUN_KEY, "", content)


def wait_for_and_execute_run_of_rank0() -> int:
    """Wait on another rank for the run that rank 0 shares, and execute it; return the exit code of this rank."""
    with imports_without_gc():
        from bench.train.distributed import connect_rank_store

    torchrun = os.getppid()
    try:
        store = connect_rank_store()
        while not store.check([RUN_KEY]):
            if os.getppid() != torchrun:
                return TERMINATED
            time.sleep(POLL_SECONDS)
        content = store.get(RUN_KEY).decode()
    except RuntimeError:  # rank 0, which holds the store, has ended
        return TERMINATED
    if not content:
        return OK
    return FAILED_CASE if execute_on_this_rank(content) else OK


def execute_on_this_rank(content: str) -> str:
    """Execute the run that JSON describes; return the reason of its failure, or "". Raises Stopped after a signal.

    torchrun sends SIGTERM to all ranks when one has failed: this is no request to save, but the failure of all.
    """
    from bench.train.distributed import connect_rank_store

    os.environ |= {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    store = connect_rank_store()
    try:
        with handle_stop_signals() as stop:
            execute_run_and_write_record(decode_run_from_json(content), stop)
    except SystemExit as ended:
        kill_multiprocessing_children()  # loader workers would finish their batches first
        with suppress(RuntimeError):  # the rank that holds the store has ended
            if not store.check([FAILURE_KEY]):
                raise Stopped(int(ended.code or 0)) from None
        reason = "another rank failed"
    except Exception as error:  # noqa: BLE001 - it is recorded
        # Rank 0 records the failure while torchrun, because another rank has already ended, asks it to end.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        reason = log_and_describe_failure(error)
        log(f"failed on {reason}")
        kill_multiprocessing_children()
    else:
        return ""
    with suppress(RuntimeError):  # the rank that holds the store has ended
        reason_of_first_failure = store.compare_set(FAILURE_KEY, "", reason)
        return reason_of_first_failure.decode()
    return reason
