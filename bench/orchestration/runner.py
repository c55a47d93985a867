"""Runs as child processes: started one by one, in parallel or interleaved, and skipped where their records exist.

A shared machine has slow seconds and slow minutes. Consecutive runs meet different ones; runs interleaved window by
window meet the same: one works while the others wait (bench/environment/slots.py).
"""

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial

import msgspec

from bench.console.console import END_MARGIN_SECONDS, EXIT_CODE_BY_SIGNAL, Stopped, log
from bench.console.progress import Progress
from bench.environment.circumstances import CHECKOUT
from bench.environment.files import remove_abandoned_writes
from bench.environment.slots import SLOT_VARIABLE
from bench.orchestration.request_base import Request
from bench.orchestration.requests import FailureRequest
from bench.orchestration.torchrun import Announcement, Child, RunCoordinator
from bench.orchestration.worker import PARENT

# numpy's BLAS threads compete with torch's and are many times slower than one thread. OpenMP's threads spin while they
# wait, by default so long that another busy process halves their speed. glibc returns freed tensors to the kernel and
# faults in small pages again: with freed memory kept in huge pages, clip-tiny runs 15 % faster, its peak is 10 % lower,
# and its run-to-run spread falls from 12 to 3 % (ten runs each, interleaved, two cores). The hub is offline.
KEEP_FREED = {"hugetlb": 1, "mmap_threshold": 1 << 30, "trim_threshold": 1 << 34, "top_pad": 1 << 26}
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "GOMP_SPINCOUNT": "10000",
    "GLIBC_TUNABLES": ":".join(f"glibc.malloc.{name}={value}" for name, value in KEEP_FREED.items()),
    "HF_HUB_OFFLINE": "1",
}

SAVING_SECONDS = 25.0  # time for a child to save its state; torchrun kills after 30 s


@dataclass(slots=True)
class Slot:
    """The ends of the two pipes between an interleaved run and the scheduler."""

    grant_read: int  # read by the run
    grant_write: int
    done_read: int
    done_write: int  # written by the run
    is_closed: bool = False

    @classmethod
    def create(cls) -> "Slot":
        return cls(*os.pipe(), *os.pipe())

    @property
    def child_fds(self) -> tuple[int, int]:
        """Return the ends that the run inherits."""
        return self.grant_read, self.done_write

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variable that names these ends."""
        return {SLOT_VARIABLE: f"{self.grant_read} {self.done_write}"}

    def close(self) -> None:
        """Close the run's ends in this process, once: the scheduler then notices when the run ends."""
        if not self.is_closed:
            self.is_closed = True
            for end in self.child_fds:
                os.close(end)


def round_robin(slots: Iterable[Slot]) -> None:
    """Give the runs slots in this order, repeatedly, until all have ended."""
    running = list(slots)
    while running:
        for slot in tuple(running):
            with suppress(BrokenPipeError):
                os.write(slot.grant_write, b"!")
                if os.read(slot.done_read, 1):
                    continue
            running.remove(slot)
            os.close(slot.grant_write)
            os.close(slot.done_read)


@dataclass(frozen=True, slots=True)
class Job:
    """A run to start, its name in messages, and its expected duration."""

    request: Request
    label: str
    expected_seconds: float

    @property
    def is_done(self) -> bool:
        """Whether every file of the run exists."""
        return all(path.is_file() for path in self.request.paths)


def expected_job_seconds(rounds: Iterable[Sequence[Job]]) -> float:
    """Sum the expected seconds of the jobs of rounds."""
    return sum(job.expected_seconds for jobs in rounds for job in jobs)


class OutOfTimeError(Exception):
    """Jobs are left to another command, because they are expected to end after the deadline."""


