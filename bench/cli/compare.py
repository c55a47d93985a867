"""The verbs that compare experiments. No torch here: runs are separate processes."""

import dataclasses
import math
import os
import shlex
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import ClassVar

import psutil
from tyro.conf import Positional

from bench.cli.options import (
    Caption,
    CaptionLengths,
    Data,
    Json,
    Labels,
    MaxMinutes,
    Measurements,
    Results,
    Root,
    Rounds,
    Settings,
    Tasks,
    VocabularyFile,
    Yes,
    add_caption_settings,
    experiments_from,
    option_arguments,
    print_results,
    require_confirmed,
    set_deadline,
)
from bench.cli.own_vocabulary import require_no_other_vocabulary, with_counted_vocabularies
from bench.cli.transfer import choose_tasks_root_and_protocols, require_openable_tasks
from bench.console.console import PROGRAM, log
from bench.console.options import MINUTES_RANGE, ROUNDS_RANGE, require_range
from bench.console.progress import Progress
from bench.experiment.config import FIELDS, MAY_DIFFER, MAY_DIFFER_AT_LARGEST_BATCH, Experiment, change
from bench.experiment.experiments import COMPARED, EXPERIMENTS, HEADLINE
from bench.experiment.fields import PACK_DATA, SEEN_CONCEPTS
from bench.experiment.settings import with_settings
from bench.interfaces.measurement import get_measurement
from bench.labels.vocabulary import vocabulary_mismatch
from bench.measure.comparison_records import group_named
from bench.measure.figures import figure_tables
from bench.measure.ranks import find_slow_ranks, rank_table
from bench.measure.speed_tables import (
    largest_batch_table,
    memory_and_size_table,
    phase_table,
    throughput_table,
    with_differences,
)
from bench.measure.tables import batch_trial_table
from bench.measure.throughput import throughputs_by_round
from bench.measure.windows import describe_busy_processes, describe_waits
from bench.orchestration.budgets import set_images
from bench.orchestration.comparison import Comparison
from bench.orchestration.pace import Pace
from bench.orchestration.preflight import (
    has_gpu,
    latest_comparison_name,
    open_comparison,
    require_runnable,
    require_writable,
)
from bench.orchestration.runner import expected_job_seconds
from bench.orchestration.scope import Scope, default_rounds, scopes
from bench.orchestration.trial import DEFAULT_MINUTES, MAX_PACE_RATIO, plan_default, run_trial
from bench.records.record import read_records
from bench.tables.formats import GIB
from bench.tables.tables import Table
from bench.transfer.terminal_tables import transfer_tables

FULL_IMAGES, SMOKE_IMAGES = 320_000, 2_048
LONGEST = 1.25  # times the planned time, by which the comparison should end on a machine that became slower


