"""The child process: one run, described on standard input, leaves its records.

Fresh for every run, so that no run inherits another's memory, caches or luck.
"""

import ctypes
import hashlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from bench.catalog import DEFAULT_PROTOCOLS, RANDOM_TOWER, REFERENCE_TOWER, TASKS, UNTRAINED_TOWER, scorings
from bench.config import Experiment, Keeping
from bench.console.console import printable, say
from bench.console.signals import INTERRUPTED, Stop, stoppable
from bench.environment.files import written_whole
from bench.environment.rank_info import place
from bench.environment.slots import await_turn
from bench.ladder import Ladder
from bench.record import Failure, Record, record_path, write_record
from bench.train.checkpoints import alone
from bench.train.not_finite import NotFiniteError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from bench.record import Measured, Training

Kind = Literal["speed", "memory", "fit", "trace", "peer", "training", "embedding", "scoring", "failure", "ladder"]
TOGETHER: tuple[Kind, ...] = ("speed", "memory", "fit", "trace", "training")  # what all ranks of a torchrun start
PARENT = "CATLIP_BENCH_PARENT"  # the environment's variable with the number of the process that starts runs
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to run, and which comparison its records belong to."""

    kind: Kind
    results: str
    comparison: str
    experiment: Experiment
    round: int = 0
    limit_bytes: int = 0  # of a fit
    side: str = ""  # of a race with a peer
    file: str = ""  # of an embedding: where the features go
    budgets: dict[str, int] = {}  # of a training: images by the budget's name
    keeping: Keeping | None = None  # of a training that leaves checkpoints
    # Of a scoring: tower files (behind "reference:" a ceiling's, behind "untrained:" only their kind), "random tower"
    # (the experiment's), "raw pixels", ...
    subjects: tuple[str, ...] = ()
    tasks: tuple[str, ...] = TASKS  # that they are scored on
    ladder: Ladder | None = None  # what the runs of an explanation are, written before them
    protocols: tuple[str, ...] = DEFAULT_PROTOCOLS  # that they are scored by
    root: str = ""  # the folder of the tasks that lie on disk
    # Of a failure: the job that failed, and why.
    label: str = ""
    reason: str = ""
    meeting: str = ""  # where the processes of a run of several meet; each has this request

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where the run's records lie once it is done."""
        run = (self.experiment.name, f"seed{self.experiment.seed}")
        if self.kind == "failure":
            return (self._path(self.kind, self.label),)
        if self.kind == "trace":
            return (self._path(self.kind, *run).with_suffix(".json.gz"),)
        if self.kind == "embedding":
            return (Path(self.file),)
        if self.kind == "peer":
            return (self._path(self.kind, *run, self.side, f"round{self.round:02}"),)
        if self.kind == "scoring":
            return tuple(path for subject in self.subjects for *_, path in self.scorings(subject))
        return (self._path(self.kind, *run, *([f"round{self.round:02}"] if self.kind == "speed" else [])),)

    def scorings(self, subject: str) -> list[tuple[str, str, Path]]:
        """Return the tasks and protocols that a subject is scored by, and where each leaves its record."""
        return [
            (task, protocol, self._path("transfer", *self._subject_names(subject), task, protocol))
            for task, protocol in scorings(subject, self.tasks, self.protocols)
        ]

    def tower_path(self, images: int) -> Path:
        """Where a training leaves the tower that has seen so many images."""
        run = (self.experiment.name, f"seed{self.experiment.seed}", images)
        return self._path("tower", *run).with_suffix(".safetensors")

    def _path(self, *names: object) -> Path:
        return record_path(Path(self.results), self.comparison, *map(str, names))

    def _subject_names(self, subject: str) -> tuple[str, ...]:
        if subject == RANDOM_TOWER:
            return ("random-tower", self.experiment.name, f"seed{self.experiment.seed}")
        if not subject.endswith(".safetensors"):
            return (subject.replace(" ", "-"),)
        role = next((one for one in (REFERENCE_TOWER, UNTRAINED_TOWER) if subject.startswith(one)), "")
        path, own = Path(subject.removeprefix(role)), f"{self.comparison}.tower."
        names = path.stem.removeprefix(own).split(".")
        if not path.name.startswith(own):  # files of several folders may have one name
            names.append(hashlib.sha256(str(path).encode()).hexdigest()[:8])
        return (role.removesuffix(":"), *names) if role else tuple(names)


def carry_out(request: Request, stop: Stop | None = None) -> None:
    """Run, and write a record for each path of the request that has none yet; of several processes rank 0 does.

    A training that leaves checkpoints looks at `stop`, and may end the process by SystemExit.
    """
    from bench.environment.machine import default_device
    from bench.train.distributed import joined

    with joined(request.meeting, default_device()) as device, _keeping_samples(request):
        _carry_out(request, device, stop)


@contextmanager
def _keeping_samples(request: Request) -> Iterator[None]:
    """Leave the keys of a step that is not finite in a file of this rank, a line each; the error then names it."""
    try:
        yield
    except NotFiniteError as error:
        path = request.paths[0].with_suffix(f".rank{place().rank}.samples.txt")
        with written_whole(path) as temporary:
            temporary.write_text("".join(f"{printable(key)}\n" for key in error.keys), encoding="utf-8")
        raise NotFiniteError(error.step, error.keys, path.name) from error


