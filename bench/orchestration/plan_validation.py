"""Validation of a plan on this machine: runs of one-thread processes with gloo, predicted from one process."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from statistics import fmean

import msgspec
import psutil

from bench.config import Experiment
from bench.console.tables import Table
from bench.measure.throughput import images_per_second, images_per_step
from bench.orchestration.comparison import new_comparison
from bench.orchestration.runner import with_checkout
from bench.plan.collectives import BUCKET, FP32, Links
from bench.plan.link_speed import LinkSpeed
from bench.plan.model import LOSS_SHARE, Case, Cluster, Compute, step_on
from bench.plan.records import Timed, compute_of
from bench.plan.workload import needs_of
from bench.record import Speed, read_records

WITHIN = 0.25  # largest relative error of a valid prediction
ROUNDS = 2  # of the single process: one is the basis of the plan, the other is predicted
MS = 1000
Popen = subprocess.Popen[bytes]


class RunFailed(Exception):  # noqa: N818 - it names the event
    """A run of the validation left no result."""


@dataclass(frozen=True, slots=True)
class Row:
    """A predicted and a measured step, in seconds."""

    experiment: str
    processes: int
    basis: str
    computed: float
    sent: float
    measured: float

    @property
    def sent_share(self) -> float:
        """Share of the prediction that is communication."""
        return self.sent / (self.computed + self.sent)

    @property
    def error(self) -> float:
        """The relative error of the prediction."""
        return (self.computed + self.sent) / self.measured - 1

    @property
    def agrees(self) -> bool:
        """Whether the error is within the tolerance."""
        return abs(self.error) <= WITHIN


def check(
    experiments: Mapping[str, Experiment], settings: Sequence[str], processes: int, results: Path
) -> tuple[Table, bool]:
    """Measure one process, then processes side by side without communication, then together; predict the last.

    `experiments` are by the names that `settings` change. Raises RunFailed, and ValueError if there are too few cores.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise ValueError("--check binds processes to cores, which needs Linux")
    cores, rows, notes = sorted(os.sched_getaffinity(0))[:processes], list[Row](), list[str]()
    if len(cores) < processes:
        raise ValueError(f"--check {processes} needs a core for each process, and {len(cores)} are available")
    for name, experiment in experiments.items():
        begun = str(results.resolve() / f"{new_comparison('plan')}-{name}")  # the cached images beside it are shared
        words = ["measure", name, *(word for setting in settings for word in ("--set", setting))]
        with _measuring(words, Path(f"{begun}-alone"), cores[:1], ROUNDS) as alone:
            both = alone()
        first, again = (replace(both, runs=[run]) for run in both.runs)
        with ExitStack() as stack:
            folders = {core: Path(f"{begun}-beside-{core}") for core in cores}
            running = [stack.enter_context(_measuring(words, path, [core], 1)) for core, path in folders.items()]
            beside = [timed() for timed in running]
        weights = needs_of(experiment).weights
        links = _links(min(FP32 * weights.trained, BUCKET), cores)
        with _measuring(words, Path(f"{begun}-together"), cores, 1) as together:
            taken = _step_seconds(together())
        case = Case(experiment.name, weights, _compute([first]), experiment.mean_batch_size, experiment.sharding)
        shared = replace(case, compute=_compute(beside))
        rows += [
            _row(case, "one alone", 1, links, _step_seconds(again)),
            _row(case, "one alone", processes, links, taken),
            _row(shared, f"{processes} side by side", processes, links, taken),
        ]
        slower = rows[-1].computed / rows[-2].computed
        speed = f"{links.link / 1e9:.2f} GB/s and {1e6 * links.link_latency:.0f} us per ring step"
        notes.append(
            f"{name}: gloo reaches {speed}; {processes} processes side by side without communication are {slower:.2f} "
            f"times as slow as one alone. {of_sending(rows[-1].sent_share)}"
        )
    return _table(rows, notes), all(agree(rows, one.name) for one in experiments.values())


def agree(rows: Sequence[Row], experiment: str) -> bool:
    """Return whether the three rows of one experiment validate the plan.

    A repeated single process must be as predicted, and the processes together as predicted from one alone or from
    processes side by side. In the latter case sharing the machine slows the processes, which is no communication.
    """
    once, alone, beside = (row for row in rows if row.experiment == experiment)
    return once.agrees and (alone.agrees or beside.agrees)


