"""Decomposition of a throughput ratio from the records of a ladder: factors, their product, the whole and a summary."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import get_args

from bench.explain.contrasts import LogRatio, contrast, difference_weights, divide, shapley
from bench.ladder import REST, Coordinates, Ladder
from bench.measure.throughput import forward_backward_rate, images_per_second, images_per_step
from bench.record import Record, Speed
from bench.statistics import (
    FLOPS_TOLERANCE,
    Agreement,
    Prediction,
    Rounds,
    judge_agreement,
    judge_prediction,
    max_relative_difference,
)

Logarithms = Mapping[Coordinates, Rounds]
Weights = Mapping[Coordinates, float]
Ends = tuple[Coordinates, Coordinates]


@dataclass(frozen=True, slots=True)
class Contribution:
    """The throughput ratio of one factor; None if it was not measured."""

    cause: str
    change: str  # settings before and after
    chain: LogRatio | None  # forward and backward, in the ladder's order
    shapley: LogRatio | None  # forward and backward, mean over all orders, if all combinations were measured
    step: LogRatio | None  # whole step, in the ladder's order
    flop_ratio: float | None  # prediction by the matrix products of forward and backward, in the ladder's order
    shapley_flop_ratio: float | None = None  # the same prediction, mean over all orders

    @property
    def best(self) -> LogRatio | None:
        """The Shapley value if there is one, else the value in the ladder's order."""
        return self.shapley or self.chain

    @property
    def best_flop_ratio(self) -> float | None:
        """The FLOP-predicted value of `best`."""
        return self.shapley_flop_ratio if self.shapley else self.flop_ratio

    @property
    def flops_deviation(self) -> LogRatio | None:
        """The ratio of `best` to its FLOP-predicted value."""
        return None if self.best is None or self.best_flop_ratio is None else self.best.divided_by(self.best_flop_ratio)

    @property
    def verdict(self) -> Prediction | None:
        """Whether `best` is consistent with FLOPs."""
        return (
            None
            if self.flops_deviation is None
            else judge_prediction(self.flops_deviation.mean, self.flops_deviation.margin)
        )


@dataclass(frozen=True, slots=True)
class Decomposition:
    """The decomposition of a ratio, of forward and backward and of the whole step."""

    ladder: Ladder
    baseline: str
    experiment: str
    parts: tuple[Contribution, ...]
    objective: Contribution | None  # all stages together, with factors as at the end; None if there are no factors
    product: Contribution  # of all parts
    whole: Contribution  # from rounds of the two ends
    unexplained: LogRatio | None  # whole over product, of forward and backward
    step_unexplained: LogRatio | None
    verdict: Agreement

    @property
    def rounds(self) -> tuple[int, int]:
        """The numbers of rounds for the parts and for the whole."""
        parts, whole = (
            0 if one.chain is None else round(one.chain.degrees_of_freedom) + 1 for one in (self.product, self.whole)
        )
        return parts, whole

    @property
    def verdict_text(self) -> str:
        """The verdict; agreement with the far end of the interval of the unexplained factor in percent, rounded up."""
        if self.verdict != "agree":
            return self.verdict
        assert self.unexplained is not None
        assert self.unexplained.margin is not None
        percent = 100 * max_relative_difference(self.unexplained.mean, self.unexplained.margin)
        return f"agree within {math.ceil(10 * percent) / 10:.1f} %"


def decompose(records: Iterable[Record]) -> Decomposition | None:
    """Decompose the ratio of the ladder in the records; None if there is no ladder."""
    rows = list(records)
    ladder = next((record.measured for record in rows if isinstance(record.measured, Ladder)), None)
    if ladder is None:
        return None
    chain, before = ladder.chain, ladder.chain[len(ladder.factors) + (REST in ladder.causes)]
    begin, end = chain[0], chain[-1]
    measured = _log_throughputs(ladder, rows)
    of_parts, of_whole = (
        measured.rounds(lambda round_: round_ % 2 == 0),
        measured.rounds(lambda round_: round_ % 2 == 1),
    )
    values = shapley(len(ladder.causes), [factor.name for factor in ladder.factors]) if ladder.is_factorial else []
    changes = {factor.name: f"{factor.before} -> {factor.after.partition('=')[2]}" for factor in ladder.factors}
    parts = [
        of_parts.part(cause, ends, changes.get(cause, ""), values[at] if values else None)
        for at, (cause, ends) in enumerate(zip(ladder.steps, pairwise(chain), strict=True))
    ]
    has_objective = before not in (begin, end)
    product = of_parts.complete(chain).part("product of the parts", (begin, end))
    whole = of_whole.part("whole, measured apart", (begin, end))
    unexplained, step_residue = (
        None if one is None or other is None else divide(one, other)
        for one, other in ((whole.chain, product.chain), (whole.step, product.step))
    )
    return Decomposition(
        ladder=ladder,
        baseline=ladder.configurations[0].experiment,
        experiment=ladder.configurations[len(chain) - 1].experiment,
        parts=tuple(parts),
        objective=of_parts.part("objective, all else equal", (before, end)) if has_objective else None,
        product=product,
        whole=whole,
        unexplained=unexplained,
        step_unexplained=step_residue,
        verdict="inconclusive" if unexplained is None else judge_agreement(unexplained.mean, unexplained.margin),
    )