@dataclass(frozen=True, slots=True)
class Bench:
    """Compare the methods at the tiny scale: throughput, memory, training at equal budgets, transfer accuracy.

    A short trial run shows how many images and seeds fit into the time. Records are stored in the results folder;
    `catlip-bench report build` draws the page from them.
    """

    # time for the comparison (default: 12), planned by a trial run; on a CPU it includes two repeated rounds
    minutes: float | None = None
    smoke: bool = False  # check of all stages with CLIP and CatLIP, in 90 s; its figures mean nothing
    full: bool = False  # three seeds and longer training, with intervals over seeds and test images
    data: Data = None
    caption: Caption = None
    root: Root = None
    tasks: Tasks = ()
    resume: bool = False  # resume the newest comparison of this scope; recorded runs are not repeated
    results: Results = Path("results")

    purpose: ClassVar[str] = "compare"

    @property
    def resume_hint(self) -> str:
        """The resume command, or that of the start where no run is finished."""
        under_nox = "NOX_CURRENT_SESSION" in os.environ  # its environment is not that of the person's shell
        program, options = "nox -s bench --" if under_nox else PROGRAM, option_arguments(self, "resume")
        if not self._has_records():
            return f"no run is finished; start again with: {program} {shlex.join(options)}".rstrip()
        return f"finished records are kept; resume with: {program} {shlex.join(['--resume', *options])}"

    def _has_records(self) -> bool:
        """Return whether this comparison has a record: the newest, if this process began it or resumes it."""
        started = datetime.fromtimestamp(psutil.Process().create_time(), UTC)
        with suppress(ValueError):
            newest = latest_comparison_name(self.results, self._scope_name)
            return self.resume or newest >= f"{started:%Y%m%dT%H%M%S}"
        return False

    def run(self) -> int:
        """Measure speed and memory, train, and score the towers."""
        if self._scope_name != "default" and self.minutes is not None:
            raise ValueError(f"--minutes plans the default comparison: leave out --{self._scope_name} or --minutes")
        require_range("minutes", self.minutes, *MINUTES_RANGE)
        require_writable(self.results.resolve())
        recorded = self._recorded_images_and_num_seeds() if self.resume and self._scope_name == "default" else (None, 1)
        methods = HEADLINE if self.smoke else COMPARED
        scope = self._with_tasks(scopes(on_gpu=has_gpu())[self._scope_name])
        experiments = self._on_data([EXPERIMENTS[f"{method}-tiny"] for method in methods])
        if self._scope_name == "default":
            return self._run_planned(experiments, scope, *recorded)
        if self.smoke:
            shorter = {"warmup_steps": 2, "windows": 2, "steps_per_window": 2}
            experiments = [change(set_images(one, SMOKE_IMAGES), **shorter) for one in experiments]
        if self.full:
            experiments = [set_images(experiment, FULL_IMAGES) for experiment in experiments]
        return _finish(self._compare(experiments, scope))

    def _run_planned(
        self, experiments: Sequence[Experiment], scope: Scope, images: int | None, least_seeds: int
    ) -> int:
        """Plan by a trial run, with these images and at least so many seeds; end with what twice the time allows."""
        minutes, start = DEFAULT_MINUTES if self.minutes is None else self.minutes, time.monotonic()
        log("a trial run comes first, to plan the comparison")
        with tempfile.TemporaryDirectory() as folder:
            trial, pace = run_trial(Path(folder), experiments[0], self.results)
        if trial.runner.failures:
            log("the trial run failed: planned as for two cores")
        plan = plan_default(experiments, scope, pace, minutes, images, least_seeds, time.monotonic() - start)
        is_more = plan.expected_seconds > 60 * minutes
        too_long = f", more than the {minutes:g} min of --minutes: fewer rounds or images give no verdict"
        log(f"planned: {plan}{too_long if is_more else ''}")
        comparison = self._compare(plan.experiments, plan.scope, pace, start + 60 * LONGEST * minutes)
        seconds, twice = time.monotonic() - start, 2 * minutes
        if not self.resume and not comparison.runner.failures and not trial.runner.failures:
            slowdown = _slowdown_since(pace, comparison, experiments[0])
            if slowdown >= MAX_PACE_RATIO:
                log(f"the median run was {slowdown:.1f} times slower than the fastest trial run")
            more = plan_default(experiments, scope, pace.slowed(max(slowdown, seconds / plan.expected_seconds)), twice)
            log(f"took {seconds / 60:.1f} min; --minutes {twice:g} would do: {more}")
        return _finish(comparison)

    def _on_data(self, experiments: Sequence[Experiment]) -> list[Experiment]:
        """Return the experiments on the pack without the held-out concepts, or on the shards that are given.

        Vocabularies are counted from the shards' captions. Large JPEGs are decoded at a fraction of their size, because
        the tiny towers look at 48 pixels.
        """
        settings = add_caption_settings([] if self.data is None else [f"data={self.data}"], None, self.caption)
        of_data = [with_settings(one, settings) for one in experiments]
        if self.data is None:
            return [change(one, subset=SEEN_CONCEPTS) for one in of_data]
        return with_counted_vocabularies([change(one, jpeg_decoding="reduced") for one in of_data], self.results)

    def _with_tasks(self, scope: Scope) -> Scope:
        """Return the scope with the tasks that the options name; ValueError if one on disk cannot be opened."""
        if self.root is None and not self.tasks:
            return scope
        tasks, root, _ = choose_tasks_root_and_protocols(self.tasks, self.root)
        require_openable_tasks(self.results, root, tasks)
        return dataclasses.replace(scope, tasks=tuple(tasks), root=root)

    def _recorded_images_and_num_seeds(self) -> tuple[int | None, int]:
        """Return the images (None without records) and the number of seeds of the comparison to resume."""
        records = read_records(self.results, latest_comparison_name(self.results, "default"))
        experiments = [record.experiment for record in records if record.experiment]
        return next((one.training.images for one in experiments), None), 1 + max(
            (one.seed for one in experiments), default=0
        )

    def _compare(
        self, experiments: Sequence[Experiment], scope: Scope, pace: Pace | None = None, deadline: float = math.inf
    ) -> Comparison:
        comparison = open_comparison(self.results, experiments, scope, resume=self.resume, tasks=scope.tasks, pace=pace)
        comparison.runner.deadline = deadline
        comparison.measure_memory()
        comparison.measure(scope)
        comparison.train(scope)
        comparison.score(scope)
        return comparison

    @property
    def _scope_name(self) -> str:
        if self.smoke and self.full:
            raise ValueError("--smoke and --full exclude each other")
        return "smoke" if self.smoke else "full" if self.full else "default"


