"""The timed runs of records: rates by round, what disturbed them, and whether they may be compared. No torch here."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain

import msgspec
import numpy as np

from bench.experiment.config import format_field_differences, unexpected_differences
from bench.measure.timed_run import TimedRun
from bench.records.record import Record, Speed
from bench.tables.formats import format_count_with_noun

# Images/s of a timed run; None: other work disturbed it.
RateFunction = Callable[[TimedRun], float | None]
# Circumstances that must be equal where speeds are compared, with the experiment's field that may explain a difference.
FIELD_BY_CIRCUMSTANCE: dict[str, str | None] = {
    "machine": None,
    "gpu": None,
    "device": None,
    "threads": None,
    "processes": None,
    "packages": None,
    "extensions": None,
    "precision": "precision",
    "compiled": "compile",
}


def timed_runs_by_experiment(
    records: Iterable[Record], names: Iterable[str] | None = None
) -> dict[str, list[TimedRun]]:
    """Return the timed runs by the experiment's name, in the order of the rounds; of all names, or those in `names`."""
    runs: dict[str, list[TimedRun]] = {}
    for record in records:
        experiment = record.experiment
        speed = record.measured
        if isinstance(speed, Speed) and experiment is not None:
            named_runs = runs.setdefault(experiment.name, [])
            named_runs.append(TimedRun(experiment, speed))
    chosen = runs if names is None else [name for name in names if name in runs]
    return {name: sorted(runs[name], key=lambda run: run.speed.round) for name in chosen}


def rates_by_experiment_and_round(
    runs_by_experiment: Mapping[str, Sequence[TimedRun]], rate: RateFunction
) -> dict[str, dict[int, float]]:
    """Return a rate of timed runs, by the experiment's name and the round, without the runs that have none."""
    return {name: rates_by_round(runs, rate) for name, runs in runs_by_experiment.items()}


def rates_by_round(runs: Iterable[TimedRun], rate: RateFunction) -> dict[int, float]:
    """Return a rate of timed runs by round, without the runs that have none."""
    rates = {}
    for run in runs:
        value = rate(run)
        if value is not None:
            rates[run.speed.round] = value
    return rates


def reason_not_comparable(records: Sequence[Record], *, may_differ: Iterable[str]) -> str | None:
    """Return how experiments and circumstances differ, apart from the fields in `may_differ`; None: they do not."""
    allowed = set(may_differ)
    experiments = [record.experiment for record in records if record.experiment is not None]
    differences = unexpected_differences(experiments, allowed)
    for circumstance, field in FIELD_BY_CIRCUMSTANCE.items():
        values = {}
        for record in records:
            value = getattr(record.circumstances, circumstance)
            encoded = msgspec.json.encode(value, order="deterministic")
            values[encoded] = value
        if len(values) > 1 and field not in allowed:
            differences[circumstance] = tuple(values.values())
    if not differences:
        return None
    return (
        f"these records cannot be compared, they differ in {format_field_differences(differences)}"
    )


def describe_reduced_threads(records: Sequence[Record]) -> str:
    """Return a sentence that busy processes reduced the threads of the runs; empty if they did not."""
    for record in records:
        circumstances = record.circumstances
        if circumstances.busy_processes and isinstance(record.measured, Speed):
            threads = format_count_with_noun(circumstances.threads, "thread")
            return f"Timed with {threads}, because {circumstances.busy_processes} kept a core busy."
    return ""


def describe_disturbed_windows(records: Iterable[Record], names: Collection[str]) -> str:
    """Return sentences on the windows of the experiments `names` that other work disturbed, and the time it cost.

    Empty if none of them was timed.
    """
    timed = list(chain.from_iterable(timed_runs_by_experiment(records, names).values()))
    if not timed:
        return ""
    steps = "steps" if any(run.speed.steps_per_window == 1 for run in timed) else "windows"
    runs = [run.windows() for run in timed]
    number = sum(len(windows.seconds) for windows in runs)
    left_out = number - sum(windows.num_counted() for windows in runs)
    if not left_out:
        if any(len(windows.waiting_cores) for windows in runs):
            return f"All {steps} count."
        return f"All {steps} count: this system does not report whether other work kept the runs from a core."
    is_throttled = any(np.any(windows.throttled_percent) for windows in runs)
    cause = "waited for a core or had a throttled GPU" if is_throttled else "waited for a core"
    added_seconds = sum(sum(windows.seconds[windows.num_planned :]) for windows in runs)
    text = f"{100 * left_out / number:.0f} % of the {steps} {cause} and were left out; "
    text += f"{added_seconds:.0f} s were added to make up for them."
    num_disturbed = sum(windows.undisturbed_images_per_second() is None for windows in runs)
    if num_disturbed:
        text += f" {num_disturbed} of {len(runs)} runs were disturbed nearly throughout and are left out."
    return text
