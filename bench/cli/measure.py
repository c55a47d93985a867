"""The verb `measure`: throughput and memory of experiments, compared with the first one. No torch here."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from bench.cli.options import (
    ExperimentNames,
    Json,
    LabelOptions,
    Launch,
    Measurements,
    Results,
    Rounds,
    Settings,
    SettingsFile,
    find_experiments_with_settings,
    print_results_and_get_exit_code,
)
from bench.cli.own_vocabulary import with_vocabularies_counted_into_files
from bench.console.console import PROGRAM, log
from bench.console.options import ROUNDS_RANGE, require_option_in_range
from bench.experiment.config import FIELDS, MAY_DIFFER, Experiment
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.fields import PACK_DATA
from bench.interfaces.measurement import get_measurement
from bench.labels.vocabulary import explain_vocabulary_mismatch
from bench.measure.comparison_records import select_comparable_experiment_records
from bench.measure.figures import extension_measurement_tables
from bench.measure.speed_tables import (
    memory_utilisation_and_parameter_table,
    step_phase_table,
    throughput_table,
    with_note_on_setting_differences,
)
from bench.measure.throughput import describe_disturbed_windows, describe_reduced_threads
from bench.orchestration.comparison import Comparison
from bench.orchestration.preflight import (
    begin_comparison,
    has_gpu,
    require_runnable_and_prepare_data,
    require_runnable_experiments,
)
from bench.orchestration.scope import default_num_rounds
from bench.tables.tables import Table


@dataclass(frozen=True, kw_only=True)
class MeasureSpeedAndMemory(LabelOptions):
    """Measure throughput and memory of experiments, and compare them with the first experiment.

    Each round runs every experiment once, in a fresh process, in rotated order; on a CPU the windows are interleaved.
    """

    # names of experiments (see `list`); the first is the baseline of the ratios
    names: Positional[ExperimentNames]
    rounds: Rounds = None
    measurements: Measurements = ()
    # compare experiments although they differ in more than the method, such as published recipes; default: refuse them
    allow_differences: bool = False
    # continue the newest measurement in RESULTS, which must be of the same experiments and commit: recorded runs are
    # not repeated, failed ones are; default: begin a new one
    resume: bool = False
    launch: Launch = ""
    settings_file: SettingsFile = None
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None

    def run(self) -> int:
        """Run the rounds, then print the ratios."""
        experiments = self._experiments()
        rounds = self.rounds or default_num_rounds(on_gpu=has_gpu())
        if self.vocabulary_from_captions:
            require_runnable_experiments(self.results.resolve(), experiments)
            experiments = with_vocabularies_counted_into_files(experiments, self.results)
        may_differ = FIELDS if self.allow_differences else MAY_DIFFER
        require_runnable_and_prepare_data(self.results, experiments, may_differ=may_differ)
        comparison = begin_comparison(
            self.results, "measure", experiments, self.launch, resume=self.resume
        )
        if experiments[0].input.data != PACK_DATA:
            for mismatch in filter(None, map(explain_vocabulary_mismatch, experiments)):
                log(mismatch)
        if self.measurements:
            comparison.measure_extension_values([*dict.fromkeys(self.measurements)], rounds)
            names = [experiment.name for experiment in experiments]
            return print_results_and_get_exit_code(
                comparison, extension_measurement_tables(comparison.records(), names), self.json
            )
        comparison.measure_memory()
        comparison.measure_speed(range(rounds))
        tables = speed_and_memory_tables(comparison, allow_differences=self.allow_differences)
        return print_timed_results_and_get_exit_code(comparison, tables, self.json)

    def _experiments(self) -> list[Experiment]:
        """Return the experiments; ValueError for options that are out of range or exclude each other."""
        if not self.names:
            raise ValueError(
                f"name the experiments to measure (there are {', '.join(EXPERIMENTS)})"
            )
        require_option_in_range("rounds", self.rounds, *ROUNDS_RANGE)
        for name in self.measurements:
            get_measurement(name)  # refuses a name that no extension adds
        settings = [*self.settings, *self.format_data_settings()]
        return find_experiments_with_settings(self.names, settings, self.settings_file)


def format_report_command(results: Path) -> str:
    """Return the command that draws the page of a folder."""
    return f"{PROGRAM} report build {shlex.quote(os.path.relpath(results))}"


def print_timed_results_and_get_exit_code(
    comparison: Comparison, tables: Sequence[Table], json_file: Path | None = None
) -> int:
    """Print the tables, log how to draw the page and what disturbed the timing, and return the exit code."""
    code = print_results_and_get_exit_code(comparison, tables, json_file)
    log(f"draw the page with: {format_report_command(comparison.results)}")
    names = [experiment.name for experiment in comparison.experiments]
    records = comparison.records()
    for text in filter(
        None, [describe_reduced_threads(records), describe_disturbed_windows(records, names)]
    ):
        log(text)
    return code


def speed_and_memory_tables(
    comparison: Comparison, *, allow_differences: bool = False
) -> list[Table]:
    """Return the tables of throughput, phases of a step, and memory, of the experiments of a comparison."""
    names = [experiment.name for experiment in comparison.experiments]
    records = comparison.records()
    group = select_comparable_experiment_records(
        records, names, FIELDS if allow_differences else MAY_DIFFER
    )
    speeds = with_note_on_setting_differences(throughput_table(group), group)
    return [speeds, step_phase_table(group), memory_utilisation_and_parameter_table(group)]
