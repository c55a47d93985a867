"""Runs as child processes: started one by one, in parallel or interleaved, and skipped where their records exist."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field

import msgspec

from bench.console.console import INTERRUPTED, TERMINATED, Progress, Terminated, log
from bench.environment.commit import CHECKOUT
from bench.orchestration.interleave import Slot, round_robin
from bench.orchestration.requests import AnyRequest, FailureRequest
from bench.orchestration.torchrun import Announcement, Child, Coordinator
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


@dataclass(frozen=True, slots=True)
class Job:
    """A run to start, its name in messages, and its expected duration."""

    request: AnyRequest
    label: str
    expected_seconds: float

    @property
    def is_done(self) -> bool:
        """Whether every file of the run exists."""
        return all(path.is_file() for path in self.request.paths)


@dataclass(slots=True)
class Runner:
    """Starts jobs and lists failures. Under torchrun, all ranks start distributed jobs together."""

    progress: Progress
    coordinator: Coordinator | None = None
    failures: list[str] = field(default_factory=list)
    _children: set[Child] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: bool = False

    def run(self, jobs: Sequence[Job], *, max_parallel: int = 1, threads: int) -> None:
        """Run the jobs that are not done, `max_parallel` in parallel, each with so many threads.

        The failure of a job is recorded and the others continue. An interrupt ends the children and is raised here,
        also one that only a training received, which saved its state and ended.
        """
        max_parallel = max(1, min(max_parallel, len(jobs)))
        settings = {"OMP_NUM_THREADS": str(threads)} | ({"TQDM_DISABLE": "1"} if max_parallel > 1 else {})
        with ThreadPoolExecutor(max_parallel) as pool:
            running = [pool.submit(self._run, job, settings) for job in jobs]
            try:
                for future in as_completed(running):
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.stop()
                raise

    def run_interleaved(self, jobs: Sequence[Job], *, threads: int) -> None:
        """Run the jobs that are not done interleaved, one working while the others wait; under torchrun as `run`.

        All processes hold their memory at the same time. Otherwise this behaves as `run`.
        """
        if self.coordinator is not None:
            self.run(jobs, threads=threads)
            return
        slots = [Slot.create() for _ in jobs]
        settings = {"OMP_NUM_THREADS": str(threads)}
        with ThreadPoolExecutor(len(jobs) + 1) as pool:
            running = [
                pool.submit(self._run_in_slot, job, settings, slot) for job, slot in zip(jobs, slots, strict=True)
            ]
            running.append(pool.submit(round_robin, slots))
            try:
                for future in as_completed(running):
                    future.result()
            except BaseException:
                self.stop()
                raise

    def run_announced(self, start: Announcement, coordinator: Coordinator) -> None:
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

    def wait_for_children(self) -> None:
        """Wait for children that save their state: they die with this process."""
        for child in list(self._children):
            with suppress(subprocess.TimeoutExpired):
                child.wait(SAVING_SECONDS)

    def _run_in_slot(self, job: Job, settings: dict[str, str], slot: Slot) -> None:
        with closing(slot):
            self._run(job, settings, slot)

    def _run(self, job: Job, settings: dict[str, str], slot: Slot | None = None) -> None:
        if job.is_done:
            self.progress.skip(job.expected_seconds)
            return
        self.progress.log_start(job.label)
        if self.coordinator is not None and job.request.is_of_all_ranks:
            start = self.coordinator.announce(job.request, settings)
            self.run_announced(start, self.coordinator)
            reason = self.coordinator.failure_reason(start)
        else:
            reason = self._start(job.request, settings, slot=slot)
        reason = reason or "ended without leaving its record"
        if not job.is_done and not self._stopping:
            self.failures.append(f"{job.label}: {reason}")
            log(f"FAILED {job.label}: {reason}")
            of = job.request
            failure = FailureRequest(
                results=of.results,
                comparison=of.comparison,
                experiment=of.experiment,
                label=job.label,
                reason=reason,
            )
            self._start(failure, settings)
        self.progress.finish(job.expected_seconds)

    def _start(
        self,
        request: AnyRequest,
        settings: dict[str, str],
        supervise: Callable[[Child], tuple[bytes, bool]] | None = None,
        slot: Slot | None = None,
    ) -> str:
        """Run a request in a fresh process, interleaved if it has a seat; return the reason of its failure, or "".

        `supervise` sends the request and returns the process's output, and whether it stopped the process.
        """
        own = {"PYTHONPATH": pythonpath_with_checkout(), PARENT: str(os.getpid())} | (slot.environment if slot else {})
        with self._lock, closing(slot) if slot else nullcontext():
            if self._stopping:
                return ""
            child = subprocess.Popen(
                # The last argument is for process lists: the request comes on standard input.
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "bench.orchestration.worker",
                    f"{request.kind} of {request.experiment.name}",
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | ENVIRONMENT | settings | own,
                pass_fds=slot.run_ends if slot else (),
                process_group=0,  # Ctrl-C reaches only the parent, which ends its children
            )
            self._children.add(child)
        output, was_stopped = (
            supervise(child) if supervise else (child.communicate(msgspec.json.encode(request))[0], False)
        )
        self._children.discard(child)
        if was_stopped:
            return "stopped, because it had ended on another rank"
        if child.returncode == 0 or self._stopping:
            return ""
        if request.saves_checkpoints and child.returncode in (INTERRUPTED, TERMINATED):
            raise KeyboardInterrupt if child.returncode == INTERRUPTED else Terminated
        return _failure_reason(child.returncode, output)


def _failure_reason(returncode: int, output: bytes) -> str:
    if returncode < 0:
        return f"killed by signal {-returncode}"
    try:
        return str(msgspec.json.decode(output.splitlines()[-1])["error"])
    except (msgspec.DecodeError, IndexError, KeyError, TypeError):
        return f"ended with exit code {returncode}"


def follow_rank0(coordinator: Coordinator) -> None:
    """Execute the runs that rank 0 announces, until it is done."""
    runner = Runner(Progress(0.0), coordinator)
    try:
        for start in coordinator.announced():
            runner.run_announced(start, coordinator)
    except BaseException:
        runner.stop()
        runner.wait_for_children()
        raise


def pythonpath_with_checkout() -> str:
    """Return a PYTHONPATH with the checkout, because runs start in the user's folder."""
    return os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