def _die_with_parent() -> None:
    """End with the process that started this one: nobody waits for this run any more. Linux; elsewhere it goes on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(os.environ[PARENT]):  # it has died already
            sys.exit(1)


def _carry_out(request: Request, device: "torch.device", stop: Stop | None) -> None:
    experiment, results, write = request.experiment, Path(request.results), _writer(request, device)
    match request.kind:
        case "speed":
            from bench.measure.speed import measure_speed

            write(measure_speed(experiment, device, results, request.round), request.paths[0])
        case "memory":
            from bench.measure.memory import measure_memory

            write(measure_memory(experiment, device, results), request.paths[0])
        case "fit":
            _try_fit(request, results, device, write)
        case "trace":
            from bench.measure.speed import trace

            trace(experiment, device, results, request.paths[0])
        case "peer":
            from bench.reference.runs import run_side

            write(run_side(experiment, device, results, request.side, request.round), request.paths[0])
        case "training":
            write(_train(request, results, device, stop), request.paths[0])
        case "embedding":
            from bench.towers.stored_features import write_features

            write_features(experiment, device, results, request.paths[0])
        case "scoring":
            _score_each(request, results, device, write)
        case "failure" | "ladder":
            failure = Failure(what=request.label, reason=request.reason)
            write(request.ladder if request.kind == "ladder" else failure, request.paths[0])


def _writer(request: Request, device: "torch.device") -> "Callable[..., None]":
    """Return what writes a record of what was measured; of several processes rank 0 has the word, or `by_any`."""
    from bench.environment.machine import circumstances

    experiment, is_first = request.experiment, not request.meeting or place().rank == 0
    processes = place().ranks if request.meeting else 1

    def write(measured: "Measured", path: Path, of: Experiment | None = experiment, *, by_any: bool = False) -> None:
        if is_first or by_any:
            where = circumstances(None if request.kind == "scoring" else experiment, device, processes)
            record = Record(comparison=request.comparison, experiment=of, circumstances=where, measured=measured)
            write_record(record, path)

    return write


def _try_fit(request: Request, results: Path, device: "torch.device", write: "Callable[..., None]") -> None:
    """Write whether a batch fits; one that does not fit one rank's device fits none's."""
    from bench.measure.memory import measure_fit

    try:
        fit = measure_fit(request.experiment, device, results, request.limit_bytes)
    except Exception:
        if request.paths[0].is_file():  # another rank has told that it does not fit, and has left
            sys.exit(1)
        raise
    write(fit, request.paths[0], by_any=not fit.fits)
    if request.meeting and not fit.fits:
        sys.exit(1)  # without a word to the others: they are in the midst of a step, and wait for this rank there


def _train(request: Request, results: Path, device: "torch.device", stop: Stop | None) -> "Training":
    from bench.train.loop import train

    experiment, budgets, keeping = request.experiment, request.budgets, request.keeping
    if keeping is None or stop is None:
        return train(experiment, device, results, budgets, request.tower_path)
    from bench.train.checkpoint_manager import Keeper

    with alone(Path(keeping.folder)) if place().rank == 0 else nullcontext():
        keeper = Keeper(keeping, request.comparison, budgets, stop)
        return train(experiment, device, results, budgets, request.tower_path, keeper)


def _score_each(request: Request, results: Path, device: "torch.device", write: "Callable[..., None]") -> None:
    """Write what has no record yet; a scoring that fails does not stop the others, but for one that lacks memory."""
    from bench.transfer.score import open_subject, scored
    from bench.transfer.tasks.named_tasks import task_named

    failed = list[str]()
    for name in request.subjects:
        left = [scoring for scoring in request.scorings(name) if not scoring[-1].is_file()]
        if not left:
            continue
        with noting(failed, name):
            subject = open_subject(name, request.experiment, device)
            for task, protocol, path in left:
                with noting(failed, f"{name}, {protocol} on {task}"):
                    write(scored(subject, task_named(task, results, request.root), protocol), path, subject.experiment)
    if failed:
        raise RuntimeError("; ".join(failed))


@contextmanager
def noting(failed: list[str], what: str) -> Iterator[None]:
    """Add to a list what fails, and go on behind the block; out of memory ends the process.

    A process in which oneDNN ran out of memory never computes again, so that everything after it would fail, too.
    """
    from bench.measure.memory_limit import is_out_of_memory

    try:
        yield
    except Exception as error:
        failed.append(f"{what}: {type(error).__name__}: {error}")
        if is_out_of_memory(error):
            raise RuntimeError("; ".join(failed)) from error


def main() -> None:
    """Carry out the request on standard input; on standard output leave nothing, or why it failed as JSON."""
    try:
        request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
        if request.meeting or not request.keeping:  # else it saves first
            _die_with_parent()
        await_turn()
        with stoppable() if request.keeping else nullcontext() as stop:  # before torch is imported: that takes seconds
            carry_out(request, stop)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the parent is told, and the terminal
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
        for line in traceback.format_exc().splitlines():
            say(line)
        sys.exit(1)


if __name__ == "__main__":
    main()
