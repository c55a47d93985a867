"""Validation of a plan on this machine: runs of one-thread processes with gloo, predicted from one process."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from statistics import fmean

from bench.environment.child_processes import kill_at_end
from bench.experiment.config import Experiment
from bench.features.plan.collectives import FP32_BYTES, Interconnect
from bench.features.plan.model import LOSS_SHARE, Cluster, ComputeProfile, PlanCase, plan_step
from bench.features.plan.records import TimedRuns, measured_compute
from bench.features.plan.workload import count_communicated_parameters
from bench.measure.throughput import images_per_second, images_per_step
from bench.orchestration.preflight import reserve_comparison_name
from bench.orchestration.runner import pythonpath_with_checkout
from bench.orchestration.torchrun import Child
from bench.records.record import DDP_BUCKET_BYTES, LinkSpeed, Speed, read_record, read_records, record_path
from bench.tables.tables import Table

TOLERANCE = 0.25  # largest relative error of a valid prediction
ROUNDS = 2  # of the single process: one is the basis of the plan, the other is predicted
MS, MICRO, GB = 1000, 1e-6, 1e9


class RunFailedError(Exception):
    """A run of the validation left no result."""


@dataclass(frozen=True, slots=True)
class StepValidation:
    """A predicted and a measured step, in seconds."""

    experiment: str
    processes: int
    basis: str
    compute_seconds: float
    comm_seconds: float
    measured_seconds: float

    @property
    def predicted_seconds(self) -> float:
        """The predicted step."""
        return self.compute_seconds + self.comm_seconds

    @property
    def comm_share(self) -> float:
        """Share of the prediction that is communication."""
        return self.comm_seconds / self.predicted_seconds

    @property
    def error(self) -> float:
        """The relative error of the prediction."""
        return self.predicted_seconds / self.measured_seconds - 1

    @property
    def agrees(self) -> bool:
        """Whether the error is within the tolerance."""
        return abs(self.error) <= TOLERANCE


def validate_locally(
    experiments: Mapping[str, Experiment], settings: Sequence[str], processes: int, results: Path
) -> tuple[Table, bool]:
    """Measure one process, then processes side by side without communication, then together; predict the last.

    `experiments` are by the names that `settings` change. Raises RunFailedError, and ValueError if there are too few
    cores.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise ValueError("--validate-local binds processes to cores, which needs Linux")
    cores, rows, notes = sorted(os.sched_getaffinity(0))[:processes], list[StepValidation](), list[str]()
    if len(cores) < processes:
        raise ValueError(f"--validate-local {processes} needs a core for each process, and {len(cores)} are available")
    for name, experiment in experiments.items():
        # the cached images beside it are shared
        folder = str(results.resolve() / f"{reserve_comparison_name(results, 'plan')}-{name}")
        words = ["measure", name, *(word for setting in settings for word in ("--set", setting))]
        with _start_measurement(words, Path(f"{folder}-alone"), cores[:1], ROUNDS) as wait_for_runs:
            alone = wait_for_runs()
        first, repeated = (replace(alone, runs=[run]) for run in alone.runs)
        with ExitStack() as stack:
            waits = [
                stack.enter_context(_start_measurement(words, Path(f"{folder}-beside-{core}"), [core], 1))
                for core in cores
            ]
            side_by_side = [wait_for_runs() for wait_for_runs in waits]
        weights = count_communicated_parameters(experiment)
        message_bytes = min(FP32_BYTES * weights.trained, DDP_BUCKET_BYTES)
        links = _record_link(message_bytes, cores, Path(f"{folder}-link"))
        with _start_measurement(words, Path(f"{folder}-together"), cores, 1) as wait_for_runs:
            joint_seconds = _measured_step_seconds(wait_for_runs())
        compute = _mean_compute_seconds([first])
        case = PlanCase(experiment.name, weights, compute, experiment.mean_batch_size, experiment.runtime.sharding)
        shared = replace(case, compute=_mean_compute_seconds(side_by_side))
        rows += [
            _validate_step(case, "one alone", 1, links, _measured_step_seconds(repeated)),
            _validate_step(case, "one alone", processes, links, joint_seconds),
            _validate_step(shared, f"{processes} side by side", processes, links, joint_seconds),
        ]
        slowdown = rows[-1].compute_seconds / rows[-2].compute_seconds
        speed, delay = links.link_bytes_per_second / GB, links.link_latency_seconds / MICRO
        notes.append(
            f"{name}: gloo reaches {speed:.2f} GB/s and {delay:.0f} us per ring step; {processes} processes side by "
            f"side without communication are {slowdown:.2f} times as slow as one alone. "
            f"{describe_communication_check(rows[-1].comm_share)}"
        )
    return _validation_table(rows, notes), all(is_plan_validated(rows, one.name) for one in experiments.values())


