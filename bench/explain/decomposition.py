"""Decomposition of a throughput ratio from the records of a ladder: factors, their product, the whole and a summary."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
NO_WEIGHTS: Weights = {}


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
        if self.best is None or self.best_flop_ratio is None:
            return None
        return replace(self.best, mean=self.best.mean - math.log(self.best_flop_ratio))

    @property
    def verdict(self) -> Prediction | None:
        """Whether `best` is consistent with FLOPs."""
        deviation = self.flops_deviation
        return None if deviation is None else judge_prediction(deviation.mean, deviation.margin)


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
        ratios = self.product.chain, self.whole.chain
        parts, whole = (0 if ratio is None else round(ratio.degrees_of_freedom) + 1 for ratio in ratios)
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
    records = list(records)
    ladder = next((record.measured for record in records if isinstance(record.measured, Ladder)), None)
    if ladder is None:
        return None
    chain, before = ladder.chain, ladder.chain[len(ladder.factors) + (REST in ladder.causes)]
    begin, end = chain[0], chain[-1]
    measured = _log_throughputs(ladder, records)
    even_rounds = measured.select_rounds(lambda round_: round_ % 2 == 0)
    odd_rounds = measured.select_rounds(lambda round_: round_ % 2 == 1)
    factors = [factor.name for factor in ladder.factors]
    averages: Sequence[Weights] = [NO_WEIGHTS] * len(ladder.steps)
    if ladder.is_factorial:
        averages = shapley(len(ladder.causes), factors)
    changes = {factor.name: f"{factor.before} -> {factor.after.partition('=')[2]}" for factor in ladder.factors}
    parts = [
        even_rounds.contribution(cause, ends, changes.get(cause, ""), weights)
        for cause, ends, weights in zip(ladder.steps, pairwise(chain), averages, strict=True)
    ]
    has_objective = before not in (begin, end)
    product = even_rounds.select_complete(chain).contribution("product of the parts", (begin, end))
    whole = odd_rounds.contribution("whole, measured apart", (begin, end))
    unexplained, step_unexplained = (
        None if one is None or other is None else divide(one, other)
        for one, other in ((whole.chain, product.chain), (whole.step, product.step))
    )
    return Decomposition(
        ladder=ladder,
        baseline=ladder.configurations[0].experiment,
        experiment=ladder.configurations[len(chain) - 1].experiment,
        parts=tuple(parts),
        objective=even_rounds.contribution("objective, all else equal", (before, end)) if has_objective else None,
        product=product,
        whole=whole,
        unexplained=unexplained,
        step_unexplained=step_unexplained,
        verdict="inconclusive" if unexplained is None else judge_agreement(unexplained.mean, unexplained.margin),
    )


def summarize(found: Decomposition) -> str:
    """Summarise a decomposition in a few sentences."""
    whole, rest, parts = found.whole.chain, found.unexplained, [(part.cause, part.best) for part in found.parts]
    if whole is None or rest is None or any(best is None for _, best in parts):
        return "Some configurations were not measured, so the ratio cannot be decomposed."
    experiment, baseline = short_name(found.experiment), short_name(found.baseline)
    order = "over all orders" if found.parts[0].shapley is not None else "in this order"
    factors = ", ".join(f"{_format_ratio(best)} for {cause}" for cause, best in parts)
    ends, verdict = f"the end of the ladder ({experiment}) as at its beginning ({baseline})", VERDICTS[found.verdict]
    sentences = [
        f"Forward and backward are {_format_with_interval(whole)} as fast at {ends}.",
        f"The factors, {order}, are {factors}.",
        f"{_format_with_interval(rest)} is unexplained: {verdict}{found.verdict_text}.",
    ]
    if found.objective is not None and (objective := found.objective.chain) is not None:
        sentences.append(f"The objective alone, at the end of the ladder, is {_format_with_interval(objective)}.")
    if found.whole.flop_ratio is not None and found.whole.step is not None:
        sentences += [f"FLOPs predict {found.whole.flop_ratio:.2f}x.", *_compare_with_flops(found.parts)]
        sentences.append(f"With data and optimizer a step is {_format_ratio(found.whole.step)} as fast.")
    sentences += [f"{line.what.capitalize()}: {line.ratio:.2f}x." for line in found.ladder.references]
    return " ".join(sentences)


def _compare_with_flops(parts: Iterable[Contribution]) -> list[str]:
    """List the factors by their verdict against FLOPs."""
    causes: dict[Prediction, list[str]] = {verdict: [] for verdict in get_args(Prediction)}
    for part in parts:
        if part.verdict and part.flops_deviation:
            causes[part.verdict].append(f"{part.cause} ({format_deviation(part.flops_deviation)})")
    listed = "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in causes.items() if names)
    scale = f"log of measured over predicted ratio; up to {FLOPS_TOLERANCE:.2f} is consistent with FLOPs"
    return [f"By factor, {listed} ({scale})."] if listed else []


def format_deviation(ratio: LogRatio) -> str:
    """Format a logarithm with half of its interval."""
    return f"{ratio.mean:+.2f}" if ratio.margin is None else f"{ratio.mean:+.2f} ± {ratio.margin:.2f}"


VERDICTS: dict[Agreement, str] = {
    "agree": "product and whole ratio ",
    "disagree": "an unknown factor acts, product and whole ratio ",
    "inconclusive": "more rounds or a calmer machine are needed to test the product: ",
}


@dataclass(frozen=True, slots=True)
class _LogThroughputs:
    """Log throughputs of configurations by round, measured and FLOP-predicted."""

    forward_backward: Logarithms
    step: Logarithms
    flops: Logarithms  # of forward and backward, the same in every round: of one round

    def select_rounds(self, is_selected: Callable[[int], bool]) -> "_LogThroughputs":
        """Select rounds by their number."""
        forward_backward, step = (
            {at: {round_: log for round_, log in rounds.items() if is_selected(round_)} for at, rounds in logs.items()}
            for logs in (self.forward_backward, self.step)
        )
        return _LogThroughputs(forward_backward, step, self.flops)

    def select_complete(self, configurations: Iterable[Coordinates]) -> "_LogThroughputs":
        """Select the rounds that have all of the configurations."""
        common = set.intersection(*({*self.forward_backward.get(at, {})} for at in configurations))
        return self.select_rounds(common.__contains__)

    def contribution(
        self, cause: str, ends: tuple[Coordinates, Coordinates], change: str = "", shapley_weights: Weights = NO_WEIGHTS
    ) -> Contribution:
        """Return the ratio of two configurations, and its Shapley value if weights are given."""
        weights = difference_weights(*ends)
        flops, shapley_flops = (contrast(self.flops, one) for one in (weights, shapley_weights))
        return Contribution(
            cause=cause,
            change=change,
            chain=contrast(self.forward_backward, weights),
            shapley=contrast(self.forward_backward, shapley_weights),
            step=contrast(self.step, weights),
            flop_ratio=flops and flops.value,
            shapley_flop_ratio=shapley_flops and shapley_flops.value,
        )


def _log_throughputs(ladder: Ladder, records: Iterable[Record]) -> _LogThroughputs:
    coordinates = {configuration.experiment: configuration.coordinates for configuration in ladder.configurations}
    forward_backward, step, flops = (defaultdict[Coordinates, dict[int, float]](dict) for _ in range(3))
    for record in records:
        experiment, run = record.experiment, record.measured
        if experiment is None or not isinstance(run, Speed) or experiment.name not in coordinates:
            continue
        at = coordinates[experiment.name]
        step[at][run.round] = math.log(images_per_second(experiment, run))
        flops[at][0] = -math.log(run.flops.step / images_per_step(experiment, run))
        if (rate := forward_backward_rate(experiment, run)) is not None:
            forward_backward[at][run.round] = math.log(rate)
    return _LogThroughputs(forward_backward, step, flops)


def _format_ratio(ratio: LogRatio | None) -> str:
    return "?" if ratio is None else f"{ratio.value:.2f}x"


def _format_with_interval(ratio: LogRatio) -> str:
    has_interval = ratio.low is not None and ratio.high is not None
    return f"{_format_ratio(ratio)} ({f'{ratio.low:.2f} to {ratio.high:.2f}' if has_interval else 'no interval'})"


def short_name(experiment: str) -> str:
    """Return an experiment's name without its settings."""
    return experiment.partition("[")[0]
