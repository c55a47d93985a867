"""The speed of an experiment, as sections of pages read it. No torch here."""

from dataclasses import dataclass

from bench.statistics.intervals import ValueWithInterval
from bench.statistics.ratios import RateRatio

# Of one timed run, or medians over runs; None: not measured.
FiguresByName = dict[str, float | None]
PHASE = "phase, ms: "  # prefix of a figure from `Speed.phase_seconds`


@dataclass(frozen=True, slots=True)
class ExperimentThroughput:
    """The speed of an experiment over its runs. None: not measured, or not comparable with a base."""

    experiment: str
    rounds: dict[int, float]  # images per second by round
    images_per_second: float  # the median of the rounds
    interval: ValueWithInterval | None  # of the geometric mean of the runs; None under two runs
    ratio: RateRatio | None  # of images per second to the base; None for the base itself
    # The same over all windows, also those that other work disturbed.
    ratio_of_all: RateRatio | None
    forward_backward: RateRatio | None  # the same of forward and backward alone
    flop_ratio: float | None  # the FLOP-predicted ratio
    figures: FiguresByName  # medians over the runs of `derive_run_metrics`
    peak_source: str
    loader_workers: int  # processes that load batches ahead, the most of any run

    @property
    def mfu(self) -> float | None:
        """The model FLOPs utilisation; None without a peak."""
        return self.figures["model_flops_utilisation"]

    @property
    def data_share(self) -> float | None:
        """The share of the phases that is spent on data; None where no run was split into phases."""
        total = self.figures["phases_ms"]
        return (self.figures.get(f"{PHASE}data") or 0.0) / total if total else None
