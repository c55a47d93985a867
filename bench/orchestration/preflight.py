"""What is checked before a comparison begins, and how one is taken up again."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import pynvml
from msgspec.structs import replace

from bench.config import MAY_DIFFER, PACK_DATA, Experiment, at_batch_size, require_one_comparison
from bench.console.progress import Progress
from bench.data.manifest import CACHE, PARTS, cache_path, verify_pack
from bench.data.shards.shards import shards_for, tell
from bench.environment.commit import CHECKOUT, commit
from bench.environment.rank_info import place
from bench.orchestration.comparison import Comparison, Scope, new_comparison, newest_comparison
from bench.orchestration.runner import Runner
from bench.orchestration.torchrun import launch
from bench.record import Failure

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def begin(
    results: Path,
    experiments: Sequence[Experiment],
    scope: Scope,
    *,
    resume: bool = False,
    name: str | None = None,
    trained: bool = True,
    may_differ: Iterable[str] = MAY_DIFFER,
    scored: Iterable[Experiment] = (),
) -> Comparison:
    """Check what would stop a long run late, then begin a comparison or take up the newest, or the one of a name.

    What is taken up may hold records of towers of the experiments `scored`, too.
    """
    require_one_comparison(experiments, may_differ)
    _require_spreadable(experiments)
    verify_pack()
    results = results.resolve()
    _require_writable(results)
    name = name or (newest_comparison(results, scope.name) if resume else new_comparison(scope.name))
    on_gpu, own_cores = has_gpu(), max(1, cores() // place().local_ranks)
    comparison = Comparison(name, results, experiments, own_cores, on_gpu, Runner(Progress(0.0), launch()))
    comparison.runner.progress.expect(comparison.expected_seconds(scope, trained=trained))
    finished = [record for record in comparison.records() if not isinstance(record.measured, Failure)]
    own = [*experiments, *scored]
    others = {one.experiment.name for one in finished if one.experiment and not _is_one_of(own, one.experiment)}
    if others:
        raise ValueError(f"{name} is of other experiments, {', '.join(sorted(others))}: begin a new comparison")
    if other := {record.circumstances.commit for record in finished} - {commit()}:
        raise ValueError(f"{name} was begun at commit {', '.join(other)}, this is {commit()}: begin a new comparison")
    _share_pictures(results.parent / CACHE, results / CACHE)
    _decode_pictures(results / CACHE)
    read = {(one.data, one.embedding_channels is None): one for one in experiments if one.data != PACK_DATA}
    for experiment in read.values():
        tell(shards_for(experiment, results / CACHE))
    for failure in results.glob(f"{name}.failure.*.json"):
        failure.unlink()  # it is tried again
    return comparison


def _is_one_of(experiments: Iterable[Experiment], recorded: Experiment) -> bool:
    """Tell whether a record is of one of the experiments, with any seed and at any batch."""
    named = (one for one in experiments if recorded.name.startswith(one.name))
    sized = (at_batch_size(one, recorded.batch_size) for one in named)
    return any(replace(one, seed=recorded.seed) == recorded for one in sized)


def _require_spreadable(experiments: Sequence[Experiment]) -> None:
    for one in experiments:
        if place().ranks > 1 and one.sharding == "fsdp2" and one.ema_decay is not None:
            raise ValueError(f"{one.name}: ema_decay needs sharding=ddp: an average of shards is not kept")
        if place().ranks > 1 and one.simulated_batch is not None:
            raise ValueError(f"{one.name}: simulated_batch needs one process: several have each other's captions")
        if place().ranks > 1 and one.accumulation > 1:
            raise ValueError(
                f"{one.name}: accumulation needs one process: several would exchange every part's gradients"
            )


def _share_pictures(theirs: Path, ours: Path) -> None:
    """Link to pictures that are decoded in the folder above: the results of one training share those of all."""
    for part in PARTS:
        there, here = cache_path(part, theirs), cache_path(part, ours)
        if there.is_file() and not here.is_file():
            ours.mkdir(exist_ok=True)
            with suppress(OSError):  # another file system, or another's files: they are decoded here
                here.hardlink_to(there)


def _decode_pictures(cache: Path) -> None:
    """Decode the pack in a process of its own, where it has not been: no run's memory or time is spent on it."""
    if not all(cache_path(part, cache).is_file() for part in PARTS):
        print("decoding the pack's pictures, once", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "bench.data.pack", str(cache)], cwd=CHECKOUT, check=True)


def _require_writable(results: Path) -> None:
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results):
            pass
    except OSError as error:
        raise OSError(f"the results folder {results} cannot be written: {error.strerror}") from None


def cores() -> int:
    """Return how many cores this process may run on: those it is bound to, or a container's quota where it is less."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = CGROUP_QUOTA.read_text().split() if CGROUP_QUOTA.is_file() else ["max"]
    return bound if quota[0] == "max" else max(1, min(bound, int(quota[0]) // int(quota[1])))


def has_gpu() -> bool:
    """Tell whether NVML knows a GPU."""
    try:
        pynvml.nvmlInit()
        return bool(pynvml.nvmlDeviceGetCount() > 0)
    except pynvml.NVMLError:
        return False
