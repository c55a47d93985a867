"""The causes of a throughput ratio, from the records of a ladder: ratios of neighbouring rungs over rounds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from bench.data.caption_lengths import describe_captions
from bench.features.explain.ladder import Ladder, Rung
from bench.measure.throughput import (
    Rate,
    TimedRun,
    forward_backward_rate,
    images_per_step,
    rates_by_round,
    timed_runs_by_experiment,
    undisturbed_images_per_second,
)
from bench.measure.windows import describe_waits
from bench.records.record import Record
from bench.statistics.ratios import Ratio, compare_rates
from bench.statistics.verdicts import FlopsVerdict, judge_flops_prediction


@dataclass(frozen=True, slots=True)
class CauseRatio:
    """The throughput ratio of one cause; a part is None if it was not measured."""

    cause: str
    change: str  # of a factor, its setting before and after
    forward_backward: Ratio | None
    step: Ratio | None  # with data and optimizer
    flop_ratio: float | None  # predicted by the matrix products of forward and backward
    saved_seconds: float | None  # per image of the whole step

    @property
    def verdict(self) -> FlopsVerdict | None:
        """Whether forward and backward are consistent with FLOPs."""
        measured = self.forward_backward
        if measured is None or self.flop_ratio is None:
            return None
        margin = None
        if measured.high is not None:
            margin = math.log(measured.high / measured.value)
        error = math.log(measured.value / self.flop_ratio)
        return judge_flops_prediction(error, margin)


@dataclass(frozen=True, slots=True)
class Decomposition:
    """The causes of the ratio between the two ends of a ladder."""

    ladder: Ladder
    causes: tuple[CauseRatio, ...]  # in the order of the ladder
    whole: CauseRatio
    num_rounds: int  # in which all rungs were measured
    captions: str  # that the runs read
    waits: str  # a sentence on the steps that other work kept from a core

    @property
    def baseline(self) -> str:
        """The experiment at which the ladder begins."""
        return self.ladder.rungs[0].experiment

    @property
    def experiment(self) -> str:
        """The experiment at which the ladder ends."""
        return self.ladder.rungs[-1].experiment


def decompose(records: Sequence[Record]) -> Decomposition | None:
    """Return the causes of the ratio between the ends of the ladder in the records; None if there is no ladder."""
    ladders = [record.measured for record in records if isinstance(record.measured, Ladder)]
    if not ladders:
        return None
    rungs = ladders[0].rungs
    names = [rung.experiment for rung in rungs]
    runs = timed_runs_by_experiment(records, names)
    causes = []
    for before, after in pairwise(rungs):
        causes.append(_cause_ratio(runs, before, after, after.cause, after.change))
    rounds = [
        set(rates_by_round(runs.get(name, ()), undisturbed_images_per_second)) for name in names
    ]
    experiments = [record.experiment for record in records if record.experiment]
    return Decomposition(
        ladder=ladders[0],
        causes=tuple(causes),
        whole=_cause_ratio(runs, rungs[0], rungs[-1], "whole ratio"),
        num_rounds=len(set.intersection(*rounds)),
        captions=describe_captions(experiments),
        waits=describe_waits(records, names),
    )


def _cause_ratio(
    runs: Mapping[str, Sequence[TimedRun]], before: Rung, after: Rung, cause: str, change: str = ""
) -> CauseRatio:
    """Return the ratio after / before of two rungs, over the rounds that have both."""
    start = runs.get(before.experiment, ())
    end = runs.get(after.experiment, ())
    step_start, step_end = _rates_in_common_rounds(start, end, undisturbed_images_per_second)
    saved = [1 / step_start[round_] - 1 / step_end[round_] for round_ in step_start]
    phases_start, phases_end = _rates_in_common_rounds(start, end, forward_backward_rate)
    return CauseRatio(
        cause=cause,
        change=change,
        forward_backward=compare_rates(phases_start, phases_end) if phases_start else None,
        step=compare_rates(step_start, step_end) if step_start else None,
        flop_ratio=_flops_per_image(start) / _flops_per_image(end) if start and end else None,
        saved_seconds=fmean(saved) if saved else None,
    )


def _rates_in_common_rounds(
    start: Sequence[TimedRun], end: Sequence[TimedRun], rate: Rate
) -> tuple[dict[int, float], dict[int, float]]:
    """Return the rates of two rungs in the rounds that have both."""
    before = rates_by_round(start, rate)
    after = rates_by_round(end, rate)
    common = sorted(before.keys() & after.keys())
    start_rates = {round_: before[round_] for round_ in common}
    end_rates = {round_: after[round_] for round_ in common}
    return start_rates, end_rates


def _flops_per_image(runs: Sequence[TimedRun]) -> float:
    """Return the FLOPs per image of a step of the last run."""
    experiment, speed = runs[-1]
    return speed.flops.step / images_per_step(experiment, speed)