@dataclass(slots=True)
class Runner:
    """Starts jobs and lists failures. Under torchrun, all ranks start distributed jobs together."""

    progress: Progress
    coordinator: RunCoordinator | None = None
    deadline: float = math.inf  # time by which the jobs should end, of time.monotonic()
    skips_late_jobs: bool = False  # whether a job that is expected to end later is not started, nor any after it
    failures: list[str] = field(default_factory=list)
    _children: set[Child] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: bool = False
    _has_skipped_jobs: bool = False

    def run(self, jobs: Sequence[Job], *, max_parallel: int = 1, threads: int) -> None:
        """Run the jobs that are not done, `max_parallel` in parallel, each with so many threads.

        The failure of a job is recorded and the others continue. An interrupt ends the children and is raised here,
        also one that only a training received, which saved its state and ended. Raises OutOfTimeError if jobs are left.
        """
        settings = {"OMP_NUM_THREADS": str(threads)} | ({"TQDM_DISABLE": "1"} if max_parallel > 1 else {})

        def run(job: Job) -> None:
            if not self._must_skip([job], max_parallel):
                self._run(job, settings)

        self._run_in_threads([partial(run, job) for job in jobs], max_parallel)

    def run_interleaved(self, jobs: Sequence[Job], *, threads: int) -> None:
        """Run the jobs as `run` does, but interleaved and all in memory at once; under torchrun one after the other."""
        if self.coordinator is not None:
            self.run(jobs, threads=threads)
            return
        if self._must_skip(jobs):
            raise self._out_of_time()
        slots = [Slot.create() for _ in jobs]
        settings = {"OMP_NUM_THREADS": str(threads)}
        runs = [partial(self._run_in_slot, job, settings, slot) for job, slot in zip(jobs, slots, strict=True)]
        self._run_in_threads([*runs, partial(round_robin, slots)], len(jobs) + 1)

    def _run_in_threads(self, tasks: Sequence[Callable[[], None]], num_threads: int) -> None:
        with ThreadPoolExecutor(num_threads) as pool:
            running = [pool.submit(task) for task in tasks]
            try:
                for future in as_completed(running):
                    future.result()
            except BaseException:
                self.stop()
                raise
        if self._has_skipped_jobs:
            raise self._out_of_time()

    def _out_of_time(self) -> OutOfTimeError:
        minutes = math.ceil(self.progress.seconds_left() / 60)
        return OutOfTimeError(f"the next run would end too late, and runs of about {minutes} min are left")

    def _must_skip(self, jobs: Sequence[Job], num_parallel: int = 1) -> bool:
        """Return whether jobs of which so many run in parallel are left, because of these or of earlier ones."""
        seconds = [job.expected_seconds for job in jobs if not job.is_done]
        if seconds and self.skips_late_jobs:
            end = time.monotonic() + self.progress.corrected(num_parallel * sum(seconds))
            self._has_skipped_jobs |= end > self.deadline
        return bool(seconds) and self._has_skipped_jobs

    def run_announced(self, start: Announcement, coordinator: RunCoordinator) -> None:
        """Run this rank's part of a distributed run, and publish how it ended."""
        reason = self._start(start.request, start.settings, lambda child: coordinator.supervise(child, start))
        coordinator.publish_exit(start, reason)

    def stop(self) -> None:
        """End the children, and start no more."""
        with self._lock:
            self._stopping = True
        if self.coordinator is not None:
            self.coordinator.is_stopping = True
        for child in list(self._children):
            child.terminate()
        killer = threading.Timer(END_MARGIN_SECONDS, self._kill_children)  # a child may wait for ever, or be stopped
        killer.daemon = True
        killer.start()

    def _kill_children(self) -> None:
        for child in list(self._children):
            log(f"process {child.pid} is killed: it has not ended {END_MARGIN_SECONDS:g} s after it was asked to")
            child.kill()

    def wait_for_children(self) -> None:
        """Wait for children that save their state: they die with this process."""
        for child in list(self._children):
            with suppress(subprocess.TimeoutExpired):
                child.wait(SAVING_SECONDS)

    def _run_in_slot(self, job: Job, settings: dict[str, str], slot: Slot) -> None:
        with closing(slot):
            self._run(job, settings, slot)

    def _run(self, job: Job, settings: dict[str, str], slot: Slot | None = None) -> None:
        if self._stopping:
            return
        if job.is_done:
            self.progress.expect(-job.expected_seconds)
            return
        self.progress.log_start(job.label)
        if self.coordinator is not None and job.request.runs_on_all_ranks and self.coordinator.unfinished_ranks():
            reason = f"the command line of rank {self.coordinator.unfinished_ranks()} does not answer"
        elif self.coordinator is not None and job.request.runs_on_all_ranks:
            start = self.coordinator.announce(job.request, settings)
            self.run_announced(start, self.coordinator)
            reason = self.coordinator.failure_reason(start)
        else:
            reason = self._start(job.request, settings, slot=slot)
        reason = reason or "ended without leaving its record"
        if not job.is_done:
            with suppress(OSError):  # of a network file system, say: the next writer tries again
                remove_abandoned_writes(job.request.paths[0].parent)
            if not self._stopping:
                self.failures.append(f"{job.label}: {reason}")
                log(f"FAILED {job.label}: {reason}")
                shared = {name: getattr(job.request, name) for name in ("results", "comparison", "experiment")}
                self._start(FailureRequest(**shared, label=job.label, reason=reason), settings)
        self.progress.finish(job.expected_seconds)

    def _start(
        self,
        request: Request,
        settings: dict[str, str],
        supervise: Callable[[Child], tuple[bytes, bool]] | None = None,
        slot: Slot | None = None,
    ) -> str:
        """Run a request in a fresh process, interleaved if it has a slot; return the reason of its failure, or "".

        `supervise` sends the request and returns the process's output, and whether it stopped the process.
        """
        # The last argument is for process lists: the request comes on standard input.
        command = [sys.executable, "-P", "-m", "bench.orchestration.worker"]
        command.append(f"{request.kind} of {request.experiment.name if request.experiment else 'all ranks'}")
        own = {"PYTHONPATH": pythonpath_with_checkout(), PARENT: str(os.getpid())} | (slot.environment if slot else {})
        with self._lock, closing(slot) if slot else nullcontext():
            if self._stopping:
                return ""
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | ENVIRONMENT | settings | own,
                pass_fds=slot.child_fds if slot else (),
                process_group=0,  # Ctrl-C reaches only the parent, which ends its children
            )
            self._children.add(child)
        if supervise:
            output, was_stopped = supervise(child)
        else:
            output, was_stopped = child.communicate(msgspec.json.encode(request))[0], False
        self._children.discard(child)
        if was_stopped:
            return "stopped, because it had ended on another rank"
        if child.returncode == 0 or self._stopping:
            return ""
        if request.saves_checkpoints and child.returncode in EXIT_CODE_BY_SIGNAL.values():
            raise Stopped(child.returncode)
        return _failure_reason(child.returncode, output)


def _failure_reason(returncode: int, output: bytes) -> str:
    if returncode < 0:
        return f"killed by signal {-returncode}"
    try:
        return str(msgspec.json.decode(output.splitlines()[-1])["error"])
    except (msgspec.DecodeError, IndexError, KeyError, TypeError):
        return f"ended with exit code {returncode}"


def follow_rank0(coordinator: RunCoordinator) -> None:
    """Execute the runs that rank 0 announces, until it is done."""
    runner = Runner(Progress(0.0), coordinator)
    try:
        for start in coordinator.iter_announcements():
            runner.run_announced(start, coordinator)
    except BaseException:
        runner.stop()
        runner.wait_for_children()
        raise


def pythonpath_with_checkout() -> str:
    """Return a PYTHONPATH with the checkout, because runs start in the user's folder."""
    return os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
