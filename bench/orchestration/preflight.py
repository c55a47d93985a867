"""Checks before a comparison begins or is resumed."""

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryFile

from bench.console.console import log, require_utf8
from bench.data.manifest import CACHE, user_cache_folder, verify_pack
from bench.data.samples import open_samples
from bench.data.sources.shipped_pack import decode_pack_unless_cached
from bench.data.subset import subset_rows
from bench.environment.circumstances import LOADED_EXTENSIONS, describe_current_commit
from bench.environment.cores import count_available_cores
from bench.environment.files import make_folders_unless_in_root
from bench.environment.gpu_settings import GpuSettings, format_gpu_settings, read_gpu_settings
from bench.environment.gpus import count_usable_gpus, get_first_gpu_nvml_handle
from bench.environment.torchrun_ranks import read_torchrun_ranks
from bench.experiment.config import (
    MAY_DIFFER,
    Experiment,
    differing_values_by_field,
    dotted_field_name,
    field_names_with_role,
    require_comparable_experiments,
)
from bench.experiment.experiments import EXPERIMENTS
from bench.interfaces.catalog import TASKS
from bench.interfaces.method import METHODS, get_method, reads_captions, require_method_accepts
from bench.labels.vocabulary import explain_vocabulary_mismatch
from bench.orchestration.comparison import Comparison
from bench.orchestration.runner import Runner
from bench.orchestration.runs import require_multi_process_support
from bench.records.record import Failure, Record, list_comparison_names

get_model_settings = attrgetter(*map(dotted_field_name, field_names_with_role("model")))
# Fields in which the records of a resumed comparison may differ from its experiments.
SIZE_FIELDS = {"seed", *field_names_with_role("budget")}


def require_runnable_and_prepare_data(
    results: Path,
    experiments: Sequence[Experiment],
    *,
    will_train: bool = False,
    may_differ: Iterable[str] = MAY_DIFFER,
    tasks: Iterable[str] = (),
    reads_data: bool = True,
) -> None:
    """Raise ValueError or OSError for what would stop the runs of experiments late; decode or index their data.

    Experiments that the comparison `will_train` need a vocabulary of their data. `tasks` are the names of tasks that it
    will score. Where no run `reads_data` of the experiments, their files may be gone.
    """
    require_comparable_experiments(experiments, may_differ)
    if will_train:
        for experiment in experiments:
            mismatch = explain_vocabulary_mismatch(experiment)
            if mismatch:
                raise ValueError(mismatch)
    results = results.resolve()
    require_runnable_experiments(results, experiments, reads_data=reads_data)
    if not all(TASKS[task].layout for task in tasks):
        decode_pack_unless_cached(user_cache_folder())
    if reads_data:
        prepare_data_and_log_notes(results, experiments)


