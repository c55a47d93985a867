"""Summaries of timed runs: the figures of a run, their medians over runs, and ratios to a base. No torch here."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.config import Experiment
from bench.measure.disturbance import find_disturbance, window_rates_by_experiment
from bench.measure.throughput import (
    forward_backward_rate,
    hardware_flops_utilisation,
    images_per_second,
    images_per_step,
    model_flops_utilisation,
    timed_runs,
)
from bench.record import PHASES, Record, Speed
from bench.statistics import (
    Disturbance,
    Interval,
    Ratio,
    Windows,
    geometric_mean_interval,
    is_engineering_gap,
    mark_if_disturbed,
    ratios_of,
    unexplained_factor,
)

PHASE = "phase, ms: "  # prefix of a figure from `Speed.phase_seconds`
UTILISATION = "utilisation: "  # prefix of a figure from `Speed.utilisation`


@dataclass(frozen=True, slots=True)
class Throughput:
    """The speed of an experiment over its runs. None: not measured, or not comparable with a base."""

    experiment: str
    rounds: dict[int, float]  # images per second by round, of all rounds
    runs: tuple[float, ...]  # images per second of undisturbed rounds; of all where there are too few
    images_per_second: float  # the median of the runs
    interval: Interval | None  # of the geometric mean of the runs; None under two runs
    ratio: Ratio | None  # of images per second to the base; None for the base itself
    forward_backward: Ratio | None  # the same of forward and backward alone
    flop_ratio: float | None  # the FLOP-predicted ratio
    figures: dict[str, float | None]  # medians over the runs of `run_figures`
    peak_source: str
    loader_workers: int  # processes that load batches ahead, the most of any run
    not_measured: tuple[str, ...]  # readings that the device did not give, with the reason
    heating: str  # how a GPU was heated before the windows; empty: a CPU

    @property
    def mfu(self) -> float | None:
        """The model FLOPs utilisation; None without a peak."""
        return self.figures["model_flops_utilisation"]

    @property
    def data_share(self) -> float | None:
        """The share of the phases that is spent on data; None where no run was split into phases."""
        total = self.figures["phases_ms"]
        return (self.figures.get(f"{PHASE}data") or 0.0) / total if total else None

    def unexplained(self) -> float | None:
        """Return forward and backward's measured ratio over the predicted one; see `unexplained_factor`."""
        return unexplained_factor(self.forward_backward, self.flop_ratio)


def throughputs_of(records: Sequence[Record], names: Collection[str], base: str | None) -> list[Throughput]:
    """Summarise the timed runs of the named experiments and compare them with `base`.

    p and verdict are adjusted for the number of ratios. Disturbed rounds are left out of all figures.
    """
    timed, windows = timed_runs(records, names), window_rates_by_experiment(records, names)
    disturbance = find_disturbance(records, names)
    peak = device_peak(speed for runs in timed.values() for _, speed in runs)
    figures = {name: [run_figures(one, speed, peak) for one, speed in runs] for name, runs in timed.items()}
    kept = {
        name: [*disturbance.exclude_disturbed({int(row["round"]): row for row in rows}).values()]
        for name, rows in figures.items()
    }
    medians = {name: _medians(rows) for name, rows in kept.items()}
    step_ratios, forward_backward_ratios = (
        _ratios(figures, base, column, disturbance, windows)
        for column in ("images_per_second", "forward_backward_images_per_second")
    )
    return [
        Throughput(
            experiment=name,
            rounds={int(row["round"]): row["images_per_second"] for row in figures[name]},
            runs=(rates := tuple(row["images_per_second"] for row in kept[name])),
            images_per_second=median(rates),
            interval=geometric_mean_interval(rates),
            ratio=step_ratios.get(name),
            forward_backward=forward_backward_ratios.get(name),
            flop_ratio=_flops_speed_ratio(medians, base, name),
            figures=medians[name],
            peak_source=runs[0][1].peak_source,
            loader_workers=max(_count_workers(one, speed) for one, speed in runs),
            not_measured=tuple(dict.fromkeys(filter(None, (missing_readings(speed) for _, speed in runs)))),
            heating=describe_heating([speed for _, speed in runs]),
        )
        for name, runs in timed.items()
    ]


def device_peak(speeds: Iterable[Speed]) -> float:
    """Return the largest peak in FLOP/s that any run found, NaN without one: on a CPU each run measures it."""
    return max((speed.peak_flops_per_second for speed in speeds if speed.peak_flops_per_second), default=math.nan)


