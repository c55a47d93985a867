"""Checks before a comparison begins or is resumed."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import chain
from operator import attrgetter
from pathlib import Path

import pynvml

from bench.console.console import log, require_utf8
from bench.data.manifest import CACHE, pack_cache, verify_pack
from bench.data.samples import open_samples
from bench.data.sources.shipped_pack import decode_pack
from bench.data.subset import require_subset
from bench.environment.circumstances import LOADED_EXTENSIONS, current_commit
from bench.environment.cores import LoaderWorkers, available_cores
from bench.environment.files import atomic_write
from bench.environment.gpu_settings import read_gpu_settings
from bench.environment.gpu_specs import GpuSpec, find_gpu_spec
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
from bench.experiment.settings import with_batch_size
from bench.interfaces.catalog import TASKS
from bench.interfaces.method import METHODS, check_experiment, get_method, reads_captions
from bench.labels.vocabulary import vocabulary_mismatch
from bench.orchestration.comparison import Comparison
from bench.orchestration.runner import Runner
from bench.orchestration.runs import require_multi_process_support
from bench.records.record import Failure, Record, Speed, comparisons
from bench.towers.patches import check_whole_patches
from bench.train.shared_memory import limit_workers_to_shared_memory

model_settings = attrgetter(*map(dotted_field_name, fields_with("model")))


def check(
    results: Path,
    experiments: Sequence[Experiment],
    *,
    trained: bool = False,
    may_differ: Iterable[str] = MAY_DIFFER,
    tasks: Iterable[str] = (),
    reads_data: bool = True,
) -> None:
    """Raise ValueError or OSError for what would stop the runs of experiments late; decode or index their data.

    `trained` experiments need a vocabulary of their data. `tasks` will be scored. Where no run `reads_data` of the
    experiments, their files may be gone.
    """
    require_comparable_experiments(experiments, may_differ)
    for warning in chain.from_iterable(map(check_whole_patches, experiments)):
        log(warning)
    if trained:
        for experiment in experiments:
            mismatch = vocabulary_mismatch(experiment)
            if mismatch:
                raise ValueError(mismatch)
    results = results.resolve()
    require_runnable(results, experiments, reads_data=reads_data)
    if not all(TASKS[task].layout for task in tasks):
        decode_pack(pack_cache())
    if reads_data:
        for note in prepare_data(results, experiments):
            log(note)


def begin(
    results: Path, purpose: str, experiments: Sequence[Experiment], launch: str = ""
) -> Comparison:
    """Begin a comparison of checked experiments. `launch` starts its distributed runs, such as "torchrun ..."."""
    results = results.resolve()
    return _new_comparison(
        results, reserve_comparison_name(results, purpose), experiments, Runner(launch=launch)
    )


def resume(
    results: Path,
    purpose: str,
    experiments: Sequence[Experiment],
    launch: str = "",
    *,
    name: str | None = None,
    scored: Iterable[Experiment] = (),
) -> Comparison:
    """Resume the newest comparison of a purpose, or the named one, whose failures are tried again.

    Its records may also be of the experiments in `scored`. Raises ValueError if there is none, or if its records are of
    other experiments, another commit, other extensions or another GPU.
    """
    results = results.resolve()
    if name is None:
        name = latest_comparison_name(results, purpose)
    comparison = _new_comparison(results, name, experiments, Runner(launch=launch))
    finished = [
        record for record in comparison.records() if not isinstance(record.measured, Failure)
    ]
    _require_continuable(name, finished, [*experiments, *scored], on_gpu=comparison.on_gpu)
    for failure in results.glob(f"{name}.failure.*.json"):
        failure.unlink()
    return comparison


def _new_comparison(
    results: Path, name: str, experiments: Sequence[Experiment], runner: Runner
) -> Comparison:
    cores = max(1, available_cores() // torchrun_env().local_world_size)
    return Comparison(name, results, experiments, cores, has_gpu(), runner)


def require_runnable(
    results: Path, experiments: Sequence[Experiment], *, reads_data: bool = True
) -> None:
    """Raise ValueError or OSError for experiments or a results folder that every run would refuse."""
    for experiment in experiments:
        check_experiment(experiment)
        if torchrun_env().world_size > 1:
            require_multi_process_support(experiment)
    if reads_data:
        _require_buildable(experiments)
    verify_pack()
    require_utf8(str(results))
    require_writable(results)


def prepare_data(results: Path, experiments: Sequence[Experiment]) -> list[str]:
    """Decode the pack, or index the files that experiments read, unless that was done before; return notes on them.

    Raises ValueError or OSError for data that every run would refuse.
    """
    by_data = dict[tuple[str, str | None, bool, bool], Experiment]()
    for experiment in experiments:
        inputs = experiment.input
        has_images = experiment.image.embedding_channels is None
        by_data[inputs.data, inputs.caption, has_images, reads_captions(experiment)] = experiment
    notes = dict[str, None]()
    for experiment in by_data.values():
        samples = open_samples(experiment, results / CACHE)
        if experiment.input.subset is not None:
            require_subset(experiment.input.subset, samples.keys)
        if experiment.input.workers != "auto" and not samples.is_decoded:
            limit_workers_to_shared_memory(
                experiment,
                LoaderWorkers(experiment.input.workers, ""),
                torchrun_env().local_world_size,
            )
        notes |= dict.fromkeys(f"{experiment.input.data}: {note}" for note in samples.notes())
    return [*notes]


def _require_continuable(
    name: str, records: Sequence[Record], accepted: Sequence[Experiment], *, on_gpu: bool
) -> None:
    """Raise ValueError if records are of other experiments, another commit, other extensions or another GPU."""
    for record in records:
        if record.experiment is not None and not _is_one_of(accepted, record.experiment):
            raise ValueError(
                f"{name} is of other experiments, {record.experiment.name}: begin a new comparison"
            )
        commit = record.circumstances.commit
        if commit != current_commit():
            text = f"{name} was begun at commit {commit}, this is {current_commit()}"
            raise ValueError(f"{text}: begin a new comparison")
    if any(record.circumstances.extensions != LOADED_EXTENSIONS for record in records):
        raise ValueError(
            f"{name} was begun with other extensions, or other source of them: begin a new comparison"
        )
    if on_gpu:
        _require_equal_gpu(name, records)


def _require_equal_gpu(name: str, records: Iterable[Record]) -> None:
    """Raise ValueError if timed runs were on a GPU with another driver or other settings than this machine's first."""
    try:
        here = read_gpu_settings(first_gpu_handle())
    except pynvml.NVMLError:  # records of this machine lack its settings, too
        return
    for record in records:
        if not isinstance(record.measured, Speed):
            continue
        recorded = record.circumstances.gpu
        differences = [
            f"{setting} {recorded[setting]}, not {value}"
            for setting, value in here.items()
            if recorded.get(setting, value) != value
        ]
        if differences:
            text = f"{name} has runs on a GPU with {', '.join(differences)}"
            raise ValueError(
                f"{text}: continue it on that machine, or begin a new comparison without --resume"
            )


