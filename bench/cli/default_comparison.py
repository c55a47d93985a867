"""The stages of the default comparison. No torch here: runs are separate processes."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from bench.cli.default import DefaultComparison
from bench.cli.measure import (
    format_report_command,
    print_timed_results_and_get_exit_code,
    speed_and_memory_tables,
)
from bench.cli.options import DataOptions
from bench.cli.own_vocabulary import with_vocabularies_counted_into_files
from bench.cli.transfer import choose_tasks_and_protocols, require_openable_disk_tasks_and_towers
from bench.console.console import log
from bench.console.options import MINUTES_RANGE, require_option_in_range
from bench.environment.files import atomic_write
from bench.experiment.config import Experiment, change, look_up
from bench.experiment.experiments import (
    DEFAULT_METHODS,
    EXPERIMENTS,
    HEADLINE_METHODS,
    METHOD_SETTINGS,
)
from bench.experiment.fields import WITHOUT_HELD_OUT_CONCEPTS
from bench.experiment.settings import renamed_with_settings
from bench.orchestration.comparison import Comparison
from bench.orchestration.preflight import (
    begin_comparison,
    has_gpu,
    require_runnable_and_prepare_data,
    require_writable,
)
from bench.orchestration.scope import ComparisonScope, make_scopes_by_name
from bench.orchestration.stages import RemainingStageTimes, fit_scope_to_time
from bench.tables.formats import format_count_with_noun
from bench.transfer.terminal_tables import make_transfer_tables

DEFAULT_MINUTES = 12.0
SCALE = "-tiny"  # end of the names of the compared experiments
# Of timed runs of the smoke test.
SHORT = {"untimed_steps": 2, "timed_windows": 2, "steps_per_window": 2}


def run_default_comparison(options: DefaultComparison) -> int:
    """Run a comparison of methods at the tiny scale, and print its tables; return the exit code."""
    start = time.monotonic()
    name = options.scope_name
    require_option_in_range("minutes", options.minutes, *MINUTES_RANGE)
    methods: Sequence[str] = HEADLINE_METHODS if options.smoke else DEFAULT_METHODS
    if options.methods is not None:
        methods = options.methods.split(",")
    experiments = tiny_experiments(methods)
    require_writable(options.results.resolve())
    scope = make_scopes_by_name(on_gpu=has_gpu())[name]
    if options.tasks or options.score_on is not None:
        tasks, root, _ = choose_tasks_and_protocols(options.tasks, options.score_on)
        require_openable_disk_tasks_and_towers(options.results, root, tasks)
        scope = replace(scope, tasks=tuple(tasks), root=root)
    experiments = prepare_data_and_vocabularies(experiments, options, options.results)
    if options.smoke:
        experiments = [change(experiment, **SHORT) for experiment in experiments]
    require_runnable_and_prepare_data(
        options.results, experiments, will_train=True, tasks=scope.tasks
    )
    comparison = begin_comparison(options.results, name, experiments, resume=options.resume)
    comparison.measure_memory()
    comparison.measure_speed(range(1))
    times = comparison.estimate_remaining_stage_times()
    if times is not None:  # else a run of the first round failed
        seconds = 60 * (options.minutes or DEFAULT_MINUTES) - (time.monotonic() - start)
        is_limit = options.minutes is not None
        scope = plan_remaining_stages(comparison, scope, times, seconds, is_limit=is_limit)
    comparison.measure_speed(range(1, scope.rounds))
    comparison.train_towers(scope)
    comparison.score_trained_towers(scope)
    tables = [*speed_and_memory_tables(comparison), *make_transfer_tables(comparison.records())]
    return print_timed_results_and_get_exit_code(comparison, tables)


def tiny_experiments(method_names: Sequence[str]) -> list[Experiment]:
    """Return the tiny experiments of methods, named with or without "-tiny"; ValueError suggests the nearest name."""
    experiments = dict[str, Experiment]()
    for name in method_names:
        method = name.strip().removesuffix(SCALE)
        look_up(method, METHOD_SETTINGS, "method")
        experiments[method] = EXPERIMENTS[f"{method}{SCALE}"]
    return list(experiments.values())


def plan_remaining_stages(
    comparison: Comparison,
    scope: ComparisonScope,
    times: RemainingStageTimes,
    expected_seconds_left: float,
    *,
    is_limit: bool,
) -> ComparisonScope:
    """Return the scope of the stages after the first round: the default scope is fitted to the seconds that are left.

    It is kept in a file, so that a resumed comparison has the same, and logged. ValueError if the seconds are a limit
    into which the smallest scope does not fit.
    """
    path = comparison.results / f".{comparison.name}.stages"
    if path.is_file():
        planned = msgspec.json.decode(path.read_bytes(), type=ComparisonScope)
        scope = replace(planned, tasks=scope.tasks, root=scope.root)
    elif scope.name == "default":
        scope = fit_scope_to_time(scope, expected_seconds_left, times.expected_seconds_left)
    needed_seconds = times.expected_seconds_left(scope)
    minutes = math.ceil(needed_seconds / 60)
    if is_limit and needed_seconds > expected_seconds_left and not path.is_file():
        raise ValueError(
            f"--minutes is too short: the smallest comparison that answers takes {minutes} more minutes here; "
            f"continue with --resume --minutes {minutes + 1}, or draw the finished runs with: "
            f"{format_report_command(comparison.results)}"
        )
    with atomic_write(path) as temporary:
        temporary.write_bytes(msgspec.json.encode(scope))
    seeds = format_count_with_noun(len(scope.seeds), "seed")
    trainings = f"{seeds} of {scope.images:,} images for each method"
    log(f"planned: {scope.rounds} rounds of speed, {trainings}: about {minutes} min left")
    comparison.runner.progress.set_remaining_seconds(needed_seconds)
    return scope


def prepare_data_and_vocabularies(
    experiments: Sequence[Experiment], options: DataOptions, results: Path
) -> list[Experiment]:
    """Return the experiments on the pack without the held-out concepts, or on the data that are given.

    Vocabularies are counted from these data's captions. Large JPEGs are decoded at a fraction of their size, because
    the tiny towers look at 48 pixels.
    """
    settings = options.format_data_settings()
    experiments = [renamed_with_settings(experiment, settings) for experiment in experiments]
    if options.data is None:
        return [change(experiment, subset=WITHOUT_HELD_OUT_CONCEPTS) for experiment in experiments]
    reduced = [change(experiment, jpeg_decoding="reduced") for experiment in experiments]
    return with_vocabularies_counted_into_files(reduced, results)
