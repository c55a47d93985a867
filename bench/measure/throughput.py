"""Images per second, how much of the device that uses, and which records may be compared in it. No torch here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean

import msgspec

from bench.experiment.config import Experiment, format_differences, unexpected_differences
from bench.measure.windows import forward_backward_windows, timed_windows
from bench.records.record import Record, Speed

TimedRun = tuple[Experiment, Speed]
Rate = Callable[
    [Experiment, Speed], float | None
]  # of a timed run, in images/s; None: other work disturbed it
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


def images_per_second(experiment: Experiment, speed: Speed) -> float:
    """Return the images/s of a timed run, all processes together, in the windows that count; in all if too few do."""
    rate = undisturbed_images_per_second(experiment, speed)
    if rate is None:
        rate = images_per_second_of_all_windows(experiment, speed)
    return rate


def undisturbed_images_per_second(experiment: Experiment, speed: Speed) -> float | None:
    """Return the images/s of a timed run, all processes together, in the windows that count; None if too few do."""
    rate = timed_windows(experiment, speed).undisturbed_rate()
    if rate is None:
        return None
    return speed.processes * rate


def images_per_second_of_all_windows(experiment: Experiment, speed: Speed) -> float:
    """Return the images/s of a timed run, all processes together, over all its windows."""
    windows = timed_windows(experiment, speed)
    return speed.processes * windows.rate_of_all_windows()


def steps_per_window(experiment: Experiment, speed: Speed) -> int:
    """Return the number of steps in each window of a timed run."""
    return speed.steps_per_window or experiment.timing.steps_per_window


def images_per_step(experiment: Experiment, speed: Speed) -> float:
    """Return the mean number of images of a timed step on one device."""
    if not speed.window_images:
        return float(experiment.training.batch_size)
    images_per_window = fmean(speed.window_images)
    return images_per_window / steps_per_window(experiment, speed)


def model_flops_utilisation(
    experiment: Experiment, speed: Speed, peak_flops_per_second: float
) -> float:
    """Return the MFU: the matrix products of forward and backward (3 x forward FLOPs) over the devices' peak.

    A teacher's forward counts once: it has no backward. Source: Chowdhery et al. 2022, arXiv:2204.02311, appendix B.
    """
    step_flops = 3 * speed.flops.forward - 2 * speed.flops.teacher_forward
    image_flops = step_flops / images_per_step(experiment, speed)
    peak = speed.processes * peak_flops_per_second
    return image_flops * images_per_second(experiment, speed) / peak


def forward_backward_rate(experiment: Experiment, speed: Speed) -> float | None:
    """Return forward and backward's images/s in the steps that count; None if too few do, or without phases."""
    steps = forward_backward_windows(experiment, speed)
    if steps is None:
        return None
    rate = steps.undisturbed_rate()
    if rate is None:
        return None
    return speed.processes * rate


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
            named_runs.append((experiment, speed))
    chosen = runs if names is None else [name for name in names if name in runs]
    return {name: sorted(runs[name], key=lambda run: run[1].round) for name in chosen}


def rates_by_experiment_and_round(
    runs_by_experiment: Mapping[str, Sequence[TimedRun]], rate: Rate
) -> dict[str, dict[int, float]]:
    """Return a rate of timed runs, by the experiment's name and the round, without the runs that have none."""
    return {name: rates_by_round(runs, rate) for name, runs in runs_by_experiment.items()}


def rates_by_round(runs: Iterable[TimedRun], rate: Rate) -> dict[int, float]:
    """Return a rate of timed runs by round, without the runs that have none."""
    rates = {}
    for experiment, speed in runs:
        value = rate(experiment, speed)
        if value is not None:
            rates[speed.round] = value
    return rates


def undisturbed_rates_by_experiment(records: Iterable[Record]) -> dict[str, dict[int, float]]:
    """Return the images/s of the runs that other work did not disturb, by the experiment's name and the round."""
    return rates_by_experiment_and_round(
        timed_runs_by_experiment(records), undisturbed_images_per_second
    )


def require_comparable_records(records: Iterable[Record], *, may_differ: Iterable[str]) -> None:
    """Raise ValueError listing how experiments and circumstances differ, apart from the fields in `may_differ`."""
    records = list(records)
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
    if differences:
        raise ValueError(
            f"these records cannot be compared, they differ in {format_differences(differences)}"
        )
