"""Runs as child processes: started one by one or side by side, skipped where done, told apart where they fail."""

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

# numpy's BLAS threads beside torch's are many times slower than one. OpenMP's threads spin while they wait for each
# other, by default so long that a busy neighbour halves the speed of all. glibc hands every freed tensor back to the
# kernel and faults in new pages, small ones: kept, and in huge pages, clip-tiny runs 15 % faster, peaks 10 % lower, and
# the spread between its runs falls from 12 to 3 % (ten runs each, interleaved, two cores). Nothing is fetched.
KEEP_FREED = {"hugetlb": 1, "mmap_threshold": 1 << 30, "trim_threshold": 1 << 34, "top_pad": 1 << 26}
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "GOMP_SPINCOUNT": "10000",
    "GLIBC_TUNABLES": ":".join(f"glibc.malloc.{name}={value}" for name, value in KEEP_FREED.items()),
    "HF_HUB_OFFLINE": "1",
}

SAVING_SECONDS = 25.0  # that a child is left to save; torchrun kills after 30


@dataclass(frozen=True, slots=True)
class Job:
    """A run to start, what to call it, and how long it is expected to take."""

    request: AnyRequest
    label: str
    expected_seconds: float

    @property
    def is_done(self) -> bool:
        """Whether every record of the run is there."""
        return all(path.is_file() for path in self.request.paths)


@dataclass(slots=True)
class Runner:
    """Starts jobs and keeps count of what failed. Under torchrun all ranks start those that are theirs together."""

    progress: Progress
    launch: Launch | None = None
    failures: list[str] = field(default_factory=list)
    _children: set[Child] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: bool = False

    def run(self, jobs: Sequence[Job], *, lanes: int = 1, threads: int) -> None:
        """Run the jobs that are not done, so many side by side, each with so many threads.

        A job that fails is a record of its own and the others go on. An interrupt ends the children and comes through,
        as does one that came to a training alone, which saved and ended; a training that is to save is waited for.
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
        """Run the jobs that are not done side by side, one at work while the others wait; under torchrun as `run`.

        As `run` otherwise. All of their processes hold their memory at once.
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
        """Run this rank's part of what all ranks start, and tell them how it ended."""
        reason = self._start(start.request, start.settings, lambda child: launch.attend(child, start))
        launch.tell(start, reason)

    def stop(self) -> None:
        """End the children, and start no others."""
        with self._lock:
            self._stopping = True
        if self.launch is not None:
            self.launch.is_stopping = True
        for child in list(self._children):
            child.terminate()

    def await_children(self) -> None:
        """Let children that were told to end save what they have: they die with this process."""
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
        """Run a request in a fresh process, which takes turns where it has a seat; return why it failed, or nothing.

        `attend` hands the request over and returns what was printed, and whether it stopped the process.
        """
        own = {"PYTHONPATH": with_checkout(), PARENT: str(os.getpid())} | (seat.settings if seat else {})
        with self._lock, closing(seat) if seat else nullcontext():
            if self._stopping:
                return ""
            child = subprocess.Popen(
                # The last argument is for those who list processes: the request comes on standard input.
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
                process_group=0,  # a Ctrl-C reaches the parent alone, which ends its children
            )
            self._children.add(child)
        output, was_stopped = attend(child) if attend else (child.communicate(msgspec.json.encode(request))[0], False)
        self._children.discard(child)
        if was_stopped:
            return "stopped, for it had ended on another rank"
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
    """Do what rank 0 announces, until it is done."""
    runner = Runner(Progress(0.0), launch)
    try:
        for start in launch.starts():
            runner.carry_out(start, launch)
    except BaseException:
        runner.stop()
        runner.await_children()
        raise


def with_checkout() -> str:
    """Let runs import the checkout from wherever a person is: paths are read from there."""
    return os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
