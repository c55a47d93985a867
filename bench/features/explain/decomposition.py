"""The causes of a throughput ratio, from the records of a ladder: ratios of neighbouring rungs over rounds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean

from bench.data.caption_lengths import describe_captions
from bench.features.explain.ladder import Ladder, Rung
from bench.measure.throughput import (
    forward_backward_rate,
    images_per_step,
    undisturbed_images_per_second,
)
from bench.measure.windows import describe_waits
from bench.records.record import Record, Speed
from bench.statistics.accuracies import Estimate
from bench.statistics.intervals import Interval, mean_interval
from bench.statistics.verdicts import Prediction, judge_flops_prediction

Rounds = dict[int, float]


@dataclass(frozen=True, slots=True)
class LogRatio:
    """The logarithm of a ratio, its mean over rounds."""

    value: float
    margin: float | None  # half of the 95 % interval; None: of one round

    @property
    def interval(self) -> Interval:
        """The 95 % interval, infinite for one round."""
        margin = math.inf if self.margin is None else self.margin
        return Interval(self.value, self.value - margin, self.value + margin)

    @property
    def ratio(self) -> Estimate:
        """The ratio with its interval."""
        if self.margin is None:
            return Estimate(math.exp(self.value), None, None, "one round")
        return Estimate(
            math.exp(self.value),
            math.exp(self.value - self.margin),
            math.exp(self.value + self.margin),
            "rounds",
        )


@dataclass(slots=True)
class RungFigures:
    """The figures of one experiment of a ladder, logarithms by round."""

    # Log of images/s, of steps timed in phases.
    forward_backward: Rounds = field(default_factory=dict)
    step: Rounds = field(default_factory=dict)  # log of images/s, of the windows
    log_flops: float | None = None  # log of FLOPs per image


@dataclass(frozen=True, slots=True)
class CauseRatio:
    """The throughput ratio of one cause; a part is None if it was not measured."""

    cause: str
    change: str  # of a factor, its setting before and after
    forward_backward: LogRatio | None
    step: LogRatio | None  # with data and optimizer
    flop_ratio: float | None  # predicted by the matrix products of forward and backward
    saved_seconds: float | None  # per image of the whole step

    @property
    def deviation(self) -> LogRatio | None:
        """The measured over the FLOP-predicted ratio of forward and backward."""
        measured = self.forward_backward
        if measured is None or self.flop_ratio is None:
            return None
        return LogRatio(measured.value - math.log(self.flop_ratio), measured.margin)

    @property
    def verdict(self) -> Prediction | None:
        """Whether forward and backward are consistent with FLOPs."""
        deviation = self.deviation
        return (
            None if deviation is None else judge_flops_prediction(deviation.value, deviation.margin)
        )


@dataclass(frozen=True, slots=True)
class Decomposition:
    """The causes of the ratio between the two ends of a ladder."""

    ladder: Ladder
    causes: tuple[CauseRatio, ...]  # in the order of the ladder
    # All stages of the objective together; None if there are no other causes.
    objective: CauseRatio | None
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
    """Decompose the ratio of the ladder in the records; None if there is no ladder."""
    ladder = next(
        (record.measured for record in records if isinstance(record.measured, Ladder)), None
    )
    if ladder is None:
        return None
    names = [rung.experiment for rung in ladder.rungs]
    figures = _figures_by_rung(records, names)
    causes = []
    for before, after in pairwise(ladder.rungs):
        causes.append(_ratio(figures, before, after, after.cause, after.change))
    objective_rungs = [number for number, rung in enumerate(ladder.rungs) if rung.is_objective]
    objective = None
    if objective_rungs and objective_rungs[0] > 1:
        objective = _ratio(
            figures,
            ladder.rungs[objective_rungs[0] - 1],
            ladder.rungs[-1],
            "objective, all else equal",
        )
    complete = set.intersection(*(set(figures[name].step) for name in names))
    return Decomposition(
        ladder=ladder,
        causes=tuple(causes),
        objective=objective,
        whole=_ratio(figures, ladder.rungs[0], ladder.rungs[-1], "whole ratio"),
        num_rounds=len(complete),
        captions=describe_captions(record.experiment for record in records if record.experiment),
        waits=describe_waits(records, names),
    )


def _figures_by_rung(records: Iterable[Record], names: Sequence[str]) -> dict[str, RungFigures]:
    figures = {name: RungFigures() for name in names}
    for record in records:
        experiment, speed = record.experiment, record.measured
        if experiment is None or not isinstance(speed, Speed) or experiment.name not in figures:
            continue
        rung = figures[experiment.name]
        rung.log_flops = math.log(speed.flops.step / images_per_step(experiment, speed))
        step_rate = undisturbed_images_per_second(experiment, speed)
        if step_rate is not None:
            rung.step[speed.round] = math.log(step_rate)
        rate = forward_backward_rate(experiment, speed)
        if rate is not None:
            rung.forward_backward[speed.round] = math.log(rate)
    return figures


def _ratio(
    figures: Mapping[str, RungFigures], before: Rung, after: Rung, cause: str, change: str = ""
) -> CauseRatio:
    """Return the ratio of two rungs over the rounds that have both."""
    start = figures[before.experiment]
    end = figures[after.experiment]
    flop_ratio = None
    if start.log_flops is not None and end.log_flops is not None:
        flop_ratio = math.exp(start.log_flops - end.log_flops)
    common = start.step.keys() & end.step.keys()
    saved = [math.exp(-start.step[number]) - math.exp(-end.step[number]) for number in common]
    return CauseRatio(
        cause=cause,
        change=change,
        forward_backward=_difference(start.forward_backward, end.forward_backward),
        step=_difference(start.step, end.step),
        flop_ratio=flop_ratio,
        saved_seconds=fmean(saved) if saved else None,
    )


def _difference(before: Rounds, after: Rounds) -> LogRatio | None:
    """Return the mean difference over common rounds; None without one."""
    differences = [
        after[number] - before[number] for number in sorted(before.keys() & after.keys())
    ]
    if not differences:
        return None
    if len(differences) == 1:
        return LogRatio(differences[0], None)
    mean = mean_interval(differences)
    return LogRatio(mean.value, mean.high - mean.value)
