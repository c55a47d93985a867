"""Checks before a comparison begins or is resumed."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import chain
from operator import attrgetter
from pathlib import Path

import pynvml

from bench.console.console import log, require_utf8
from bench.console.progress import Progress
from bench.data.caption_lengths import WEB, read_first_captions
from bench.data.manifest import CACHE, pack_cache, verify_pack
from bench.data.samples import open_samples
from bench.data.sources.shipped_pack import decode_pack
from bench.data.subset import is_key_file, read_keys, require_subset
from bench.environment.circumstances import LOADED_EXTENSIONS, current_commit
from bench.environment.cores import LoaderWorkers, available_cores
from bench.environment.files import atomic_write
from bench.environment.gpu_settings import read_gpu_settings
from bench.environment.gpu_specs import GB, GPU_SPECS, GpuSpec, find_gpu_spec
from bench.environment.gpus import count_gpus, first_gpu_handle
from bench.environment.rank_info import torchrun_env
from bench.experiment.config import (
    MAY_DIFFER,
    Experiment,
    change,
    dotted_field_name,
    fields_with,
    require_comparable_experiments,
)
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.fields import PACK_DATA
from bench.experiment.settings import with_batch_size
from bench.interfaces.catalog import TASKS
from bench.interfaces.method import METHODS, check_experiment, get_method, reads_captions
from bench.labels.vocabulary import vocabulary_mismatch
from bench.orchestration.comparison import Comparison
from bench.orchestration.pace import TWO_CORES, GpuPace, Pace
from bench.orchestration.runner import Runner
from bench.orchestration.scope import Scope
from bench.orchestration.step_trial import has_tiny_tower, measure_pace, recorded_pace
from bench.orchestration.torchrun import connect_coordinator
from bench.records.record import Failure, Record, Speed, comparisons
from bench.towers.patches import check_whole_patches
from bench.train.shared_memory import limit_workers_to_shared_memory

model_settings = attrgetter(*map(dotted_field_name, fields_with("model")))
LARGE_GPU_BYTES = 40 * GB
SLOWEST_GPU = min(
    (one for one in GPU_SPECS.values() if one.memory_bytes >= LARGE_GPU_BYTES), key=attrgetter("bf16_flops")
)


def open_comparison(
    results: Path,
    experiments: Sequence[Experiment],
    scope: Scope,
    *,
    resume: bool = False,
    name: str | None = None,
    trained: bool = True,
    may_differ: Iterable[str] = MAY_DIFFER,
    scored: Iterable[Experiment] = (),
    tasks: Iterable[str] = (),
    reads_data: bool = True,
    pace: Pace | None = None,
    may_measure_pace: bool = False,
) -> Comparison:
    """Check conditions that would stop a long run late, then begin a comparison, or resume the newest or the named one.

    A resumed comparison may also contain transfer records of the experiments in `scored`. `tasks` will be scored. Where
    no run `reads_data` of the experiments, their files may be gone. Durations are predicted from `pace`, by default
    that of `machine_pace`. A comparison on a CPU that is not named takes it from its records, or times a few steps
    first, if it `may_measure_pace`.
    """
    require_comparable_experiments(experiments, may_differ)
    for warning in chain.from_iterable(map(check_whole_patches, experiments)):
        log(warning)
    for one in experiments if trained else ():
        if reason := vocabulary_mismatch(one):
            raise ValueError(reason)
    results = results.resolve()
    require_runnable(results, experiments, reads_data=reads_data)
    is_named = name is not None
    name = name or (
        latest_comparison_name(results, scope.name) if resume else reserve_comparison_name(results, scope.name)
    )
    on_gpu, own_cores = has_gpu(), max(1, available_cores() // torchrun_env().local_world_size)
    runner = Runner(Progress(0.0), connect_coordinator())
    comparison = Comparison(name, results, experiments, own_cores, on_gpu, runner, pace or machine_pace())
    finished = [record for record in comparison.records() if not isinstance(record.measured, Failure)]
    _require_continuable(name, finished, [*experiments, *scored], on_gpu=on_gpu)
    if not all(TASKS[task].layout for task in tasks):
        decode_pack(pack_cache())
    for note in prepare_data(results, experiments) if reads_data else ():
        log(note)
    has_known_pace = on_gpu or runner.coordinator is not None or has_tiny_tower(experiments[0].image)
    if may_measure_pace and not is_named and not has_known_pace:
        recorded = recorded_pace(finished, experiments[0])
        comparison.pace = recorded or measure_pace(experiments[0], results, own_cores)
    runner.progress = Progress(comparison.expected_seconds(scope, trained=trained))
    for failure in results.glob(f"{name}.failure.*.json"):
        failure.unlink()  # the run is repeated
    return comparison


def require_runnable(results: Path, experiments: Sequence[Experiment], *, reads_data: bool = True) -> None:
    """Raise ValueError or OSError for experiments or a results folder that every run would refuse."""
    for experiment in experiments:
        check_experiment(experiment)
    _require_multi_process_support(experiments)
    if reads_data:
        _require_buildable(experiments)
    verify_pack()
    require_utf8(str(results))
    require_writable(results)


def prepare_data(results: Path, experiments: Sequence[Experiment]) -> list[str]:
    """Decode the pack, or index the files that experiments read, unless that was done before; return notes on them.

    Raises ValueError or OSError for data that every run would refuse.
    """
    by_data = {
        (one.input.data, one.input.caption, one.image.embedding_channels is None, reads_captions(one)): one
        for one in experiments
    }
    notes = dict[str, None]()
    for experiment in by_data.values():
        samples = open_samples(experiment, results / CACHE)
        if experiment.input.subset is not None:
            require_subset(experiment.input.subset, samples.keys)
        if experiment.input.workers != "auto" and not samples.is_decoded:
            limit_workers_to_shared_memory(
                experiment, LoaderWorkers(experiment.input.workers, ""), torchrun_env().local_world_size
            )
        notes |= dict.fromkeys(f"{experiment.input.data}: {note}" for note in samples.notes())
    return [*notes]


def _require_continuable(name: str, records: Sequence[Record], accepted: Sequence[Experiment], *, on_gpu: bool) -> None:
    """Raise ValueError if records are of other experiments, another commit, other extensions or another GPU."""
    others = {one.experiment.name for one in records if one.experiment and not _is_one_of(accepted, one.experiment)}
    if others:
        raise ValueError(f"{name} is of other experiments, {', '.join(sorted(others))}: begin a new comparison")
    if other := {record.circumstances.commit for record in records} - {current_commit()}:
        text = f"{name} was begun at commit {', '.join(other)}, this is {current_commit()}"
        raise ValueError(f"{text}: begin a new comparison")
    if any(record.circumstances.extensions != LOADED_EXTENSIONS for record in records):
        raise ValueError(f"{name} was begun with other extensions, or other source of them: begin a new comparison")
    if on_gpu:
        _require_equal_gpu(name, records)


def _require_equal_gpu(name: str, records: Iterable[Record]) -> None:
    """Raise ValueError if timed runs were on a GPU with another driver or other settings than this machine's first."""
    try:
        here = read_gpu_settings(first_gpu_handle())
    except pynvml.NVMLError:  # records of this machine lack its settings, too
        return
    for where in (one.circumstances for one in records if isinstance(one.measured, Speed)):
        recorded = {what: where.gpu.get(what, value) for what, value in here.items()}
        if differing := [
            f"{what} {value}, not {here[what]}" for what, value in recorded.items() if value != here[what]
        ]:
            text = f"{name} has runs on a GPU with {', '.join(differing)}"
            raise ValueError(f"{text}: continue it on that machine, or begin a new comparison without --resume")