@dataclass(frozen=True, slots=True)
class Measure:
    """Measure throughput and memory of experiments, and compare them with the first experiment.

    Each round runs every experiment once, in a fresh process, in rotated order; on a CPU the windows are interleaved.
    Disturbed rounds are repeated, unless --rounds is given.
    """

    names: Positional[tuple[str, ...]]  # names of the experiments; the first is the baseline
    rounds: Rounds = None
    memory_gib: float | None = None  # memory limit, in GiB; also compares each experiment at its largest batch under it
    data: Data = None
    caption: Caption = None
    caption_lengths: CaptionLengths = None
    vocabulary: VocabularyFile = None
    labels: Labels = None
    count_vocabulary: bool = False  # count vocabularies from the captions first, into RESULTS/vocabularies
    measurements: Measurements = ()
    trace: bool = False  # also write a Perfetto trace of a few steps of each experiment
    # accept experiments that differ in more than the method; the table lists the differences
    allow_differences: bool = False
    resume: bool = False  # resume the newest comparison of the folder; recorded runs are not repeated
    max_minutes: MaxMinutes = None
    yes: Yes = False
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None
    purpose: ClassVar[str] = "compare"
    runs_on_all_ranks: ClassVar[bool] = True
    resume_hint = "finished records are kept; resume with the same command and --resume"

    def expected_seconds(self, pace: Pace) -> float:
        """Return the expected seconds of memory runs, rounds, the search for the largest batches, and traces."""
        experiments, scope = self._experiments_and_scope(on_gpu=pace.on_gpu)
        comparison = Comparison.for_planning(experiments, pace)
        if self.measurements:
            jobs = comparison.figure_jobs(self._measurements, scope.rounds)
            return pace.command_seconds + expected_job_seconds(jobs)
        seconds = comparison.expected_seconds(scope, trained=False)
        if self.memory_gib is not None:  # the rounds have twice as many experiments
            seconds += comparison.expected_search_seconds + comparison.expected_seconds(scope, trained=False)
        return pace.command_seconds + seconds + (comparison.expected_trace_seconds if self.trace else 0.0)

    def _experiments_and_scope(self, *, on_gpu: bool) -> tuple[list[Experiment], Scope]:
        """Return the experiments and the rounds; ValueError for options that cannot be."""
        if not self.names:
            raise ValueError(f"name the experiments to measure (there are {', '.join(EXPERIMENTS)})")
        require_range("rounds", self.rounds, *ROUNDS_RANGE)
        require_range("memory-gib", self.memory_gib, 1e-6, 1e6)
        require_range("max-minutes", self.max_minutes, *MINUTES_RANGE)
        if self.count_vocabulary:
            require_no_other_vocabulary(self.vocabulary, self.labels)
        for name in self.measurements:
            get_measurement(name)  # refuses a name that no extension adds
        if self.measurements and (self.trace or self.memory_gib is not None):
            raise ValueError("--measurement measures neither speed nor memory: leave out --trace and --memory-gib")
        settings = add_caption_settings(self.settings, self.caption_lengths, self.caption)
        options = settings, self.data, self.vocabulary, self.labels
        experiments = experiments_from(self.names, *options)
        return experiments, Scope("measure", self.rounds or default_rounds(on_gpu=on_gpu))

    @property
    def _measurements(self) -> list[str]:
        return [*dict.fromkeys(self.measurements)]

    def run(self) -> int:
        """Run the rounds, then print the ratios."""
        start = time.monotonic()
        experiments, scope = self._experiments_and_scope(on_gpu=has_gpu())
        if self.count_vocabulary:
            require_runnable(self.results.resolve(), experiments)
            experiments = with_counted_vocabularies(experiments, self.results)
        may_differ = FIELDS if self.allow_differences else MAY_DIFFER
        comparison = open_comparison(
            self.results,
            experiments,
            scope,
            resume=self.resume,
            trained=False,
            may_differ=may_differ,
            may_measure_pace=True,
        )
        for one in experiments if experiments[0].input.data != PACK_DATA else ():
            if reason := vocabulary_mismatch(one):
                log(reason)
        remedy = "make it shorter with --rounds or --set batch_size=N"
        jobs = comparison.figure_jobs(self._measurements, scope.rounds)
        seconds = expected_job_seconds(jobs) if jobs else comparison.expected_seconds(scope, trained=False)
        require_confirmed(comparison, seconds, remedy, is_confirmed=self.yes or self.resume)
        set_deadline(comparison, self.max_minutes, start)
        if jobs:
            comparison.runner.progress = Progress(seconds)
            for of_round in jobs:
                comparison.run_round(of_round)
            names = [one.name for one in experiments]
            return print_results(comparison, figure_tables(comparison.records(), names), self.json)
        comparison.measure_memory()
        largest = [] if self.memory_gib is None else comparison.find_largest_batches(round(self.memory_gib * GIB))
        arms = list({one.name: one for one in (*experiments, *largest)}.values())
        comparison.measure(scope, arms)
        tables = _cost_tables(comparison, allow_differences=self.allow_differences)
        if self.memory_gib is not None:
            records, allowed = comparison.records(), MAY_DIFFER_AT_LARGEST_BATCH
            names, accepted = [one.name for one in largest], FIELDS if self.allow_differences else allowed
            found = group_named(records, names, accepted)
            tables += [with_differences(largest_batch_table(found), found, allowed), batch_trial_table(records)]
        for path in comparison.trace() if self.trace else []:
            log(f"trace: {path} (open it at https://ui.perfetto.dev)")
        return _finish_timed(comparison, tables, self.json)


