"""Summaries of timed runs: the figures of a run, their medians over runs, and ratios to a base. No torch here."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from statistics import median

from bench.interfaces.throughput import PHASE, ExperimentThroughput, FiguresByName
from bench.measure.throughput import rates_by_experiment_and_round, timed_runs_by_experiment
from bench.measure.timed_run import TimedRun
from bench.records.record import PHASES, Record
from bench.statistics.intervals import geometric_mean_with_interval
from bench.statistics.ratios import (
    RateByRound,
    RateRatio,
    compare_rate_pairs,
    compute_rate_ratio_without_interval,
)

MIN_MFU_FACTOR = 2.0  # between two MFU of implementations that are not equally optimised
UTILISATION_PREFIX = "utilisation: "  # prefix of a figure from `Speed.utilisation`


def summarize_throughputs(
    records: Sequence[Record], names: Collection[str], base: str | None
) -> list[ExperimentThroughput]:
    """Summarise the timed runs of the named experiments and compare them with `base`.

    p and verdict are adjusted for the number of ratios.
    """
    timed = timed_runs_by_experiment(records, names)
    all_runs = chain.from_iterable(timed.values())
    # The largest that any run recorded, because on a CPU each run measures it.
    peak = max((run.speed.peak_flops_per_second or 0.0 for run in all_runs), default=0.0)
    figures = {name: _median_run_metrics(runs, peak) for name, runs in timed.items()}
    rates = rates_by_experiment_and_round(timed, TimedRun.images_per_second_preferably_undisturbed)
    all_windows = rates_by_experiment_and_round(timed, TimedRun.images_per_second_of_all_windows)
    undisturbed = rates_by_experiment_and_round(timed, TimedRun.undisturbed_images_per_second)
    ratios = _ratios_to_base(base, undisturbed, all_windows)
    ratios_of_all = _ratios_to_base(base, all_windows, all_windows)
    forward_backward = rates_by_experiment_and_round(
        timed, TimedRun.forward_backward_images_per_second
    )
    forward_backward_ratios = _ratios_to_base(base, forward_backward, forward_backward)
    throughputs = []
    for name, runs in timed.items():
        speeds = [run.speed for run in runs]
        flop_ratio = None
        if base in figures and name != base:
            flops = figures[name]["step_flops_per_image"]
            base_flops = figures[base]["step_flops_per_image"]
            if base_flops and flops:
                flop_ratio = base_flops / flops
        throughput = ExperimentThroughput(
            experiment=name,
            rounds=rates[name],
            images_per_second=median(rates[name].values()),
            interval=geometric_mean_with_interval(list(rates[name].values())),
            ratio=ratios.get(name),
            ratio_of_all=ratios_of_all.get(name),
            forward_backward=forward_backward_ratios.get(name),
            flop_ratio=flop_ratio,
            figures=figures[name],
            peak_source=speeds[0].peak_source,
            loader_workers=max(speed.loader_workers or 0 for speed in speeds),
        )
        throughputs.append(throughput)
    return throughputs


def derive_run_metrics(run: TimedRun, peak_flops_per_second: float) -> FiguresByName:
    """Return the figures of one timed run by name; None is not measured. The peak is of one device, 0 if unknown."""
    speed = run.speed
    phases = {}
    for name in PHASES:
        if name in speed.phase_seconds:
            phases[name] = 1000 * median(speed.phase_seconds[name])
    captions_per_second = None
    if speed.num_captions and speed.target_building_seconds:
        captions_per_second = speed.num_captions / speed.target_building_seconds
    utilisation = None
    if peak_flops_per_second:
        utilisation = run.model_flops_utilisation(peak_flops_per_second)
    figures: FiguresByName = {
        "batch_size": run.experiment.training.batch_size,  # of one process, as the FLOPs are
        "step_ms": 1000 * median(speed.window_seconds) / run.steps_per_window(),
        "phases_ms": sum(phases.values()) or None,
        "step_flops_per_image": speed.flops.step / run.images_per_step(),
        "model_flops_utilisation": utilisation,
        "captions_per_second": captions_per_second,
        "tokens_per_caption": speed.tokens_per_caption,
        "trained_parameters": speed.trained_parameters,
        "tower_parameters": speed.tower_parameters,
        "data_wait_share": speed.data_wait_share,
        "warmup_seconds": speed.warmup_seconds,
    }
    for name, milliseconds in phases.items():
        figures[PHASE + name] = milliseconds
    for name, value in speed.utilisation.items():
        figures[UTILISATION_PREFIX + name] = value
    return figures


def _median_run_metrics(runs: Iterable[TimedRun], peak_flops_per_second: float) -> FiguresByName:
    """Return the medians of `derive_run_metrics` over runs."""
    values = defaultdict[str, list[float]](list)
    for run in runs:
        for name, value in derive_run_metrics(run, peak_flops_per_second).items():
            known = values[name]
            if value is not None:
                known.append(value)
    medians: FiguresByName = {}
    for name, known in values.items():
        medians[name] = float(median(known)) if known else None
    return medians


def find_least_and_largest_mfu_if_twofold(
    rows: Sequence[ExperimentThroughput],
) -> tuple[ExperimentThroughput, ExperimentThroughput] | None:
    """Return the rows of the least and the largest MFU; None where the largest is less than twice the least."""
    rows_by_mfu = {row.mfu: row for row in rows if row.mfu}
    if not rows_by_mfu or max(rows_by_mfu) < MIN_MFU_FACTOR * min(rows_by_mfu):
        return None
    return rows_by_mfu[min(rows_by_mfu)], rows_by_mfu[max(rows_by_mfu)]


def _ratios_to_base(
    base: str | None, undisturbed: Mapping[str, RateByRound], all_windows: Mapping[str, RateByRound]
) -> dict[str, RateRatio]:
    """Return the ratios of the other experiments to `base`, by name.

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
            ratios[name] = compute_rate_ratio_without_interval(all_windows[base], rounds)
    ratios.update(compare_rate_pairs(pairs))
    return ratios
