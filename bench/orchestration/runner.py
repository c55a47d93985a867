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

from bench.console.console import say
from bench.console.progress import Progress
from bench.console.signals import INTERRUPTED, TERMINATED, Terminated
from bench.environment.commit import CHECKOUT
from bench.orchestration.interleave import Seat, conduct
from bench.orchestration.requests import AnyRequest, FailureRequest
from bench.orchestration.torchrun import Child, Launch, Start
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
    launch: Launch | None = None
    failures: list[str] = field(default_factory=list)
    _children: set[Child] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: bool = False

    def run(self, jobs: Sequence[Job], *, lanes: int = 1, threads: int) -> None:
        """Run the jobs that are not done, `lanes` in parallel, each with so many threads.

        The failure of a job is recorded and the others continue. An interrupt ends the children and is raised here,
        also one that only a training received, which saved its state and ended.
        """
        lanes = max(1, min(lanes, len(jobs)))
        settings = {"OMP_NUM_THREADS": str(threads)} | ({"TQDM_DISABLE": "1"} if lanes > 1 else {})
        with ThreadPoolExecutor(lanes) as pool:
            running = [pool.submit(self._run, job, settings) for job in jobs]
            try:
                for future in as_completed(running):
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.stop()
                raise

    def run_in_turn(self, jobs: Sequence[Job], *, threads: int) -> None:
        """Run the jobs that are not done interleaved, one working while the others wait; under torchrun as `run`.

        All processes hold their memory at the same time. Otherwise this behaves as `run`.
        """
        if self.launch is not None:
            self.run(jobs, threads=threads)
            return
        seats = [Seat.take() for _ in jobs]
        settings = {"OMP_NUM_THREADS": str(threads)}
        with ThreadPoolExecutor(len(jobs) + 1) as pool:
            running = [
                pool.submit(self._run_seated, job, settings, seat) for job, seat in zip(jobs, seats, strict=True)
            ]
            running.append(pool.submit(conduct, seats))
            try:
                for future in as_completed(running):
                    future.result()
            except BaseException:
                self.stop()
                raise

    def carry_out(self, start: Start, launch: Launch) -> None:
        """Run this rank's part of a distributed run, and publish how it ended."""
        reason = self._start(start.request, start.settings, lambda child: launch.attend(child, start))
        launch.tell(start, reason)

    def stop(self) -> None:
        """End the children, and start no more."""
        with self._lock:
            self._stopping = True
        if self.launch is not None:
            self.launch.is_stopping = True
        for child in list(self._children):
            child.terminate()

    def await_children(self) -> None:
        """Wait for children that save their state: they die with this process."""
        for child in list(self._children):
            with suppress(subprocess.TimeoutExpired):
                child.wait(SAVING_SECONDS)

    def _run_seated(self, job: Job, settings: dict[str, str], seat: Seat) -> None:
        with closing(seat):
            self._run(job, settings, seat)

    def _run(self, job: Job, settings: dict[str, str], seat: Seat | None = None) -> None:
        if job.is_done:
            self.progress.skipped(job.expected_seconds)
            return
        self.progress.started(job.label)
        if self.launch is not None and job.request.is_of_all_ranks:
            start = self.launch.announce(job.request, settings)
            self.carry_out(start, self.launch)
            reason = self.launch.reasons(start)
        else:
            reason = self._start(job.request, settings, seat=seat)
        reason = reason or "ended without leaving its record"
        if not job.is_done and not self._stopping:
            self.failures.append(f"{job.label}: {reason}")
            say(f"FAILED {job.label}: {reason}")
            of = job.request
            failure = FailureRequest(
                results=of.results,
                comparison=of.comparison,
                experiment=of.experiment,
                label=job.label,
                reason=reason,
            )
            self._start(failure, settings)
        self.progress.finished(job.expected_seconds)

    def _start(
        self,
        request: AnyRequest,
        settings: dict[str, str],
        attend: Callable[[Child], tuple[bytes, bool]] | None = None,
        seat: Seat | None = None,
    ) -> str:
        """Run a request in a fresh process, interleaved if it has a seat; return the reason of its failure, or "".

        `attend` sends the request and returns the process's output, and whether it stopped the process.
        """
        own = {"PYTHONPATH": with_checkout(), PARENT: str(os.getpid())} | (seat.settings if seat else {})
        with self._lock, closing(seat) if seat else nullcontext():
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
                pass_fds=seat.of_run if seat else (),
                process_group=0,  # Ctrl-C reaches only the parent, which ends its children
            )
            self._children.add(child)
        output, was_stopped = attend(child) if attend else (child.communicate(msgspec.json.encode(request))[0], False)
        self._children.discard(child)
        if was_stopped:
            return "stopped, because it had ended on another rank"
        if child.returncode == 0 or self._stopping:
            return ""
        if request.saves_checkpoints and child.returncode in (INTERRUPTED, TERMINATED):
            raise KeyboardInterrupt if child.returncode == INTERRUPTED else Terminated
        return _reason(child.returncode, output)


def _reason(returncode: int, output: bytes) -> str:
    if returncode < 0:
        return f"killed by signal {-returncode}"
    try:
        return str(msgspec.json.decode(output.splitlines()[-1])["error"])
    except (msgspec.DecodeError, IndexError, KeyError, TypeError):
        return f"ended with exit code {returncode}"


def follow(launch: Launch) -> None:
    """Execute the runs that rank 0 announces, until it is done."""
    runner = Runner(Progress(0.0), launch)
    try:
        for start in launch.starts():
            runner.carry_out(start, launch)
    except BaseException:
        runner.stop()
        runner.await_children()
        raise


def with_checkout() -> str:
    """Return a PYTHONPATH with the checkout, because runs start in the user's folder."""
    return os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