def summarize(found: Decomposition) -> str:
    """Summarise a decomposition in a few sentences."""
    whole, rest, parts = found.whole.chain, found.unexplained, [(part.cause, part.best) for part in found.parts]
    if whole is None or rest is None or any(best is None for _, best in parts):
        return "Some configurations were not measured, so the ratio cannot be decomposed."
    first, against = short_name(found.experiment), short_name(found.baseline)
    order = "over all orders" if found.parts[0].shapley is not None else "in this order"
    listed = ", ".join(f"{_times(best)} for {cause}" for cause, best in parts)
    ends, verdict = f"the end of the ladder ({first}) as at its beginning ({against})", VERDICTS[found.verdict]
    sentences = [
        f"Forward and backward are {_times(whole)} ({_span(whole)}) as fast at {ends}.",
        f"The factors, {order}, are {listed}.",
        f"{_times(rest)} ({_span(rest)}) is unexplained: {verdict}{found.verdict_text}.",
    ]
    if found.objective is not None and (separate := found.objective.chain) is not None:
        sentences.append(f"The objective alone, at the end of the ladder, is {_times(separate)} ({_span(separate)}).")
    if found.whole.flop_ratio is not None and found.whole.step is not None:
        sentences += [f"FLOPs predict {found.whole.flop_ratio:.2f}x.", *_compare_with_flops(found.parts)]
        sentences.append(f"With data and optimizer a step is {_times(found.whole.step)} as fast.")
    sentences += [f"{line.what.capitalize()}: {line.ratio:.2f}x." for line in found.ladder.references]
    return " ".join(sentences)


def _compare_with_flops(parts: Iterable[Contribution]) -> list[str]:
    """List the factors by their verdict against FLOPs."""
    causes: dict[Prediction, list[str]] = {verdict: [] for verdict in get_args(Prediction)}
    for part in parts:
        if part.verdict is not None and part.flops_deviation is not None:
            causes[part.verdict].append(f"{part.cause} ({format_deviation(part.flops_deviation)})")
    listed = "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in causes.items() if names)
    scale = f"log of measured over predicted ratio; up to {FLOPS_TOLERANCE:.2f} is consistent with FLOPs"
    return [f"By factor, {listed} ({scale})."] if listed else []


def format_deviation(off: LogRatio) -> str:
    """Format a logarithm with half of its interval."""
    return f"{off.mean:+.2f}" if off.margin is None else f"{off.mean:+.2f} ± {off.margin:.2f}"


VERDICTS: dict[Agreement, str] = {
    "agree": "product and whole ratio ",
    "disagree": "an unknown factor acts, product and whole ratio ",
    "inconclusive": "more rounds or a calmer machine are needed to test the product: ",
}


@dataclass(frozen=True, slots=True)
class _LogThroughputs:
    """Log throughputs of configurations by round, and their FLOP-predicted log throughputs."""

    forward_backward: Logarithms  # forward and backward
    step: Logarithms
    flops: Mapping[Coordinates, float]

    def rounds(self, kept: Callable[[int], bool]) -> "_LogThroughputs":
        """Select rounds by their number."""
        apart, step = (
            {at: {number: value for number, value in rounds.items() if kept(number)} for at, rounds in logs.items()}
            for logs in (self.forward_backward, self.step)
        )
        return _LogThroughputs(apart, step, self.flops)

    def complete(self, configurations: Iterable[Coordinates]) -> "_LogThroughputs":
        """Select the rounds that have all of the configurations."""
        common = set.intersection(*({*self.forward_backward.get(at, {})} for at in configurations))
        return self.rounds(common.__contains__)

    def part(self, cause: str, ends: Ends, change: str = "", averaged: Weights | None = None) -> Contribution:
        """Return the ratio of two configurations, and its Shapley value if weights are given."""
        weights = difference_weights(*ends)
        return Contribution(
            cause=cause,
            change=change,
            chain=contrast(self.forward_backward, weights),
            shapley=None if averaged is None else contrast(self.forward_backward, averaged),
            step=contrast(self.step, weights),
            flop_ratio=self._predicted(weights),
            shapley_flop_ratio=None if averaged is None else self._predicted(averaged),
        )

    def _predicted(self, weights: Weights) -> float | None:
        """Return the FLOP-predicted ratio; None if a configuration was not measured."""
        weighed = {at: weight for at, weight in weights.items() if weight}
        if not all(at in self.flops for at in weighed):
            return None
        return math.exp(sum(weight * self.flops[at] for at, weight in weighed.items()))


def _log_throughputs(ladder: Ladder, records: Iterable[Record]) -> _LogThroughputs:
    where = {configuration.experiment: configuration.coordinates for configuration in ladder.configurations}
    apart, step, flops = dict[Coordinates, dict[int, float]](), dict[Coordinates, dict[int, float]](), {}
    for record in records:
        one, run = record.experiment, record.measured
        if one is None or not isinstance(run, Speed) or one.name not in where:
            continue
        at = where[one.name]
        step.setdefault(at, {})[run.round] = math.log(images_per_second(one, run))
        flops[at] = -math.log(run.flops.step / images_per_step(one, run))  # the same in every round
        if (rate := forward_backward_rate(one, run)) is not None:
            apart.setdefault(at, {})[run.round] = math.log(rate)
    return _LogThroughputs(apart, step, flops)


def _times(ratio: LogRatio | None) -> str:
    return "?" if ratio is None else f"{ratio.value:.2f}x"


def _span(ratio: LogRatio) -> str:
    return "no interval" if ratio.low is None or ratio.high is None else f"{ratio.low:.2f} to {ratio.high:.2f}"


def short_name(experiment: str) -> str:
    """Return an experiment's name without its settings."""
    return experiment.partition("[")[0]
