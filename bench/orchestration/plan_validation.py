"""The plan held against runs here: processes of one thread each, joined by gloo, from a record of one of them."""

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

WITHIN = 0.25
ROUNDS = 2  # of the process alone: the plan begins with one, and is held against the other
MS = 1000
Popen = subprocess.Popen[bytes]


class RunFailed(Exception):  # noqa: N818 - it names what happened
    """A run of the check left nothing to hold the plan against."""


@dataclass(frozen=True, slots=True)
class Row:
    """A prediction and what was measured, in seconds of a step."""

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
        """By how much the prediction is too long, relative."""
        return (self.computed + self.sent) / self.measured - 1

    @property
    def agrees(self) -> bool:
        """Whether it is near enough."""
        return abs(self.error) <= WITHIN


def check(
    experiments: Mapping[str, Experiment], settings: Sequence[str], processes: int, results: Path
) -> tuple[Table, bool]:
    """Measure one process, as many side by side that send nothing, and as many together; predict the last.

    `experiments` are by the names that `settings` change. Raises RunFailed, and ValueError where cores
    are too few.
    """
    cores, rows, told = _cores(processes), list[Row](), list[str]()
    for name, experiment in experiments.items():
        begun = str(results.resolve() / f"{new_comparison('plan')}-{name}")  # the pictures beside it are shared
        words = ["measure", name, *(word for setting in settings for word in ("--set", setting))]
        with _measuring(words, Path(f"{begun}-alone"), cores[:1], ROUNDS) as alone:
            both = alone()
        first, again = (replace(both, runs=[run]) for run in both.runs)
        beside = _side_by_side(words, begun, cores)
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
        told.append(
            f"{name}: gloo sends {links.link / 1e9:.2f} GB/s and takes {1e6 * links.link_latency:.0f} us a step; "
            f"{processes} processes side by side that send nothing are {slower:.2f} times as slow as one alone. "
            + of_sending(rows[-1].sent_share)
        )
    return _table(rows, told), all(agree(rows, one.name) for one in experiments.values())


def agree(rows: Sequence[Row], experiment: str) -> bool:
    """Judge one experiment's three rows.

    One process, timed again, and the processes together must be as predicted from one alone; or else these as predicted
    from processes side by side: then the machine slows those that share it, which no model of communication knows.
    """
    once, alone, beside = (row for row in rows if row.experiment == experiment)
    return once.agrees and (alone.agrees or beside.agrees)


def of_sending(share: float) -> str:
    """Say what the check can find of the model of communication."""
    if share < WITHIN:
        return f"Sending is {share:.0%} of the plan: too little for its model to be wrong by here."
    return f"Sending is {share:.0%} of the plan: its model is held against the runs, too."


def _row(case: Case, basis: str, processes: int, links: Links, measured: float) -> Row:
    """Predict; nothing is hidden, for every core computes."""
    step = step_on(case, Cluster(links, overlap=0.0), processes)
    return Row(case.name, processes, basis, step.seconds - step.exposed, step.exposed, measured)


def _table(rows: Sequence[Row], told: Sequence[str]) -> Table:
    return Table(
        "The plan against runs here",
        [
            {
                "experiment": row.experiment,
                "processes": row.processes,
                "planned from": row.basis,
                "computation, ms": MS * row.computed,
                "communication, ms": MS * row.sent,
                "planned, ms": MS * (row.computed + row.sent),
                "measured, ms": MS * row.measured,
                "measured less computation, ms": MS * (row.measured - row.computed) if row.processes > 1 else None,
                "error": row.error,
                f"within {WITHIN:.0%}": "yes" if row.agrees else "no",
            }
            for row in rows
        ],
        "\n".join(told)
        + "\nOne thread and one core a process, nothing hidden. Where only the plan from processes side "
        "by side is near, the difference is what\nthe machine's shared memory and host take from processes beside each "
        "other, and not communication.",
    )


def _compute(timed: Sequence[Timed]) -> Compute:
    """Return the mean over processes, each its first run."""
    found = []
    for one in timed:
        peak = one.runs[0].peak_flops_per_second
        assert peak is not None, "a CPU's is measured"
        found.append(astuple(compute_of(one, LOSS_SHARE * peak)))
    return Compute(*map(fmean, zip(*found, strict=True)))


def _step_seconds(timed: Timed) -> float:
    run = timed.runs[0]
    return run.processes * images_per_step(timed.experiment, run) / images_per_second(timed.experiment, run)


def _cores(processes: int) -> list[int]:
    if not hasattr(os, "sched_getaffinity"):
        raise ValueError("--check binds processes to cores, which only Linux does")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < processes:
        raise ValueError(f"--check {processes} needs a core for each process, there are {len(cores)}")
    return cores[:processes]


def _side_by_side(words: Sequence[str], begun: str, cores: Sequence[int]) -> list[Timed]:
    with ExitStack() as stack:
        running = [stack.enter_context(_measuring(words, Path(f"{begun}-beside-{core}"), [core], 1)) for core in cores]
        return [timed() for timed in running]


@contextmanager
def _measuring(words: Sequence[str], results: Path, cores: Sequence[int], rounds: int) -> Iterator[Callable[[], Timed]]:
    """Start a measurement of one process a core, and give what waits for it and returns what it timed."""
    options = ["--rounds", str(rounds), "--results", str(results)]
    with _started(["bench", *words, *options], cores, subprocess.DEVNULL) as child:

        def timed() -> Timed:
            child.wait()
            records = read_records(results) if results.is_dir() else []
            speeds = [(r.measured, r.experiment, r.circumstances) for r in records if isinstance(r.measured, Speed)]
            if not speeds or speeds[0][1] is None:
                raise RunFailed(f"a run of the check: there is no speed record in {results}")
            return Timed(speeds[0][1], speeds[0][2], [run for run, _, _ in speeds])

        yield timed


def _links(size: int, cores: Sequence[int]) -> Links:
    """Time what processes on these cores can send each other, in messages of about this size."""
    with _started(["bench.plan.link_speed", str(size)], cores, subprocess.PIPE) as child:
        printed = child.communicate()[0]
    try:
        found = msgspec.json.decode(printed, type=LinkSpeed)
    except msgspec.DecodeError:
        raise RunFailed("gloo's speed could not be measured") from None
    return Links(len(cores), found.bytes_a_second, found.latency_seconds, found.bytes_a_second, found.latency_seconds)


@contextmanager
def _started(module: Sequence[str], cores: Sequence[int], output: int) -> Iterator[Popen]:
    """Run a module on some cores and no GPU, with torchrun where they are several; on the way out end all of it."""
    several = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(len(cores)), "-m"]
    command = [sys.executable, "-m", *(several if len(cores) > 1 else []), *module]
    environment = os.environ | {"PYTHONPATH": with_checkout(), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # children are bound as their parent is
    try:
        # A Ctrl-C reaches this process alone, which ends its children.
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
    """Kill a process and all that it has started, in whatever groups: halted first, so that it starts no other.

    Asked to end, torchrun would wait half a minute for processes that stand still. There is nothing to save.
    """
    process.suspend()
    for child in process.children():
        with suppress(psutil.NoSuchProcess):
            _kill_family(child)
    process.kill()