def is_plan_validated(rows: Sequence[StepValidation], experiment: str) -> bool:
    """Return whether the three rows of one experiment validate the plan.

    A repeated single process must be as predicted, and the processes together as predicted from one alone or from
    processes side by side. In the latter case sharing the machine slows the processes, which is no communication.
    """
    repeated, from_alone, from_side_by_side = (row for row in rows if row.experiment == experiment)
    return repeated.agrees and (from_alone.agrees or from_side_by_side.agrees)


def describe_communication_check(share: float) -> str:
    """Describe how far the validation tests the communication model."""
    conclusion = ": too little to test its model" if share < TOLERANCE else ", so its model is tested, too"
    return f"Communication is {share:.0%} of the prediction{conclusion}."


def _validate_step(case: PlanCase, basis: str, processes: int, links: Interconnect, measured: float) -> StepValidation:
    """Predict a step without overlap, because every core computes."""
    step = plan_step(case, Cluster(links, overlap=0.0), processes)
    return StepValidation(
        case.name, processes, basis, step.seconds - step.exposed_seconds, step.exposed_seconds, measured
    )


def _validation_table(rows: Sequence[StepValidation], notes: Sequence[str]) -> Table:
    columns = [
        {
            "experiment": row.experiment,
            "processes": row.processes,
            "basis": row.basis,
            "computation, ms": MS * row.compute_seconds,
            "communication, ms": MS * row.comm_seconds,
            "predicted, ms": MS * row.predicted_seconds,
            "measured, ms": MS * row.measured_seconds,
            "measured less computation, ms": MS * (row.measured_seconds - row.compute_seconds)
            if row.processes > 1
            else None,
            "error": row.error,
            f"within {TOLERANCE:.0%}": "yes" if row.agrees else "no",
        }
        for row in rows
    ]
    note = (
        "One thread and one core per process, no overlap. If only the prediction from processes side by side agrees,\n"
        "the difference is contention for shared memory and host, not communication."
    )
    return Table.of_figures("Predicted and measured steps", columns, "\n".join([*notes, note]))


def _mean_compute_seconds(timed: Sequence[TimedRuns]) -> ComputeProfile:
    """Return the mean of the processes' first runs."""
    seconds = []
    for process in timed:
        peak = process.runs[0].peak_flops_per_second
        assert peak is not None, "a CPU's is measured"
        seconds.append(astuple(measured_compute(process, LOSS_SHARE * peak)))
    return ComputeProfile(*map(fmean, zip(*seconds, strict=True)))


def _measured_step_seconds(timed: TimedRuns) -> float:
    run = timed.runs[0]
    return run.processes * images_per_step(timed.experiment, run) / images_per_second(timed.experiment, run)


@contextmanager
def _start_measurement(
    words: Sequence[str], results: Path, cores: Sequence[int], rounds: int
) -> Iterator[Callable[[], TimedRuns]]:
    """Start a measurement of one process per core; yield a function that waits for it and returns its runs."""
    options = ["--rounds", str(rounds), "--results", str(results)]
    with _start_module(["bench", *words, *options], cores) as child:

        def wait_for_runs() -> TimedRuns:
            child.wait()
            records = read_records(results) if results.is_dir() else []
            speeds = [(r.measured, r.experiment, r.circumstances) for r in records if isinstance(r.measured, Speed)]
            if not speeds or speeds[0][1] is None:
                raise RunFailedError(f"a run of the validation left no speed record in {results}")
            return TimedRuns(speeds[0][1], speeds[0][2], [run for run, _, _ in speeds])

        yield wait_for_runs


def _record_link(message_bytes: int, cores: Sequence[int], folder: Path) -> Interconnect:
    """Record the link between processes on these cores, for messages of about `message_bytes`."""
    path = record_path(folder, reserve_comparison_name(folder, "link"), "link", len(cores))
    with _start_module(["bench.measure.link_speed", str(message_bytes), str(path)], cores) as child:
        child.wait()
    if not path.is_file():
        raise RunFailedError("the speed of gloo could not be measured")
    link = read_record(path).measured
    assert isinstance(link, LinkSpeed)
    assert link.bytes_per_second is not None
    assert link.latency_seconds is not None
    return Interconnect(len(cores), *2 * (link.bytes_per_second, link.latency_seconds))


@contextmanager
def _start_module(module: Sequence[str], cores: Sequence[int]) -> Iterator[Child]:
    """Run a module in a process per core without GPUs; kill all its processes at the block's end."""
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(len(cores)), "-m"]
    command = [sys.executable, "-m", *(torchrun if len(cores) > 1 else []), *module]
    settings = {"PYTHONPATH": pythonpath_with_checkout(), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    own_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # children are bound as their parent is
    try:
        # SIGINT reaches this process alone, which ends its children.
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | settings, process_group=0)
    finally:
        os.sched_setaffinity(0, own_cores)
    with kill_at_end(child):
        yield child