def _slowdown_since(trial: Pace, comparison: Comparison, tried: Experiment) -> float:
    """Return how many times slower the median run was than its trial run's pace; 1 without runs."""
    runs = throughputs_by_round(comparison.records()).get(tried.name, {})
    return tried.training.batch_size / (trial.step_seconds(tried) * median(runs.values())) if runs else 1.0


def _finish(comparison: Comparison) -> int:
    """Finish a comparison of speed, memory and accuracy."""
    return _finish_timed(comparison, [*_cost_tables(comparison), *transfer_tables(comparison.records())])


def _finish_timed(comparison: Comparison, tables: Sequence[Table], json_file: Path | None = None) -> int:
    """Finish, and log as the last lines which ranks are slow and which steps were left out."""
    code = print_results(comparison, tables, json_file)
    log(f"draw the page with: {PROGRAM} report build {shlex.quote(os.path.relpath(comparison.results))}")
    records, names = comparison.records(), [one.name for one in comparison.experiments]
    for slow in find_slow_ranks(records, names):
        log(str(slow))
    for text in (describe_busy_processes(records), describe_waits(records, names)):
        if text:
            log(text)
    return code


def _cost_tables(comparison: Comparison, *, allow_differences: bool = False) -> list[Table]:
    names, records = [experiment.name for experiment in comparison.experiments], comparison.records()
    found = group_named(records, names, FIELDS if allow_differences else MAY_DIFFER)
    speeds = with_differences(throughput_table(found), found)
    return [speeds, phase_table(found), memory_and_size_table(found), rank_table(records, names)]
