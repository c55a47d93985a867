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
from bench.statistics.ratios import Ratio, Rounds, ratio_of
from bench.statistics.verdicts import Prediction, judge_flops_prediction


@dataclass(slots=True)
class RungFigures:
    """The figures of one experiment of a ladder."""

    forward_backward: dict[int, float] = field(default_factory=dict)  # images/s in phases, by round
    step: dict[int, float] = field(default_factory=dict)  # images/s of the windows, by round
    flops: float | None = None  # per image


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
    def verdict(self) -> Prediction | None:
        """Whether forward and backward are consistent with FLOPs."""
        measured = self.forward_backward
        if measured is None or self.flop_ratio is None:
            return None
        margin = None if measured.high is None else math.log(measured.high / measured.value)
        return judge_flops_prediction(math.log(measured.value / self.flop_ratio), margin)


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
    """Decompose the ratio of the ladder in the records; None if there is no ladder."""
    ladders = [record.measured for record in records if isinstance(record.measured, Ladder)]
    if not ladders:
        return None
    rungs = ladders[0].rungs
    names = [rung.experiment for rung in rungs]
    figures = _figures_by_rung(records, names)
    causes = [
        _ratio(figures, before, after, after.cause, after.change)
        for before, after in pairwise(rungs)
    ]
    complete_rounds = set.intersection(*(set(figures[name].step) for name in names))
    return Decomposition(
        ladder=ladders[0],
        causes=tuple(causes),
        whole=_ratio(figures, rungs[0], rungs[-1], "whole ratio"),
        num_rounds=len(complete_rounds),
        captions=describe_captions(record.experiment for record in records if record.experiment),
        waits=describe_waits(records, names),
    )


def _figures_by_rung(records: Iterable[Record], names: Sequence[str]) -> dict[str, RungFigures]:
    figures = {name: RungFigures() for name in names}
    for record in records:
        experiment = record.experiment
        speed = record.measured
        if experiment is None or not isinstance(speed, Speed) or experiment.name not in figures:
            continue
        rung = figures[experiment.name]
        rung.flops = speed.flops.step / images_per_step(experiment, speed)
        step_rate = undisturbed_images_per_second(experiment, speed)
        if step_rate is not None:
            rung.step[speed.round] = step_rate
        rate = forward_backward_rate(experiment, speed)
        if rate is not None:
            rung.forward_backward[speed.round] = rate
    return figures


def _ratio(
    figures: Mapping[str, RungFigures], before: Rung, after: Rung, cause: str, change: str = ""
) -> CauseRatio:
    """Return the ratio of two rungs over the rounds that have both."""
    start = figures[before.experiment]
    end = figures[after.experiment]
    common_rounds = start.step.keys() & end.step.keys()
    saved = [1 / start.step[round_] - 1 / end.step[round_] for round_ in common_rounds]
    return CauseRatio(
        cause=cause,
        change=change,
        forward_backward=_ratio_of_common_rounds(start.forward_backward, end.forward_backward),
        step=_ratio_of_common_rounds(start.step, end.step),
        flop_ratio=start.flops / end.flops if start.flops and end.flops else None,
        saved_seconds=fmean(saved) if saved else None,
    )


def _ratio_of_common_rounds(before: Rounds, after: Rounds) -> Ratio | None:
    common_rounds = before.keys() & after.keys()
    if not common_rounds:
        return None
    return ratio_of(
        {round_: before[round_] for round_ in common_rounds},
        {round_: after[round_] for round_ in common_rounds},
    )
