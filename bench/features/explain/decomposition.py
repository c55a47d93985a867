"""Decomposition of a throughput ratio from the records of a ladder: contrasts of log throughputs over rounds."""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from statistics import fmean, stdev
from typing import TypeVar

from scipy.special import stdtrit

from bench.data.caption_lengths import describe_captions
from bench.experiment.fields import PACK_DATA
from bench.features.explain.factors import INPUT_CAUSES
from bench.features.explain.ladder import HEAD, PADDING, REST, WAITING, Coordinates, Ladder
from bench.measure.throughput import (
    data_phase_share,
    forward_backward_rate,
    images_per_step,
    undisturbed_images_per_second,
)
from bench.measure.windows import describe_waits
from bench.records.record import Record, Speed
from bench.statistics.intervals import CONFIDENCE
from bench.statistics.ratios import Rounds
from bench.statistics.verdicts import (
    Agreement,
    Prediction,
    judge_agreement,
    judge_flops_prediction,
    max_relative_difference,
)

C = TypeVar("C", bound=Hashable)


@dataclass(frozen=True, slots=True)
class LogRatio:
    """The logarithm of a ratio: mean over rounds and standard error of the mean, None if it is unknown."""

    mean: float
    error: float | None
    degrees_of_freedom: float  # of the error

    @property
    def value(self) -> float:
        """The ratio."""
        return math.exp(self.mean)

    @property
    def margin(self) -> float | None:
        """Half the width of the logarithm's 95 % interval, by Student's t."""
        if self.error is None:
            return None
        return self.error * float(stdtrit(self.degrees_of_freedom, (1 + CONFIDENCE) / 2))

    @property
    def low(self) -> float | None:
        """The lower bound of the ratio."""
        return None if self.margin is None else math.exp(self.mean - self.margin)

    @property
    def high(self) -> float | None:
        """The upper bound of the ratio."""
        return None if self.margin is None else math.exp(self.mean + self.margin)


def contrast(logarithms: Mapping[C, Rounds], weights: Mapping[C, float]) -> LogRatio | None:
    """Return a weighted sum of logarithms over the rounds that have all of them; None if there is no such round.

    Rounds are independent; configurations within a round may be correlated.
    """
    weighted = [(logarithms.get(configuration, {}), weight) for configuration, weight in weights.items() if weight]
    rounds = sorted(set.intersection(*(set(logs) for logs, _ in weighted))) if weighted else []
    if not rounds:
        return None
    sums = [sum(weight * logs[round_] for logs, weight in weighted) for round_ in rounds]
    error = stdev(sums) / math.sqrt(len(sums)) if len(sums) > 1 else None
    return LogRatio(fmean(sums), error, len(sums) - 1)


def divide(whole: LogRatio, parts: LogRatio) -> LogRatio:
    """Divide a ratio by one from other rounds, whose error is independent.

    Degrees of freedom: Welch 1947, "The generalization of 'Student's' problem", Biometrika 34.
    """
    if whole.error is None or parts.error is None:
        return LogRatio(whole.mean - parts.mean, None, 0)
    variance = whole.error**2 + parts.error**2
    spread = whole.error**4 / whole.degrees_of_freedom + parts.error**4 / parts.degrees_of_freedom
    degrees_of_freedom = variance**2 / spread if spread else whole.degrees_of_freedom + parts.degrees_of_freedom
    return LogRatio(whole.mean - parts.mean, math.sqrt(variance), degrees_of_freedom)


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
    # Whole step, in the ladder's order; with shards without the time that it waits for data, but for causes that change
    # what the loader does.
    step: LogRatio | None
    flop_ratio: float | None  # prediction by the matrix products of forward and backward, in the ladder's order
    shapley_flop_ratio: float | None = None  # the same prediction, mean over all orders
    saved_seconds: float | None = None  # of the same steps per image, in the ladder's order

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
        return None if deviation is None else judge_flops_prediction(deviation.mean, deviation.margin)


