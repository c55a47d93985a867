"""Summaries of timed runs: the figures of a run, their medians over runs, and ratios to a base. No torch here."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import median

from bench.experiment.config import Experiment
from bench.interfaces.throughput import PHASE, Throughput
from bench.measure.throughput import (
    forward_backward_rate,
    images_per_second,
    images_per_second_of_all,
    images_per_step,
    model_flops_utilisation,
    steps_per_window,
    timed_runs,
    undisturbed_images_per_second,
)
from bench.records.record import PHASES, Record, Speed
from bench.statistics.intervals import geometric_mean_interval
from bench.statistics.ratios import Ratio, Rounds, ratio_without_interval, ratios_of_pairs

ENGINEERING_FACTOR = 2.0  # between two MFU
UTILISATION = "utilisation: "  # prefix of a figure from `Speed.utilisation`


def throughputs_of(
    records: Sequence[Record], names: Collection[str], base: str | None
) -> list[Throughput]:
    """Summarise the timed runs of the named experiments and compare them with `base`.

    p and verdict are adjusted for the number of ratios.
    """
    timed = timed_runs(records, names)
    peak = device_peak(speed for runs in timed.values() for _, speed in runs)
    figures = {
        name: [run_figures(experiment, speed, peak) for experiment, speed in runs]
        for name, runs in timed.items()
    }
    medians = {name: _medians(rows) for name, rows in figures.items()}
    all_windows = _rounds_of(figures, "images_per_second_of_all")
    ratios = _ratios(base, _rounds_of(figures, "undisturbed_images_per_second"), all_windows)
    ratios_of_all = _ratios(base, all_windows, all_windows)
    forward_backward = _rounds_of(figures, "forward_backward_images_per_second")
    forward_backward_ratios = _ratios(base, forward_backward, forward_backward)
    return [
        Throughput(
            experiment=name,
            rounds=(
                rounds := {int(row["round"]): row["images_per_second"] for row in figures[name]}
            ),
            images_per_second=median(rounds.values()),
            interval=geometric_mean_interval([*rounds.values()]),
            ratio=ratios.get(name),
            ratio_of_all=ratios_of_all.get(name),
            forward_backward=forward_backward_ratios.get(name),
            flop_ratio=_flops_speed_ratio(medians, base, name),
            figures=medians[name],
            peak_source=runs[0][1].peak_source,
            loader_workers=max(_count_workers(one, speed) for one, speed in runs),
            not_measured=tuple(
                dict.fromkeys(filter(None, (missing_readings(speed) for _, speed in runs)))
            ),
            heating=describe_heating([speed for _, speed in runs]),
        )
        for name, runs in timed.items()
    ]


def device_peak(speeds: Iterable[Speed]) -> float:
    """Return the largest peak in FLOP/s that any run found, NaN without one: on a CPU each run measures it."""
    return max(
        (speed.peak_flops_per_second for speed in speeds if speed.peak_flops_per_second),
        default=math.nan,
    )


def run_figures(experiment: Experiment, speed: Speed, peak: float) -> dict[str, float]:
    """Derive the figures of one timed run; NaN is not measured."""
    images = images_per_step(experiment, speed)
    undisturbed = undisturbed_images_per_second(experiment, speed)
    phases = {
        name: 1000 * median(seconds)
        for name in PHASES
        if (seconds := speed.phase_seconds.get(name))
    }
    return {
        "round": speed.round,
        "batch_size": experiment.training.batch_size,  # of one process, as the FLOPs are
        "images_per_second": images_per_second(experiment, speed),
        "undisturbed_images_per_second": math.nan if undisturbed is None else undisturbed,
        "images_per_second_of_all": images_per_second_of_all(experiment, speed),
        "forward_backward_images_per_second": forward_backward_rate(experiment, speed) or math.nan,
        "step_ms": 1000 * median(speed.window_seconds) / steps_per_window(experiment, speed),
        "phases_ms": sum(phases.values()) if phases else math.nan,
        "step_flops_per_image": speed.flops.step / images,
        "forward_flops_per_image": speed.flops.forward / images,
        "image_forward_flops_per_image": speed.flops.image_forward / images,
        "text_forward_flops_per_image": speed.flops.text_forward / images,
        "model_flops_utilisation": model_flops_utilisation(experiment, speed, peak),
        "peak_flops_per_second": peak,
        "captions_per_second": speed.num_captions / speed.target_building_seconds
        if speed.target_building_seconds > 0
        else math.nan,
        "tokens_per_caption": math.nan
        if speed.tokens_per_caption is None
        else speed.tokens_per_caption,
        "trained_parameters": speed.trained_parameters,
        "tower_parameters": speed.tower_parameters,
        "data_wait_share": math.nan if speed.data_wait_share is None else speed.data_wait_share,
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
    rates = [(row.mfu, row) for row in rows if row.mfu]
    if not rates:
        return None
    least_mfu, least = min(rates, key=lambda rate: rate[0])
    largest_mfu, largest = max(rates, key=lambda rate: rate[0])
    return (least, largest) if largest_mfu >= ENGINEERING_FACTOR * least_mfu else None


def _count_workers(experiment: Experiment, speed: Speed) -> int:
    """Return the loader workers of a run; older records leave their number to the experiment."""
    if speed.loader_workers is not None:
        return speed.loader_workers
    return 0 if experiment.input.workers == "auto" else experiment.input.workers


def _rounds_of(
    figures: Mapping[str, Sequence[Mapping[str, float]]], column: str
) -> dict[str, dict[int, float]]:
    """Return a figure by experiment and round, without runs that do not have it."""
    return {
        name: {int(row["round"]): row[column] for row in rows if not math.isnan(row[column])}
        for name, rows in figures.items()
    }


def _ratios(
    base: str | None, undisturbed: Mapping[str, Rounds], all_windows: Mapping[str, Rounds]
) -> dict[str, Ratio]:
    """Return the ratios to `base`.

    Where other work left fewer than two rounds undisturbed, a ratio is of all windows and has neither interval nor
    verdict.
    """
    if base is None or not all_windows.get(base):
        return {}
    pairs = {}
    ratios = {}
    for name, rounds in all_windows.items():
        if name == base or not rounds:
            continue
        common = undisturbed[base].keys() & undisturbed[name].keys()
        if len(common) >= min(2, len(rounds)):
            pairs[name] = (undisturbed[base], undisturbed[name])
        else:
            ratios[name] = ratio_without_interval(all_windows[base], rounds)
    return ratios | ratios_of_pairs(pairs)


def _flops_speed_ratio(
    medians: Mapping[str, Mapping[str, float | None]], base: str | None, name: str
) -> float | None:
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