def _is_one_of(experiments: Iterable[Experiment], recorded: Experiment) -> bool:
    """Return whether a record is of one of the experiments, with any seed and batch size."""
    named = (one for one in experiments if recorded.name.startswith(one.name))
    sized = (with_batch_size(one, recorded.training.batch_size) for one in named)
    return any(change(one, seed=recorded.seed) == recorded for one in sized)


def _require_multi_process_support(experiments: Sequence[Experiment]) -> None:
    ranks, per_node = torchrun_env().world_size, torchrun_env().local_world_size
    for one in experiments if ranks > 1 else ():
        if one.runtime.sharding == "hsdp" and ranks % per_node:
            raise ValueError(
                f"{one.name}: sharding=hsdp needs equally many processes on every node, got {ranks} of all"
            )
        if one.runtime.sharding != "ddp" and one.optimizer.ema_decay is not None:
            raise ValueError(f"{one.name}: ema_decay needs sharding=ddp: averages of shards are not supported")
        if one.runtime.sharding != "ddp" and one.optimizer.log_grad_norm:
            raise ValueError(f"{one.name}: log_grad_norm needs sharding=ddp: norms of shards are not supported")
        if one.runtime.simulated_global_batch is not None:
            raise ValueError(f"{one.name}: simulated_global_batch needs one process: several exchange their captions")
        if one.training.accumulation > 1:
            raise ValueError(f"{one.name}: accumulation needs one process: several would all-reduce every micro-batch")