def begin_comparison(
    results: Path,
    purpose: str,
    experiments: Sequence[Experiment],
    launch: str = "",
    *,
    resume: bool = False,
    name: str | None = None,
    also_accepted: Iterable[Experiment] = (),
) -> Comparison:
    """Begin a comparison of checked experiments; `resume` continues the newest one of its purpose, `name` a named one.

    `launch` starts its distributed runs, such as "torchrun ...". Of a resumed comparison the records of failures are
    removed; the others may also be of the experiments in `also_accepted`. Raises ValueError if there is none to resume,
    or if its records are of other experiments, another commit or other extensions, or timed on another device or with
    other settings of the GPU.
    """
    results = results.resolve()
    if resume:
        name = latest_comparison_name(results, purpose)
    elif name is None:
        name = reserve_comparison_name(results, purpose)
    # The cores that this process shares with no other process of a torchrun.
    cores = max(1, count_available_cores() // read_torchrun_ranks().local_world_size)
    comparison = Comparison(name, results, experiments, cores, has_gpu(), Runner(launch=launch))
    accepted = [*experiments, *also_accepted]
    for record in comparison.records():
        if not isinstance(record.measured, Failure):
            reason = _reason_not_resumable(record, accepted)
            if reason:
                raise ValueError(f"{name} {reason}: begin a new comparison without --resume")
    for failure in results.glob(f"{name}.failure.*.json"):
        failure.unlink()
    return comparison


def require_runnable_experiments(
    results: Path, experiments: Sequence[Experiment], *, reads_data: bool = True
) -> None:
    """Raise ValueError or OSError for experiments or a results folder that every run would refuse."""
    for experiment in experiments:
        require_method_accepts(experiment)
        if read_torchrun_ranks().world_size > 1:
            require_multi_process_support(experiment)
        if reads_data:
            _require_model_and_files(experiment)
    verify_pack()
    require_utf8(str(results))
    require_writable(results)


def prepare_data_and_log_notes(results: Path, experiments: Sequence[Experiment]) -> None:
    """Decode the pack, or index the files that experiments read, unless that was done before; log notes on them.

    Raises ValueError or OSError for data that every run would refuse.
    """
    by_data = {}
    for experiment in experiments:
        image = experiment.image
        key = (experiment.input, image.input_embedding_grid_channels, reads_captions(experiment))
        by_data[key] = experiment
    notes = dict[str, None]()
    for experiment in by_data.values():
        samples = open_samples(experiment, results / CACHE)
        subset_rows(experiment.input.subset, experiment.seed, samples.keys)
        notes |= dict.fromkeys(f"{experiment.input.data}: {note}" for note in samples.notes())
    for note in notes:
        log(note)


def _reason_not_resumable(record: Record, accepted: Iterable[Experiment]) -> str | None:
    """Return the reason why the comparison of a record cannot be continued here."""
    where = record.circumstances
    experiment = record.experiment
    if experiment is not None:
        named = [candidate for candidate in accepted if candidate.name == experiment.name]
        differences = [differing_values_by_field([candidate, experiment]) for candidate in named]
        if not any(fields.keys() <= SIZE_FIELDS for fields in differences):
            return f"is of other experiments, {experiment.name}"
    if where.commit != describe_current_commit():
        return f"was begun at commit {where.commit}, this is {describe_current_commit()}"
    if where.extensions != LOADED_EXTENSIONS:
        return "was begun with other extensions, or other source of them"
    if record.measured.is_timed:
        settings: GpuSettings = {"device": "cpu"}
        if has_gpu():
            settings = {"device": "cuda", **read_gpu_settings(get_first_gpu_nvml_handle())}
        recorded = {"device": where.device, **where.gpu}
        if recorded | settings != recorded:  # records hold further settings of torch
            return f"has runs with {format_gpu_settings(recorded)}, not {format_gpu_settings(settings)}"
    return None


def _require_model_and_files(experiment: Experiment) -> None:
    """Raise ValueError for a model, vocabulary or file of labels that every run would refuse.

    torch is imported to build models without weights, but not for the models of the named experiments.
    """
    settings = get_model_settings(experiment)
    if not any(
        get_model_settings(named) == settings
        for named in EXPERIMENTS.values()
        if METHODS.is_built_in(named.method)
    ):
        from bench.measure.costs import build_tower_and_model_on_meta

        try:
            build_tower_and_model_on_meta(experiment)
        except (ValueError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - open_clip, timm and torch document no exceptions for bad sizes
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ValueError(f"{experiment.name}: the model cannot be built: {reason}") from None
        get_method(experiment.method).require_inputs(experiment)
    if not METHODS.is_built_in(experiment.method):
        from bench.measure.method_checks import require_working_method

        require_working_method(experiment)


def require_writable(results: Path) -> None:
    """Raise OSError if records cannot be written to the folder."""
    try:
        make_folders_unless_in_root(results)
        with TemporaryFile(dir=results):
            pass
    except OSError as error:
        raise OSError(f"the results folder {results} cannot be written: {error.strerror}") from None


def has_gpu() -> bool:
    """Return whether runs will use a GPU."""
    return count_usable_gpus() > 0


def reserve_comparison_name(results: Path, purpose: str) -> str:
    """Name a comparison by its start time and its purpose; of several begun in one second, all but one wait."""
    results.mkdir(parents=True, exist_ok=True)
    while True:
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{purpose}"
        try:
            (results / f".{name}.begun").touch(exist_ok=False)
        except FileExistsError:
            time.sleep(0.1)
        else:
            return name


def latest_comparison_name(results: Path, purpose: str) -> str:
    """Return the newest comparison of a purpose; ValueError lists the comparisons that exist."""
    names = list_comparison_names(results) if results.is_dir() else []
    matching = [name for name in names if name.endswith(f"-{purpose}")]
    if not matching:
        raise ValueError(
            f"{results} has no {purpose!r} comparison to resume (there are: {', '.join(names)})"
        )
    return matching[-1]
