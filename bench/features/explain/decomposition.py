"""The causes of a throughput ratio, from the records of a ladder: ratios of neighbouring rungs over rounds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from bench.data.caption_lengths import describe_captions_that_runs_read
from bench.features.explain.ladder import ExperimentLadder
from bench.measure.throughput import (
    describe_disturbed_windows,
    rates_by_round,
    timed_runs_by_experiment,
)
from bench.measure.timed_run import TimedRun
from bench.records.record import Record
from bench.statistics.ratios import RateByRound, RateRatio, compare_rates
from bench.statistics.verdicts import FlopsVerdict, judge_flops_prediction


@dataclass(frozen=True, slots=True)
class CauseRatio:
    """The ratio of images/s after a cause over before it; a part is None if it was not measured."""

    cause: str
    change: str  # of a factor, its setting before and after
    forward_backward: RateRatio | None
    whole_step: RateRatio | None  # with data and optimizer
    flop_ratio: float | None  # predicted by the matrix products of forward and backward
    saved_seconds_per_image: float | None  # of the whole step

    @property
    def flops_verdict(self) -> FlopsVerdict | None:
        """Whether the ratio of forward and backward is consistent with FLOPs."""
        measured = self.forward_backward
        if measured is None or self.flop_ratio is None:
            return None
        margin = None
        if measured.high is not None:
            margin = math.log(measured.high / measured.value)
        error = math.log(measured.value / self.flop_ratio)
        return judge_flops_prediction(error, margin)


@dataclass(frozen=True, slots=True)
class RatioDecomposition:
    """The causes of the ratio between the two ends of a ladder."""

    ladder: ExperimentLadder
    causes: tuple[CauseRatio, ...]  # in the order of the ladder
    total: CauseRatio  # from one end to the other
    num_rounds: int  # in which all rungs were measured
    captions_note: str  # which captions the runs read
    waits_note: str  # a sentence on the steps that other work kept from a core

    @property
    def baseline(self) -> str:
        """The experiment at which the ladder begins."""
        return self.ladder.rungs[0].experiment

    @property
    def experiment(self) -> str:
        """The experiment at which the ladder ends."""
        return self.ladder.rungs[-1].experiment


def decompose_ratio_by_ladder(records: Sequence[Record]) -> RatioDecomposition | None:
    """Return the causes of the ratio between the ends of the ladder in the records; None if there is no ladder."""
    ladders = [
        record.measured for record in records if isinstance(record.measured, ExperimentLadder)
    ]
    if not ladders:
        return None
    rungs = ladders[0].rungs
    names = [rung.experiment for rung in rungs]
    timed = timed_runs_by_experiment(records, names)
    runs = [timed.get(name, ()) for name in names]
    causes = []
    for rung, (start, end) in zip(rungs[1:], pairwise(runs), strict=True):
        causes.append(_cause_ratio(start, end, rung.cause, rung.change))
    rounds = [
        set(rates_by_round(rung_runs, TimedRun.undisturbed_images_per_second)) for rung_runs in runs
    ]
    experiments = [record.experiment for record in records if record.experiment]
    return RatioDecomposition(
        ladder=ladders[0],
        causes=tuple(causes),
        total=_cause_ratio(runs[0], runs[-1], "whole ratio"),
        num_rounds=len(set.intersection(*rounds)),
        captions_note=describe_captions_that_runs_read(
            experiment.input for experiment in experiments
        ),
        waits_note=describe_disturbed_windows(records, names),
    )


def _cause_ratio(
    start: Sequence[TimedRun], end: Sequence[TimedRun], cause: str, change: str = ""
) -> CauseRatio:
    """Return the ratio end / start of the runs of two rungs."""
    start_rates = rates_by_round(start, TimedRun.undisturbed_images_per_second)
    end_rates = rates_by_round(end, TimedRun.undisturbed_images_per_second)
    seconds = [
        1 / start_rates[round_] - 1 / end_rates[round_]
        for round_ in start_rates
        if round_ in end_rates
    ]
    flop_ratio = None
    if start and end:
        flop_ratio = _step_flops_per_image(start[-1]) / _step_flops_per_image(end[-1])
    return CauseRatio(
        cause=cause,
        change=change,
        forward_backward=_compare_if_measured(
            rates_by_round(start, TimedRun.forward_backward_images_per_second),
            rates_by_round(end, TimedRun.forward_backward_images_per_second),
        ),
        whole_step=_compare_if_measured(start_rates, end_rates),
        flop_ratio=flop_ratio,
        saved_seconds_per_image=fmean(seconds) if seconds else None,
    )


def _compare_if_measured(start: RateByRound, end: RateByRound) -> RateRatio | None:
    """Return the ratio end / start of rates by round; None without a round of one of them."""
    return compare_rates(start, end) if start and end else None


def _step_flops_per_image(run: TimedRun) -> float:
    """Return the FLOPs of a step, per image."""
    return run.speed.flops.step / run.images_per_step()
