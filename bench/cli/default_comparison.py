"""The stages of the default comparison. No torch here: runs are separate processes."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.cli.measure import cost_tables, finish_timed
from bench.cli.options import add_caption_settings
from bench.cli.own_vocabulary import with_counted_vocabularies
from bench.cli.transfer import choose_tasks_root_and_protocols, require_openable_tasks
from bench.console.console import log
from bench.console.options import MINUTES_RANGE, require_range
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import COMPARED, EXPERIMENTS, HEADLINE
from bench.experiment.fields import SEEN_CONCEPTS
from bench.experiment.settings import with_settings
from bench.orchestration.budgets import set_images
from bench.orchestration.comparison import Comparison
from bench.orchestration.preflight import begin, check, has_gpu, require_writable, resume
from bench.orchestration.scope import Scope, scopes
from bench.orchestration.stages import MAX_IMAGES, fit_stages
from bench.records.record import Record, Speed, Training
from bench.tables.formats import pluralize
from bench.transfer.terminal_tables import transfer_tables

DEFAULT_MINUTES = 12.0
IMAGES = {"default": MAX_IMAGES, "full": 320_000, "smoke": 2_048}  # of each training, by scope


def run_default(
    scope_name: str,
    results: Path,
    *,
    minutes: float | None,
    data: str | None,
    caption: str | None,
    root: Path | None,
    tasks: Sequence[str],
    is_resumed: bool,
) -> int:
    """Run a comparison of the methods at the tiny scale, and print its tables; return the exit code."""
    start = time.monotonic()
    is_smoke = scope_name == "smoke"
    if scope_name != "default" and minutes is not None:
        raise ValueError(
            f"--minutes plans the default comparison: leave out --{scope_name} or --minutes"
        )
    require_range("minutes", minutes, *MINUTES_RANGE)
    require_writable(results.resolve())
    methods = HEADLINE if is_smoke else COMPARED
    scope = scopes(on_gpu=has_gpu())[scope_name]
    if tasks or root is not None:
        chosen_tasks, task_root, _ = choose_tasks_root_and_protocols(tasks, root)
        require_openable_tasks(results, task_root, chosen_tasks)
        scope = replace(scope, tasks=tuple(chosen_tasks), root=task_root)
    experiments = [
        set_images(experiment, IMAGES[scope.name])
        for experiment in on_data(
            [EXPERIMENTS[f"{method}-tiny"] for method in methods], data, caption, results
        )
    ]
    if is_smoke:
        experiments = [
            change(experiment, warmup_steps=2, windows=2, steps_per_window=2)
            for experiment in experiments
        ]
    check(results, experiments, trained=True, tasks=scope.tasks)
    comparison = (resume if is_resumed else begin)(results, scope.name, experiments)
    comparison.measure_memory()
    comparison.measure(1)
    scope, images, later_seconds = plan_later_stages(comparison, scope, minutes, start)
    comparison.measure(scope.rounds, first_round=1, later_seconds=later_seconds)
    comparison.train(scope, images)
    comparison.score(scope)
    tables = [*cost_tables(comparison), *transfer_tables(comparison.records())]
    return finish_timed(comparison, tables)


def plan_later_stages(
    comparison: Comparison, scope: Scope, minutes: float | None, start: float
) -> tuple[Scope, int, float]:
    """Return the scope, the images of each training, and the expected seconds of training and scoring.

    Only the default scope is fitted to a time.
    """
    images = IMAGES[scope.name]
    times = comparison.stage_times()
    if times is None:
        return scope, images, 0.0
    if scope.name == "default":
        seconds = 60 * (DEFAULT_MINUTES if minutes is None else minutes) - (
            time.monotonic() - start
        )
        scope, trained_images = keep_trained(comparison.records(), scope)
        scope, images = fit_stages(scope, seconds, times.seconds_left, trained_images)
    left = times.seconds_left(scope, images)
    trainings = f"{pluralize(len(scope.seeds), 'seed')} of {images:,} images for each method"
    log(
        f"planned: {scope.rounds} rounds of speed, {trainings}: about {max(1, round(left / 60))} min left"
    )
    comparison.runner.progress.expect(left)
    return scope, images, times.later_seconds(scope, images)


def keep_trained(records: Sequence[Record], scope: Scope) -> tuple[Scope, int | None]:
    """Return the scope with the rounds and at least the seeds of a resumed comparison, and the images of its trainings.

    Before the first training has ended, nothing is kept, and the images are None.
    """
    images = None
    last_round = 0
    last_seed = 0
    for record in records:
        if isinstance(record.measured, Speed):
            last_round = max(last_round, record.measured.round)
        elif isinstance(record.measured, Training) and record.experiment is not None:
            images = record.experiment.training.images
            last_seed = max(last_seed, record.experiment.seed)
    if images is None:
        return scope, None
    return replace(scope, rounds=last_round + 1, seeds=tuple(range(last_seed + 1))), images


def on_data(
    experiments: Sequence[Experiment], data: str | None, caption: str | None, results: Path
) -> list[Experiment]:
    """Return the experiments on the pack without the held-out concepts, or on the shards that are given.

    Vocabularies are counted from the shards' captions. Large JPEGs are decoded at a fraction of their size, because the
    tiny towers look at 48 pixels.
    """
    settings = add_caption_settings([] if data is None else [f"data={data}"], None, caption)
    of_data = [with_settings(experiment, settings) for experiment in experiments]
    if data is None:
        return [change(experiment, subset=SEEN_CONCEPTS) for experiment in of_data]
    reduced = [change(experiment, jpeg_decoding="reduced") for experiment in of_data]
    return with_counted_vocabularies(reduced, results)
