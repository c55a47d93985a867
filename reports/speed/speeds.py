"""Speed runs -> one row for each experiment: figures over its runs, ratios to the base."""

import math
from dataclasses import dataclass

import pandas as pd

from bench.statistics import Interval, Ratio, mean_interval, ratios_of
from reports.render.frames import UTILISATION, Comparison, speeds_frame

UNEXPLAINED = 0.08  # |ln(measured / FLOP ratio)| above this is told in words
DISTURBING_PERCENT = 5.0  # of the machine, kept busy by others while it was timed
ENGINEERING = 2.0  # MFU that differs by this factor compares engineering, not methods


@dataclass(frozen=True, slots=True)
class Throughput:
    """An experiment's speed over its runs. None: not measured, or no ratio to be had."""

    experiment: str
    runs: tuple[float, ...]  # images per second of each run, in the order of the rounds
    images_per_second: float  # the median of the runs
    interval: Interval | None  # of the runs' geometric mean; None under two runs
    ratio: Ratio | None  # of images per second to the base; None for the base itself
    forward_backward: Ratio | None  # the same of forward and backward alone
    flop_ratio: float | None  # the ratio that FLOPs alone predict
    figures: dict[str, float | None]  # medians over the runs of the frame's other columns
    peak_source: str
    not_measured: tuple[str, ...]  # why the device could not be read, or not to the end

    def unexplained(self) -> float | None:
        """Return the factor between forward and backward as measured and as FLOPs predict.

        None where it is small, or where the measured ratio's interval holds what FLOPs predict, or there is none.
        """
        found = self.forward_backward
        if found is None or not self.flop_ratio or found.low is None or found.high is None:
            return None
        factor = found.value / self.flop_ratio
        is_within = found.low <= self.flop_ratio <= found.high
        return None if is_within or abs(math.log(factor)) <= UNEXPLAINED else factor


def throughputs(comparison: Comparison) -> list[Throughput]:
    """Summarise the timed runs of each experiment, in the page's order."""
    frame = speeds_frame(comparison)
    if frame.empty:
        return []
    groups = {name: frame[frame["experiment"] == name].sort_values("round") for name in comparison.experiments}
    timed = {name: group for name, group in groups.items() if len(group)}
    base = comparison.base if comparison.incomparable is None else None
    whole = _ratios(timed, base, "images_per_second")
    alone = _ratios(timed, base, "forward_backward_images_per_second")
    return [
        Throughput(
            experiment=name,
            runs=(runs := _values(group, "images_per_second")),
            images_per_second=float(pd.Series(runs).median()),
            interval=interval_of(runs),
            ratio=whole.get(name),
            forward_backward=alone.get(name),
            flop_ratio=_flop_ratio(timed, base, name),
            figures=_medians(group),
            peak_source=str(group["peak_source"].iloc[0]),
            not_measured=tuple(dict.fromkeys(reason for reason in group["not_measured"] if reason)),
        )
        for name, group in timed.items()
    ]


def rates(rows: list[Throughput]) -> dict[str, float]:
    """Return each experiment's measured images per second, which turns images seen into device seconds."""
    return {row.experiment: row.images_per_second for row in rows}


def engineering_gap(rows: list[Throughput]) -> tuple[Throughput, Throughput] | None:
    """Return the rows of least and largest MFU where these lie so far apart that engineering is compared."""
    known = [row for row in rows if row.figures["model_flops_utilisation"]]
    if not known:
        return None
    least = min(known, key=mfu)
    largest = max(known, key=mfu)
    return (least, largest) if mfu(largest) >= ENGINEERING * mfu(least) else None


def mfu(row: Throughput) -> float:
    """Return a row's MFU where it is known."""
    value = row.figures["model_flops_utilisation"]
    assert value is not None
    return value


def others_busy(row: Throughput) -> list[float]:
    """Return what is known of how busy other processes kept the machine, in percent."""
    names = [name for name in row.figures if name.startswith(f"{UTILISATION}other processes")]
    return [value for name in names if (value := row.figures[name]) is not None]


def utilisations(rows: list[Throughput]) -> list[str]:
    """Return the columns of utilisation that any row has."""
    return list(dict.fromkeys(name for row in rows for name in row.figures if name.startswith(UTILISATION)))


def _ratios(timed: dict[str, pd.DataFrame], base: str | None, column: str) -> dict[str, Ratio]:
    """Compare all with the base; p and verdict are adjusted for their number."""
    values = {name: dict(group.set_index("round")[column].dropna()) for name, group in timed.items()}
    measured = {name: runs for name, runs in values.items() if runs}
    if base not in measured:
        return {}
    return ratios_of(measured[base], {name: runs for name, runs in measured.items() if name != base})


def _flop_ratio(timed: dict[str, pd.DataFrame], base: str | None, name: str) -> float | None:
    if base not in timed or name == base:
        return None
    column = "step_flops_per_image"
    return float(timed[base][column].median()) / float(timed[name][column].median())


def _values(group: pd.DataFrame, column: str) -> tuple[float, ...]:
    return tuple(float(value) for value in group[column].dropna())


def interval_of(runs: tuple[float, ...]) -> Interval | None:
    """Return the geometric mean over the runs with its interval."""
    if len(runs) < 2:  # noqa: PLR2004 - one run has no spread
        return None
    logs = mean_interval([math.log(value) for value in runs])
    return Interval(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high))


def _medians(group: pd.DataFrame) -> dict[str, float | None]:
    numeric = group.select_dtypes("number")
    return {str(name): _known(float(numeric[name].median())) for name in numeric.columns}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