def run_figures(experiment: Experiment, speed: Speed, peak: float) -> dict[str, float]:
    """Derive the figures of one timed run; NaN is not measured."""
    images = images_per_step(experiment, speed)
    phases = {name: 1000 * median(seconds) for name in PHASES if (seconds := speed.phase_seconds.get(name))}
    return {
        "round": speed.round,
        "batch_size": experiment.training.batch_size,  # of one process, as the FLOPs are
        "images_per_second": images_per_second(experiment, speed),
        "forward_backward_images_per_second": forward_backward_rate(experiment, speed) or math.nan,
        "step_ms": 1000 * median(speed.window_seconds) / experiment.timing.steps_per_window,
        "phases_ms": sum(phases.values()) if phases else math.nan,
        "step_flops_per_image": speed.flops.step / images,
        "forward_flops_per_image": speed.flops.forward / images,
        "image_forward_flops_per_image": speed.flops.image_forward / images,
        "text_forward_flops_per_image": speed.flops.text_forward / images,
        "model_flops_utilisation": model_flops_utilisation(experiment, speed, peak),
        "hardware_flops_utilisation": hardware_flops_utilisation(experiment, speed, peak),
        "peak_flops_per_second": peak,
        "captions_per_second": speed.num_captions / speed.targets_seconds if speed.targets_seconds > 0 else math.nan,
        "tokens_per_caption": math.nan if speed.tokens_per_caption is None else speed.tokens_per_caption,
        "trained_parameters": speed.trained_parameters,
        "tower_parameters": speed.tower_parameters,
        "sampler_share": speed.sampler_share,
        "wait_share": math.nan if speed.wait_share is None else speed.wait_share,
        "warmup_seconds": speed.warmup_seconds,
        "heating_seconds": speed.heating_seconds,
        "windows": len(speed.window_seconds),
        **{PHASE + name: milliseconds for name, milliseconds in phases.items()},
        **{UTILISATION + name: value for name, value in speed.utilisation.items()},
    }


def missing_readings(speed: Speed) -> str:
    """Return the readings that the device did not give, with the reason of each."""
    return "; ".join(f"{name}: {reason}" for name, reason in speed.not_measured.items())


def describe_heating(speeds: Sequence[Speed]) -> str:
    """Say how long the runs heated a GPU, and whether it kept clock and temperature then; "" on a CPU."""
    states = [speed.heat_state for speed in speeds if speed.heat_state]
    if not states:
        return ""
    heated = f"{median(speed.heating_seconds for speed in speeds):.1f} s of it heating"
    if warming := states.count("unsteady"):
        return f"{heated}; still warming in {warming} of {len(states)} runs"
    unread = states.count("not read")
    return f"{heated}; clock or temperature not read" if unread else f"{heated}, until steady"


def extreme_mfu_rows(rows: Sequence[Throughput]) -> tuple[Throughput, Throughput] | None:
    """Return the rows of the least and the largest MFU where these compare implementations and not methods."""
    known = sorted((row for row in rows if row.mfu), key=lambda row: row.mfu or 0.0)
    is_gap = bool(known) and is_engineering_gap(known[0].mfu or 0.0, known[-1].mfu or 0.0)
    return (known[0], known[-1]) if is_gap else None


def _count_workers(experiment: Experiment, speed: Speed) -> int:
    """Return the loader workers of a run; older records leave their number to the experiment."""
    if speed.loader_workers is not None:
        return speed.loader_workers
    return 0 if experiment.input.workers == "auto" else experiment.input.workers


def _ratios(
    figures: Mapping[str, Sequence[Mapping[str, float]]],
    base: str | None,
    column: str,
    disturbance: Disturbance,
    windows: Mapping[str, Windows],
) -> dict[str, Ratio]:
    """Return the ratios to `base` without disturbed rounds, of all rounds where too many are disturbed."""
    excluded = disturbance.excluded_rounds
    measured: dict[str, dict[int, float]] = {}
    for name, rows in figures.items():
        for row in rows:
            if row["round"] not in excluded and not math.isnan(row[column]):
                measured.setdefault(name, {})[int(row["round"])] = row[column]
    if base not in measured:
        return {}
    ratios = ratios_of(measured[base], {name: runs for name, runs in measured.items() if name != base})
    kept = {name: {round_: runs[round_] for round_ in runs.keys() - excluded} for name, runs in windows.items()}
    return {
        name: mark_if_disturbed(ratio, disturbance, kept.get(base, {}), kept.get(name, {}))
        for name, ratio in ratios.items()
    }


def _flops_speed_ratio(medians: Mapping[str, Mapping[str, float | None]], base: str | None, name: str) -> float | None:
    if base is None or base not in medians or name == base:
        return None
    ours, theirs = (medians[one]["step_flops_per_image"] for one in (name, base))
    return theirs / ours if theirs is not None and ours else None


def _medians(rows: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if name in row and not math.isnan(row[name])]
        found[name] = float(median(values)) if values else None
    return found
