"""Runs as child processes: started one by one, in parallel or interleaved, and skipped where their records exist.

A shared machine has slow seconds and slow minutes. Consecutive runs meet different ones; runs interleaved window by
window meet the same: one works while the others wait (bench/environment/slots.py).
"""

import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from socket import socket, socketpair
from tempfile import TemporaryFile
from typing import NamedTuple

import msgspec

from bench.console.console import END_MARGIN_SECONDS, EXIT_CODE_BY_SIGNAL, Stopped, log
from bench.console.progress import RunProgressLog
from bench.environment.child_processes import PARENT
from bench.environment.circumstances import CHECKOUT
from bench.environment.slots import SLOT_VARIABLE
from bench.environment.torchrun_ranks import TORCHRUN_VARIABLES
from bench.orchestration.runs import FunctionRun
from bench.records.record import record_path

# numpy's BLAS threads compete with torch's and are many times slower than one thread. OpenMP's threads spin while they
# wait, by default so long that another busy process halves their speed. glibc returns freed tensors to the kernel and
# faults in small pages again: with freed memory kept in huge pages, clip-tiny runs 15 % faster, its peak is 10 % lower,
# and its run-to-run spread falls from 12 to 3 % (ten runs each, interleaved, two cores). The hub is offline.
KEEP_FREED = {
    "hugetlb": 1,
    "mmap_threshold": 1 << 30,
    "trim_threshold": 1 << 34,
    "top_pad": 1 << 26,
}
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "GOMP_SPINCOUNT": "10000",
    "GLIBC_TUNABLES": ":".join(
        f"glibc.malloc.{name}={value}" for name, value in KEEP_FREED.items()
    ),
    "HF_HUB_OFFLINE": "1",
}
WORKER = "bench.orchestration.worker"
LAUNCHER = "bench.orchestration.launcher"


class TimeSlotSockets(NamedTuple):
    """Two connected sockets, by which the scheduler gives slots of time to an interleaved run.

    The scheduler notices the end of the run only if this process has closed the run's socket.
    """

    scheduler: socket
    run: socket  # the run inherits it

    @property
    def environment_variable(self) -> dict[str, str]:
        """The environment variable that names the run's socket."""
        return {SLOT_VARIABLE: str(self.run.fileno())}


def grant_time_slots_in_turn(slots: Iterable[TimeSlotSockets]) -> None:
    """Give the runs slots in this order, repeatedly, until all have ended; a run ends its slot itself."""
    running = list(slots)
    while running:
        for slot in tuple(running):
            with suppress(ConnectionError):
                slot.scheduler.send(b"!")
                if slot.scheduler.recv(1):
                    continue
            running.remove(slot)
            slot.scheduler.close()