def of_sending(share: float) -> str:
    """Describe how far the validation tests the communication model."""
    if share < WITHIN:
        return f"Communication is {share:.0%} of the prediction: too little to test its model."
    return f"Communication is {share:.0%} of the prediction, so its model is tested, too."


def _row(case: Case, basis: str, processes: int, links: Links, measured: float) -> Row:
    """Predict a step without overlap, because every core computes."""
    step = step_on(case, Cluster(links, overlap=0.0), processes)
    return Row(case.name, processes, basis, step.seconds - step.exposed, step.exposed, measured)


def _table(rows: Sequence[Row], notes: Sequence[str]) -> Table:
    columns = [
        {
            "experiment": row.experiment,
            "processes": row.processes,
            "basis": row.basis,
            "computation, ms": MS * row.computed,
            "communication, ms": MS * row.sent,
            "predicted, ms": MS * (row.computed + row.sent),
            "measured, ms": MS * row.measured,
            "measured less computation, ms": MS * (row.measured - row.computed) if row.processes > 1 else None,
            "error": row.error,
            f"within {WITHIN:.0%}": "yes" if row.agrees else "no",
        }
        for row in rows
    ]
    note = (
        "One thread and one core per process, no overlap. If only the prediction from processes side by side agrees,\n"
        "the difference is contention for shared memory and host, not communication."
    )
    return Table("Predicted and measured steps", columns, "\n".join([*notes, note]))


def _compute(timed: Sequence[Timed]) -> Compute:
    """Return the mean of the processes' first runs."""
    found = []
    for one in timed:
        peak = one.runs[0].peak_flops_per_second
        assert peak is not None, "a CPU's is measured"
        found.append(astuple(compute_of(one, LOSS_SHARE * peak)))
    return Compute(*map(fmean, zip(*found, strict=True)))


def _step_seconds(timed: Timed) -> float:
    run = timed.runs[0]
    return run.processes * images_per_step(timed.experiment, run) / images_per_second(timed.experiment, run)


@contextmanager
def _measuring(words: Sequence[str], results: Path, cores: Sequence[int], rounds: int) -> Iterator[Callable[[], Timed]]:
    """Start a measurement of one process per core; yield a function that waits for it and returns its runs."""
    options = ["--rounds", str(rounds), "--results", str(results)]
    with _started(["bench", *words, *options], cores, subprocess.DEVNULL) as child:

        def timed() -> Timed:
            child.wait()
            records = read_records(results) if results.is_dir() else []
            speeds = [(r.measured, r.experiment, r.circumstances) for r in records if isinstance(r.measured, Speed)]
            if not speeds or speeds[0][1] is None:
                raise RunFailed(f"a run of the validation left no speed record in {results}")
            return Timed(speeds[0][1], speeds[0][2], [run for run, _, _ in speeds])

        yield timed


def _links(size: int, cores: Sequence[int]) -> Links:
    """Measure gloo's bandwidth and latency between processes on these cores, for messages of about `size` bytes."""
    with _started(["bench.plan.link_speed", str(size)], cores, subprocess.PIPE) as child:
        printed = child.communicate()[0]
    try:
        found = msgspec.json.decode(printed, type=LinkSpeed)
    except msgspec.DecodeError:
        raise RunFailed("gloo's speed could not be measured") from None
    return Links(len(cores), found.bytes_a_second, found.latency_seconds, found.bytes_a_second, found.latency_seconds)


@contextmanager
def _started(module: Sequence[str], cores: Sequence[int], output: int) -> Iterator[Popen]:
    """Run a module on some cores without GPUs, under torchrun if several; kill all its processes at the block's end."""
    several = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(len(cores)), "-m"]
    command = [sys.executable, "-m", *(several if len(cores) > 1 else []), *module]
    environment = os.environ | {"PYTHONPATH": with_checkout(), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # children are bound as their parent is
    try:
        # SIGINT reaches this process alone, which ends its children.
        child = subprocess.Popen(command, stdout=output, env=environment, process_group=0)
    finally:
        os.sched_setaffinity(0, own)
    try:
        yield child
    finally:
        if child.poll() is None:
            _kill_family(psutil.Process(child.pid))
        child.wait()


def _kill_family(process: psutil.Process) -> None:
    """Kill a process and its descendants in all groups, each stopped first so that it starts no other.

    SIGTERM would let torchrun wait half a minute for stalled processes; there is nothing to save.
    """
    process.suspend()
    for child in process.children():
        with suppress(psutil.NoSuchProcess):
            _kill_family(child)
    process.kill()
