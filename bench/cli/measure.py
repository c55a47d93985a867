"""The verb `measure`: throughput and memory of experiments, compared with the first one. No torch here."""

import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from bench.cli.options import (
    Caption,
    CaptionLengths,
    Data,
    Json,
    Labels,
    Launch,
    MaxMinutes,
    Measurements,
    Results,
    Rounds,
    Settings,
    VocabularyFile,
    add_caption_settings,
    experiments_from,
    print_results,
    set_deadline,
)
from bench.cli.own_vocabulary import require_no_other_vocabulary, with_counted_vocabularies
from bench.console.console import PROGRAM, log
from bench.console.options import MINUTES_RANGE, ROUNDS_RANGE, require_range
from bench.experiment.config import FIELDS, MAY_DIFFER, MAY_DIFFER_AT_LARGEST_BATCH, Experiment
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.fields import PACK_DATA
from bench.interfaces.measurement import get_measurement
from bench.labels.vocabulary import vocabulary_mismatch
from bench.measure.comparison_records import group_named
from bench.measure.figures import figure_tables
from bench.measure.speed_tables import (
    largest_batch_table,
    memory_and_size_table,
    phase_table,
    throughput_table,
    with_differences,
)
from bench.measure.tables import batch_trial_table
from bench.measure.windows import describe_busy_processes, describe_waits
from bench.orchestration.comparison import Comparison
from bench.orchestration.preflight import begin, check, has_gpu, require_runnable, resume
from bench.orchestration.scope import default_rounds
from bench.tables.formats import GIB
from bench.tables.tables import Table


@dataclass(frozen=True, slots=True)
class Measure:
    """Measure throughput and memory of experiments, and compare them with the first experiment.

    Each round runs every experiment once, in a fresh process, in rotated order; on a CPU the windows are interleaved.
    """

    names: Positional[tuple[str, ...]]  # names of experiments; the first is the baseline
    rounds: Rounds = None
    memory_gib: float | None = (
        None  # GiB of memory under which each experiment is also compared at its largest batch
    )
    data: Data = None
    caption: Caption = None
    caption_lengths: CaptionLengths = None
    vocabulary: VocabularyFile = None
    labels: Labels = None
    count_vocabulary: bool = (
        False  # count vocabularies from the captions first, into RESULTS/vocabularies
    )
    measurements: Measurements = ()
    # accept experiments that differ in more than the method; the table lists the differences
    allow_differences: bool = False
    resume: bool = (
        False  # resume the newest comparison of the folder; recorded runs are not repeated
    )
    max_minutes: MaxMinutes = None
    launch: Launch = ""
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None
    purpose: ClassVar[str] = "compare"
    resume_hint = "finished records are kept; resume with the same command and --resume"

    def run(self) -> int:
        """Run the rounds, then print the ratios."""
        start = time.monotonic()
        experiments = self._experiments()
        rounds = self.rounds or default_rounds(on_gpu=has_gpu())
        if self.count_vocabulary:
            require_runnable(self.results.resolve(), experiments)
            experiments = with_counted_vocabularies(experiments, self.results)
        check(
            self.results, experiments, may_differ=FIELDS if self.allow_differences else MAY_DIFFER
        )
        comparison = (resume if self.resume else begin)(
            self.results, "measure", experiments, self.launch
        )
        if experiments[0].input.data != PACK_DATA:
            for experiment in experiments:
                mismatch = vocabulary_mismatch(experiment)
                if mismatch:
                    log(mismatch)
        set_deadline(comparison, self.max_minutes, start)
        if self.measurements:
            comparison.measure_figures([*dict.fromkeys(self.measurements)], rounds)
            tables = figure_tables(
                comparison.records(), [experiment.name for experiment in experiments]
            )
            return print_results(comparison, tables, self.json)
        return self._measure_costs(comparison, rounds)

    def _experiments(self) -> list[Experiment]:
        """Return the experiments; ValueError for options that exclude each other or are out of range."""
        if not self.names:
            raise ValueError(
                f"name the experiments to measure (there are {', '.join(EXPERIMENTS)})"
            )
        require_range("rounds", self.rounds, *ROUNDS_RANGE)
        require_range("memory-gib", self.memory_gib, 1e-6, 1e6)
        require_range("max-minutes", self.max_minutes, *MINUTES_RANGE)
        if self.count_vocabulary:
            require_no_other_vocabulary(self.vocabulary, self.labels)
        for name in self.measurements:
            get_measurement(name)  # refuses a name that no extension adds
        if self.measurements and self.memory_gib is not None:
            raise ValueError(
                "--measurement measures neither speed nor memory: leave out --memory-gib"
            )
        settings = add_caption_settings(self.settings, self.caption_lengths, self.caption)
        return experiments_from(self.names, settings, self.data, self.vocabulary, self.labels)

    def _measure_costs(self, comparison: Comparison, rounds: int) -> int:
        """Measure memory, the largest batches if asked for, and throughput; print the tables."""
        comparison.measure_memory()
        largest = list[Experiment]()
        if self.memory_gib is not None:
            largest = comparison.find_largest_batches(round(self.memory_gib * GIB))
        timed = {experiment.name: experiment for experiment in (*comparison.experiments, *largest)}
        comparison.measure(rounds, list(timed.values()))
        tables = cost_tables(comparison, allow_differences=self.allow_differences)
        if self.memory_gib is not None:
            records = comparison.records()
            names = [experiment.name for experiment in largest]
            accepted = FIELDS if self.allow_differences else MAY_DIFFER_AT_LARGEST_BATCH
            group = group_named(records, names, accepted)
            tables.append(
                with_differences(largest_batch_table(group), group, MAY_DIFFER_AT_LARGEST_BATCH)
            )
            tables.append(batch_trial_table(records))
        return finish_timed(comparison, tables, self.json)


def finish_timed(
    comparison: Comparison, tables: Sequence[Table], json_file: Path | None = None
) -> int:
    """Print the tables, and log how to draw the page and which steps were left out."""
    code = print_results(comparison, tables, json_file)
    log(
        f"draw the page with: {PROGRAM} report build {shlex.quote(os.path.relpath(comparison.results))}"
    )
    names = [experiment.name for experiment in comparison.experiments]
    records = comparison.records()
    for text in (describe_busy_processes(records), describe_waits(records, names)):
        if text:
            log(text)
    return code


def cost_tables(comparison: Comparison, *, allow_differences: bool = False) -> list[Table]:
    """Return the tables of throughput, phases and memory."""
    names = [experiment.name for experiment in comparison.experiments]
    records = comparison.records()
    group = group_named(records, names, FIELDS if allow_differences else MAY_DIFFER)
    speeds = with_differences(throughput_table(group), group)
    return [speeds, phase_table(group), memory_and_size_table(group)]