@dataclass(slots=True)
class Runner:
    """Starts runs, and lists those that failed."""

    progress: RunProgressLog = field(default_factory=RunProgressLog)
    launch: str = ""  # words that start a distributed run on all ranks, such as "torchrun ..."
    failures: list[str] = field(default_factory=list)
    _children: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: bool = False

    def run(self, runs: Sequence[FunctionRun], *, max_parallel: int = 1, threads: int) -> None:
        """Execute the runs that are not done in processes of their own, `max_parallel` in parallel.

        The failure of a run is recorded and the others continue. An interrupt ends the children and is raised here,
        also one that only a training received, which saved its state and ended.
        """
        settings = {"OMP_NUM_THREADS": str(threads)}
        if max_parallel > 1:
            settings["TQDM_DISABLE"] = "1"
        tasks = [
            partial(self._run_and_record_failure, run, settings) for run in runs if not run.is_done
        ]
        self._run_in_threads(tasks, max_parallel)

    def run_interleaved(self, runs: Sequence[FunctionRun], *, threads: int) -> None:
        """Execute the runs as `run` does, but interleaved and all in memory at once."""
        runs = [run for run in runs if not run.is_done]
        slots = [TimeSlotSockets(*socketpair()) for _ in runs]
        settings = {"OMP_NUM_THREADS": str(threads)}
        tasks = [
            partial(self._run_and_record_failure, run, settings, slot)
            for run, slot in zip(runs, slots, strict=True)
        ]
        self._run_in_threads([*tasks, partial(grant_time_slots_in_turn, slots)], len(runs) + 1)

    def _run_in_threads(self, tasks: Sequence[Callable[[], None]], num_threads: int) -> None:
        """Call the tasks in threads, and raise the first error of one, after the children were asked to end."""
        with ThreadPoolExecutor(num_threads) as pool:
            running = [pool.submit(task) for task in tasks]
            try:
                for future in as_completed(running):
                    future.result()
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Ask the children to end, kill them if they have not ended after a while, and start no more."""
        with self._lock:
            self._stopping = True
        for child in list(self._children):
            child.terminate()
        # A child may wait for ever, or be stopped.
        killer = threading.Timer(END_MARGIN_SECONDS, self._kill_children)
        killer.daemon = True
        killer.start()

    def _kill_children(self) -> None:
        for child in list(self._children):
            log(
                f"process {child.pid} is killed: it has not ended {END_MARGIN_SECONDS:g} s after it was asked to"
            )
            child.kill()

    def _run_and_record_failure(
        self, run: FunctionRun, settings: dict[str, str], slot: TimeSlotSockets | None = None
    ) -> None:
        """Execute a run in a process of its own, and record its failure."""
        with slot.run if slot else nullcontext():
            if self._stopping:
                return
            self.progress.log_run_start(run.label)
            reason = self._execute_and_return_failure_reason(run, settings, slot)
        if run.is_done:
            return
        if not self._stopping:
            reason = reason or "ended without leaving its record"
            self.failures.append(f"{run.label}: {reason}")
            log(f"FAILED {run.label}: {reason}")
            self._execute_and_return_failure_reason(
                make_failure_recording_run(run, reason), settings
            )

    def _execute_and_return_failure_reason(
        self, run: FunctionRun, settings: dict[str, str], slot: TimeSlotSockets | None = None
    ) -> str:
        """Execute a run in a fresh process and wait for its end; return the reason of its failure, or ""."""
        content = run.encode_as_json()
        words = ["-m", WORKER, run.label]
        is_launched = bool(self.launch and run.is_distributed)
        if is_launched:  # its processes do not share our standard input
            words = ["-m", LAUNCHER, *shlex.split(self.launch), *words, content]
            settings = settings | {"PYTHONSAFEPATH": "1"}
        if slot is not None:
            settings = settings | slot.environment_variable
        with TemporaryFile() as output:  # a pipe could be held open by what the run leaves behind
            with self._lock:
                if self._stopping:
                    return ""
                child = subprocess.Popen(
                    [sys.executable, "-P", *words],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    env=make_child_environment(settings),
                    pass_fds=[slot.run.fileno()] if slot else [],
                    process_group=0,  # Ctrl-C reaches only the parent, which ends its children
                )
                self._children.add(child)
            child.communicate(b"" if is_launched else content.encode())
            self._children.discard(child)
            output.seek(0)
            answer = output.read()
        if child.returncode == 0 or self._stopping:
            return ""
        if run.saves_checkpoints and child.returncode in EXIT_CODE_BY_SIGNAL.values():
            raise Stopped(child.returncode)
        return parse_failure_reason(child.returncode, answer)


def make_child_environment(settings: dict[str, str]) -> dict[str, str]:
    """Return the environment variables of a run: this process's without torchrun's, this project's and `settings`."""
    environment = {
        name: value for name, value in os.environ.items() if name not in TORCHRUN_VARIABLES
    }
    # Runs start in the user's folder, whose modules are not ours: -P, for a launcher its variable.
    paths = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {"PYTHONPATH": os.pathsep.join(paths), PARENT: str(os.getpid())}
    return environment | ENVIRONMENT | settings | variables


class PrintedWorkerError(msgspec.Struct):
    """What a process of a run prints when it fails."""

    error: str


def parse_failure_reason(returncode: int, output: bytes) -> str:
    """Return the first error that a process of a run has printed as a line of JSON, else how it ended."""
    for line in output.splitlines():
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(line, type=PrintedWorkerError).error
    if returncode < 0:
        return f"killed by signal {-returncode}"
    return f"ended with exit code {returncode}"


def make_failure_recording_run(run: FunctionRun, reason: str) -> FunctionRun:
    """Return the run that records the failure of another one."""
    path = record_path(run.first_file.parent, run.comparison, "failure", run.label)
    return FunctionRun(
        function="bench.records.record:Failure",
        label=f"failure of {run.label}",
        results=run.results,
        comparison=run.comparison,
        experiment=run.experiment,
        files=(str(path),),
        arguments={"what": run.label, "reason": reason},
    )