def _is_one_of(experiments: Iterable[Experiment], recorded: Experiment) -> bool:
    """Return whether a record is of one of the experiments, with any seed, batch size and number of images."""
    training = recorded.training
    for experiment in experiments:
        if recorded.name.startswith(experiment.name):
            sized = with_batch_size(experiment, training.batch_size)
            changes = {"images": training.images, "warmup_images": training.warmup_images}
            if change(sized, seed=recorded.seed, **changes) == recorded:
                return True
    return False


def _require_buildable(experiments: Sequence[Experiment]) -> None:
    """Raise ValueError for a model, vocabulary or file of labels, keys or captions that every run would refuse.

    torch is imported to build models without weights, but not for the models of the named experiments.
    """
    checked = {
        model_settings(named) for named in EXPERIMENTS.values() if METHODS.is_built_in(named.method)
    }
    for experiment in experiments:
        settings = model_settings(experiment)
        if settings not in checked:
            checked.add(settings)
            try:
                _require_buildable_model(experiment)
            except ValueError as error:
                reason = str(error)
                text = (
                    reason if reason.startswith(experiment.name) else f"{experiment.name}: {reason}"
                )
                raise ValueError(text) from None


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
    names = comparisons(results) if results.is_dir() else []
    matching = [name for name in names if name.endswith(f"-{purpose}")]
    if not matching:
        known = f"there are {', '.join(names)}" if names else "there are no records"
        raise ValueError(f"{results} has no {purpose!r} comparison to resume ({known})")
    return matching[-1]