@dataclass(frozen=True, slots=True)
class Decomposition:
    """The decomposition of a ratio, of forward and backward and of the whole step."""

    ladder: Ladder
    baseline: str
    experiment: str
    parts: tuple[Contribution, ...]
    waiting: Contribution | None  # of whole steps, what the parts leave out; None without shards
    objective: Contribution | None  # all stages together, with factors as at the end; None if there are no factors
    method: Contribution | None  # text tower, head and loss, with factors as at the end; None: nothing comes before
    product: Contribution  # of all parts
    whole: Contribution  # from rounds of the two ends
    unexplained: LogRatio | None  # whole over product, of forward and backward
    step_unexplained: LogRatio | None
    verdict: Agreement
    captions: str  # that the runs read
    waits: str  # a sentence on the steps that other work kept from a core

    @property
    def rounds(self) -> tuple[int, int]:
        """The numbers of rounds for the parts and for the whole."""
        ratios = self.product.chain, self.whole.chain
        parts, whole = (0 if ratio is None else round(ratio.degrees_of_freedom) + 1 for ratio in ratios)
        return parts, whole

    @property
    def verdict_text(self) -> str:
        """The verdict; agreement with the far end of the interval of the unexplained factor in percent, rounded up."""
        ratio = self.unexplained
        if self.verdict != "agree" or ratio is None or ratio.margin is None:
            return self.verdict
        percent = 100 * max_relative_difference(ratio.mean, ratio.margin)
        return f"agree within {math.ceil(10 * percent) / 10:.1f} %"


def decompose(records: Iterable[Record]) -> Decomposition | None:
    """Decompose the ratio of the ladder in the records; None if there is no ladder."""
    records = list(records)
    ladder = next((record.measured for record in records if isinstance(record.measured, Ladder)), None)
    if ladder is None:
        return None
    chain, before = ladder.chain, ladder.chain[len(ladder.factors) + (REST in ladder.causes)]
    unpadded = chain[ladder.steps.index(PADDING) + 1] if PADDING in ladder.steps else before
    begin, end = chain[0], chain[-1]
    methods = unpadded, chain[ladder.steps.index(HEAD) + 1] if HEAD in ladder.steps else end
    measured = _log_throughputs(ladder, records)
    even_rounds = measured.select_rounds(lambda round_: round_ % 2 == 0)
    odd_rounds = measured.select_rounds(lambda round_: round_ % 2 == 1)
    factors = [factor.name for factor in ladder.factors]
    averages: Sequence[Weights] = [NO_WEIGHTS] * len(ladder.steps)
    if ladder.is_factorial:
        averages = shapley_weights(len(ladder.causes), factors)
    changes = {factor.name: f"{factor.before} -> {factor.after.partition('=')[2]}" for factor in ladder.factors}
    parts = [
        even_rounds.contribution(cause, ends, changes.get(cause, ""), weights, has_waiting=cause in INPUT_CAUSES)
        for cause, ends, weights in zip(ladder.steps, pairwise(chain), averages, strict=True)
    ]
    without_waiting = [
        ends for cause, ends in zip(ladder.steps, pairwise(chain), strict=True) if cause not in INPUT_CAUSES
    ]
    has_objective = before not in (begin, end)
    complete = set.intersection(*({*even_rounds.forward_backward.get(at, {})} for at in chain))
    in_complete_rounds = even_rounds.select_rounds(complete.__contains__)
    product = in_complete_rounds.contribution("product of the parts", (begin, end))
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
        waiting=even_rounds.waiting_contribution(without_waiting),
        objective=even_rounds.contribution("objective, all else equal", (before, end), has_waiting=False)
        if has_objective
        else None,
        method=even_rounds.contribution("the method", methods, has_waiting=False)
        if begin != methods[0] != methods[1]
        else None,
        product=product,
        whole=whole,
        unexplained=unexplained,
        step_unexplained=step_unexplained,
        verdict="inconclusive" if unexplained is None else judge_agreement(unexplained.mean, unexplained.margin),
        captions=describe_captions(record.experiment for record in records if record.experiment),
        waits=describe_waits(records, {configuration.experiment for configuration in ladder.configurations}),
    )


