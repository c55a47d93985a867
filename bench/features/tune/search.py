"""The search for the settings of one experiment. No torch here."""

import math
from collections.abc import Sequence
from typing import Any

from bench.experiment.config import Experiment, differing_values_by_field, get_field
from bench.experiment.settings import format_settings
from bench.experiment.tuned_settings import TunedSettings
from bench.features.tune.halving import RUNG_SHARES, find_best_trial
from bench.features.tune.records import Trial
from bench.orchestration.budgets import with_training_images_and_short_warmup
from bench.orchestration.comparison import Comparison
from bench.orchestration.runs import FunctionRun
from bench.records.record import Record, read_record


def search_settings(
    comparison: Comparison,
    trials: Sequence[Experiment],
    images: int,
    tasks: Sequence[str],
    root: str,
) -> TunedSettings | None:
    """Run the trials that have no record; return the settings of the best one, or None if no trial ended.

    The first trial is the experiment with its own settings. `images` are those of the longest trials.
    """
    name = trials[0].name
    runs = list[FunctionRun]()  # of all rungs
    last_runs = dict[int, FunctionRun]()  # by trial, at the last rung that it reached

    def score_trials(rung: int, numbers: Sequence[int]) -> list[float]:
        num_images = round(images * RUNG_SHARES[rung])
        for number in numbers:
            last_runs[number] = comparison.new_run(
                "bench.features.tune.runs:run_trial",
                "trial",
                with_training_images_and_short_warmup(trials[number], num_images),
                f"trial {number + 1} of {name}, {num_images:,} images",
                f"{num_images}images",
                tasks=tasks,
                root=root,
            )
        rung_runs = [last_runs[number] for number in numbers]
        comparison.run_parallel(rung_runs)
        runs.extend(rung_runs)
        return [read_accuracy(run) for run in rung_runs]

    best = find_best_trial(len(trials), score_trials)
    if math.isnan(read_accuracy(last_runs[best])):
        return None
    settings = {
        field: get_field(trials[best], field) for field in differing_values_by_field(trials)
    }
    results = [read_trial(run) for run in runs if run.is_done]
    num_images = sum(trial.images for trial in results)
    seconds = sum(trial.device_seconds for trial in results)
    return TunedSettings(
        settings=format_settings(settings),
        source=f"the best of {len(trials)} trials, which took {num_images:,} images and {seconds:,.0f} device seconds; "
        f"record {last_runs[best].first_file.name}",
    )


def list_trials(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return a row of a table for each recorded trial."""
    rows = []
    for record in records:
        trial = record.measured
        if isinstance(trial, Trial):
            row = {
                "trial": record.experiment_name,
                "images": trial.images,
                "accuracy": trial.accuracy,
                "device seconds": trial.device_seconds,
            }
            rows.append(row)
    return rows


def read_accuracy(run: FunctionRun) -> float:
    """Return the accuracy of a trial; NaN if its run failed, or its loss was not finite."""
    return read_trial(run).accuracy if run.is_done else math.nan


def read_trial(run: FunctionRun) -> Trial:
    """Return what a run that is done recorded."""
    trial = read_record(run.first_file).measured
    assert isinstance(trial, Trial)
    return trial