def _require_buildable(experiments: Sequence[Experiment]) -> None:
    """Raise ValueError for a model, vocabulary or file of labels, keys or captions that every run would refuse.

    torch is imported to build models without weights, but not for the models of the named experiments.
    """
    named = {model_settings(one) for one in EXPERIMENTS.values() if METHODS.is_built_in(one.method)}
    for one in {model_settings(one): one for one in experiments if model_settings(one) not in named}.values():
        try:
            _require_buildable_model(one)
        except ValueError as error:
            raise ValueError(str(error) if str(error).startswith(one.name) else f"{one.name}: {error}") from None
    for subset in filter(is_key_file, {one.input.subset for one in experiments}):
        read_keys(Path(subset))
    for file, caption in {(one.input.caption_lengths, one.input.caption) for one in experiments}:
        if file not in (PACK_DATA, WEB):
            read_first_captions(file, caption)


def _require_buildable_model(experiment: Experiment) -> None:
    from bench.measure.costs import build_on_meta

    try:
        build_on_meta(experiment)
    except (ValueError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - open_clip, timm and torch document no exceptions for bad sizes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"the model cannot be built: {reason}") from None
    get_method(experiment.method).check_inputs(experiment)


def require_writable(results: Path) -> None:
    """Raise OSError if records cannot be written to the folder."""
    try:
        with atomic_write(results / ".writable") as temporary:  # as every record is
            temporary.touch()
        (results / ".writable").unlink(missing_ok=True)
    except OSError as error:
        raise OSError(f"the results folder {results} cannot be written: {error.strerror}") from None


def has_gpu() -> bool:
    """Return whether runs will use a GPU."""
    return count_gpus() > 0


def find_machine_gpu() -> GpuSpec | None:
    """Return the data-sheet values of the first visible GPU; None without a GPU, or for one without a known sheet."""
    return find_gpu_spec(pynvml.nvmlDeviceGetName(first_gpu_handle())) if has_gpu() else None


def machine_pace() -> Pace:
    """Return the pace of this machine's GPU, of an unknown one that of the slowest large one; else of two cores."""
    return GpuPace(gpu=find_machine_gpu() or SLOWEST_GPU) if has_gpu() else TWO_CORES


def reserve_comparison_name(results: Path, purpose: str) -> str:
    """Name a comparison by its start time and its purpose; of several begun in one second each has one of its own.

    A file of the name reserves it, also for hosts whose clock is behind: it is removed by a comparison that begins an
    hour later. The others take the next seconds.
    """
    results.mkdir(parents=True, exist_ok=True)
    start = datetime.now(UTC)
    for earlier in results.glob(f".{'[0-9]' * 8}T{'[0-9]' * 6}-*.begun"):
        if earlier.name < f".{start - timedelta(hours=1):%Y%m%dT%H%M%S}":
            with suppress(OSError):
                earlier.unlink()
    while True:
        name = f"{start:%Y%m%dT%H%M%S}-{purpose}"
        with suppress(FileExistsError):
            (results / f".{name}.begun").touch(exist_ok=False)
            return name
        start += timedelta(seconds=1)


def latest_comparison_name(results: Path, purpose: str) -> str:
    """Return the newest comparison of a purpose; ValueError lists the comparisons that exist."""
    found = comparisons(results) if results.is_dir() else []
    if not (matching := [name for name in found if name.endswith(f"-{purpose}")]):
        there = f"there are {', '.join(found)}" if found else "there are no records"
        raise ValueError(f"{results} has no {purpose!r} comparison to resume ({there})")
    return matching[-1]