@dataclass(frozen=True, slots=True)
class _LogThroughputs:
    """Log throughputs of configurations by round, measured and FLOP-predicted."""

    forward_backward: Logarithms
    step: Logarithms
    computing: Logarithms  # of the share of a step's time in which it does not wait for data; 0 without shards
    flops: Logarithms  # of forward and backward, the same in every round: of one round

    def select_rounds(self, is_selected: Callable[[int], bool]) -> "_LogThroughputs":
        """Select rounds by their number."""
        forward_backward, step, computing = (
            {at: {round_: log for round_, log in rounds.items() if is_selected(round_)} for at, rounds in logs.items()}
            for logs in (self.forward_backward, self.step, self.computing)
        )
        return replace(self, forward_backward=forward_backward, step=step, computing=computing)

    def contribution(
        self,
        cause: str,
        ends: tuple[Coordinates, Coordinates],
        change: str = "",
        shapley_weights: Weights = NO_WEIGHTS,
        *,
        has_waiting: bool = True,
    ) -> Contribution:
        """Return the ratio of two configurations, and its Shapley value if weights are given.

        Whole steps are taken with the time that they wait for data, or without.
        """
        weights = dict(zip(ends, (-1.0, 1.0), strict=True))
        steps = self.step if has_waiting else self._steps_without_waiting()
        before, after = (steps.get(at, {}) for at in ends)
        saved = [math.exp(-before[round_]) - math.exp(-after[round_]) for round_ in before.keys() & after.keys()]
        flops, shapley_flops = (contrast(self.flops, one) for one in (weights, shapley_weights))
        return Contribution(
            cause=cause,
            change=change,
            chain=contrast(self.forward_backward, weights),
            shapley=contrast(self.forward_backward, shapley_weights),
            step=contrast(steps, weights),
            flop_ratio=None if flops is None else flops.value,
            shapley_flop_ratio=None if shapley_flops is None else shapley_flops.value,
            saved_seconds=fmean(saved) if saved else None,
        )

    def waiting_contribution(self, changes: Sequence[tuple[Coordinates, Coordinates]]) -> Contribution | None:
        """Return what waiting for data adds to the ratio over changes that leave it out; None if there is none."""
        if not changes or not any(any(rounds.values()) for rounds in self.computing.values()):
            return None
        weights = defaultdict[Coordinates, float](float)
        for before, after in changes:
            weights[before] -= 1
            weights[after] += 1
        computing = self._steps_without_waiting()
        waited = {
            at: fmean(math.exp(-log) - math.exp(-computing[at][round_]) for round_, log in rounds.items())
            for at, rounds in self.step.items()
            if rounds
        }
        first, last = (1e6 * waited.get(at, math.nan) for at in (changes[0][0], changes[-1][1]))
        return Contribution(
            cause=WAITING,
            change=f"{first:,.0f} us/image -> {last:,.0f} us/image",
            chain=None,
            shapley=None,
            step=contrast(self.computing, weights),
            flop_ratio=None,
            saved_seconds=-sum(weight * waited.get(at, math.nan) for at, weight in weights.items() if weight),
        )

    def _steps_without_waiting(self) -> Logarithms:
        return {
            at: {round_: log - self.computing[at][round_] for round_, log in rounds.items()}
            for at, rounds in self.step.items()
        }


def _log_throughputs(ladder: Ladder, records: Iterable[Record]) -> _LogThroughputs:
    coordinates = {configuration.experiment: configuration.coordinates for configuration in ladder.configurations}
    forward_backward, step, computing, flops = (defaultdict[Coordinates, dict[int, float]](dict) for _ in range(4))
    for record in records:
        experiment, run = record.experiment, record.measured
        if experiment is None or not isinstance(run, Speed) or experiment.name not in coordinates:
            continue
        at = coordinates[experiment.name]
        rate = undisturbed_images_per_second(experiment, run)
        if rate is not None:
            step[at][run.round] = math.log(rate)
        waiting = data_phase_share(run) if experiment.input.data != PACK_DATA else 0.0
        computing[at][run.round] = math.log1p(-waiting)
        flops[at][0] = -math.log(run.flops.step / images_per_step(experiment, run))
        if (rate := forward_backward_rate(experiment, run)) is not None:
            forward_backward[at][run.round] = math.log(rate)
    return _LogThroughputs(forward_backward, step, computing, flops)


def shapley_weights(num_causes: int, factors: Sequence[str]) -> list[dict[Coordinates, float]]:
    """Return the weights of configurations in the Shapley value of each factor, then of each stage.

    The players are the factors and the objective; a value is the mean change by a player over all orders. Each stage
    has its share of the objective, which changes as one player. A configuration is the number of stages before it and
    the set of changed factors. The values sum to the last configuration minus the first.
    Source: Shapley 1953, "A value for n-person games", Contributions to the Theory of Games 2.
    """
    players = len(factors) + 1
    share_of_orders = [1 / (players * math.comb(players - 1, before)) for before in range(players)]
    subsets = [frozenset(subset) for count in range(players) for subset in combinations(factors, count)]
    values = list[dict[Coordinates, float]]()
    for factor in factors:
        weights = defaultdict[Coordinates, float](float)
        for subset in subsets:
            if factor in subset:
                continue
            for stage, before in ((0, len(subset)), (num_causes, len(subset) + 1)):
                weights[stage, subset | {factor}] += share_of_orders[before]
                weights[stage, subset] -= share_of_orders[before]
        values.append(weights)
    for stage in range(num_causes):
        signs = ((stage, -1), (stage + 1, 1))
        values.append({(at, subset): sign * share_of_orders[len(subset)] for subset in subsets for at, sign in signs})
    return values
