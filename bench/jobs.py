"""Runs as child processes: started one by one or side by side, skipped where done, told apart where they fail."""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bench.progress import Progress
from bench.record import Failure, Record, write_record
from bench.worker import INTERRUPTED, Request

# numpy's BLAS threads beside torch's are many times slower than one; nothing is fetched; lines and not bars.
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}


@dataclass(frozen=True, slots=True)
class Job:
    """A run to start, what to call it, and how long it is expected to take."""

    request: Request
    label: str
    expected_seconds: float

    @property
    def is_done(self) -> bool:
        """Whether every record of the run is there."""
        return all(path.is_file() for path in self.request.paths)


@dataclass(slots=True)
class Runner:
    """Starts jobs and keeps count of what failed."""

    progress: Progress
    failures: list[str] = field(default_factory=list)
    _children: set["subprocess.Popen[bytes]"] = field(default_factory=set)
    _stopping: bool = False

    def run(self, jobs: Sequence[Job], *, lanes: int = 1, threads: int) -> None:
        """Run the jobs that are not done, so many side by side, each with so many threads.

        A job that fails is a record of its own and the others go on. An interrupt ends the children and comes through.
        """
        with ThreadPoolExecutor(lanes) as pool:
            running = [pool.submit(self._run, job, threads) for job in jobs]
            try:
                for future in as_completed(running):
                    future.result()
            except BaseException:
                self._stopping = True
                pool.shutdown(wait=False, cancel_futures=True)
                for child in list(self._children):
                    child.terminate()
                raise

    def _run(self, job: Job, threads: int) -> None:
        if not job.is_done:
            self.progress.started(job.label)
            failure_path = _failure_path(job.request)
            failure_path.unlink(missing_ok=True)
            if reason := self._start(job.request, threads):
                self.failures.append(f"{job.label}: {reason}")
                print(f"FAILED {job.label}: {reason}", file=sys.stderr, flush=True)
                _write_failure(job, reason, failure_path)
        self.progress.finished(job.expected_seconds)

    def _start(self, request: Request, threads: int) -> str | None:
        """Run a request in a fresh process; return why it failed, or None."""
        child = subprocess.Popen(
            [sys.executable, "-m", "bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": str(threads)},
            cwd=Path(__file__).parent.parent,
        )
        self._children.add(child)
        output, _ = child.communicate(msgspec.json.encode(request))
        self._children.discard(child)
        if child.returncode in (0, INTERRUPTED) or self._stopping:
            return None
        return _reason(child.returncode, output)


def _reason(returncode: int, output: bytes) -> str:
    if returncode < 0:
        return f"killed by signal {-returncode}"
    try:
        return str(msgspec.json.decode(output.splitlines()[-1])["error"])
    except (msgspec.DecodeError, IndexError, KeyError, TypeError):
        return f"ended with exit code {returncode}"


def _failure_path(request: Request) -> Path:
    path = request.paths[0]
    comparison, _, rest = path.name.partition(".")
    return path.with_name(f"{comparison}.failure.{rest}")


def _write_failure(job: Job, reason: str, path: Path) -> None:
    from bench.machine import circumstances, default_device

    request = job.request
    record = Record(
        comparison=request.comparison,
        experiment=request.experiment,
        circumstances=circumstances(request.experiment, default_device()),
        measured=Failure(what=job.label, reason=reason),
    )
    write_record(record, path)
