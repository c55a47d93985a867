"""Records of an explanation -> the parts of a ratio, their product beside the whole, and the answer in words."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import get_args

from bench.explain.contrasts import LogRatio, between, contrast, shapley, without
from bench.ladder import REST, Coordinates, Ladder
from bench.measure.throughput import forward_backward_rate, images_per_second, images_per_step
from bench.record import Record, Speed
from bench.statistics import AS_FLOPS_SAY, Agreement, Prediction, Rounds, agreement, at_most, prediction

Logarithms = Mapping[Coordinates, Rounds]


@dataclass(frozen=True, slots=True)
class Part:
    """What one cause changes, as a ratio of images a second. None: it was not measured."""

    cause: str
    change: str  # settings before and after
    chain: LogRatio | None  # of forward and backward, in the ladder's order
    shapley: LogRatio | None  # of the same, the mean over all orders, where all combinations were measured
    step: LogRatio | None  # of the whole step, in the ladder's order
    by_flops: float | None  # what the matrix products of forward and backward predict, in the ladder's order
    shapley_by_flops: float | None = None  # the same over all orders

    @property
    def best(self) -> LogRatio | None:
        """The value that depends on no order, where there is one."""
        return self.shapley or self.chain

    @property
    def best_by_flops(self) -> float | None:
        """What the matrix products predict of that value."""
        return self.shapley_by_flops if self.shapley else self.by_flops

    @property
    def off_flops(self) -> LogRatio | None:
        """That value over what is predicted of it."""
        return None if self.best is None or self.best_by_flops is None else self.best.over(self.best_by_flops)

    @property
    def verdict(self) -> Prediction | None:
        """Whether it is as FLOPs say."""
        return None if self.off_flops is None else prediction(self.off_flops.mean, self.off_flops.margin)


@dataclass(frozen=True, slots=True)
class Explained:
    """A ratio of forward and backward taken apart; the same of the whole step, with data and optimizer, beside it."""

    ladder: Ladder
    against: str
    first: str
    parts: tuple[Part, ...]
    objective: Part | None  # all rungs together, all factors as in the end; None where there are no factors
    product: Part  # of the parts
    whole: Part  # from rounds of the ends alone
    residue: LogRatio | None  # of forward and backward: the whole over the product
    step_residue: LogRatio | None
    verdict: Agreement

    @property
    def rounds(self) -> tuple[int, int]:
        """How many rounds the parts are from, and the whole."""
        parts, whole = (0 if one.chain is None else round(one.chain.freedom) + 1 for one in (self.product, self.whole))
        return parts, whole

    @property
    def judged(self) -> str:
        """The verdict in words, which say no more than the interval of what is left: its far end, rounded up."""
        if self.verdict != "agree":
            return self.verdict
        assert self.residue is not None
        assert self.residue.margin is not None
        percent = 100 * at_most(self.residue.mean, self.residue.margin)
        return f"agree within {math.ceil(10 * percent) / 10:.1f} %"


def explained(records: Iterable[Record]) -> Explained | None:
    """Take the ratio apart that a ladder's records are of; None where there is no ladder."""
    rows = list(records)
    ladder = next((record.measured for record in rows if isinstance(record.measured, Ladder)), None)
    if ladder is None:
        return None
    chain, before = ladder.chain, ladder.chain[len(ladder.factors) + (REST in ladder.causes)]
    begin, end = chain[0], chain[-1]
    measured = _figures(ladder, rows)
    of_parts, of_whole = (
        measured.rounds(lambda round_: round_ % 2 == 0),
        measured.rounds(lambda round_: round_ % 2 == 1),
    )
    values = shapley(len(ladder.causes), [factor.name for factor in ladder.factors]) if ladder.is_whole else []
    parts = [
        of_parts.part(cause, one, other, _change(ladder, cause), values[at] if values else None)
        for at, (cause, (one, other)) in enumerate(zip(ladder.steps, pairwise(chain), strict=True))
    ]
    has_objective = before not in (begin, end)
    product = of_parts.complete(chain).part("product of the parts", begin, end)
    whole = of_whole.part("whole, measured apart", begin, end)
    residue = _residue(whole.chain, product.chain)
    return Explained(
        ladder=ladder,
        against=ladder.cells[0].experiment,
        first=ladder.cells[len(chain) - 1].experiment,
        parts=tuple(parts),
        objective=of_parts.part("objective, all else equal", before, end) if has_objective else None,
        product=product,
        whole=whole,
        residue=residue,
        step_residue=_residue(whole.step, product.step),
        verdict="inconclusive" if residue is None else agreement(residue.mean, residue.margin),
    )


def in_words(found: Explained) -> str:
    """Say what the figures say, in a few sentences."""
    whole, parts = found.whole.chain, [(part.cause, part.best) for part in found.parts]
    if whole is None or found.residue is None or any(best is None for _, best in parts):
        return "Not all cells were measured: nothing can be said of the whole."
    is_averaged = found.parts[0].shapley is not None
    listed = ", ".join(f"{_times(best)} {'' if at else 'is '}{cause}" for at, (cause, best) in enumerate(parts))
    ends = f"where the ladder ends ({short_name(found.first)}) as where it begins ({short_name(found.against)}"
    order = "over all orders" if is_averaged else "in this order"
    rest = f"{_times(found.residue)} is not explained ({_span(found.residue)}): {VERDICTS[found.verdict]}{found.judged}"
    sentences = [
        f"Forward and backward are {_times(whole)} as fast {ends}; {_span(whole)}).",
        f"Of that, {order}, {listed}; {rest}.",
    ]
    if found.objective is not None and found.objective.chain is not None:
        told = f"{_times(found.objective.chain)} ({_span(found.objective.chain)})"
        sentences.append(f"The objective alone, all else as where the ladder ends, is {told}.")
    if found.whole.by_flops is not None and found.whole.step is not None:
        sentences += [f"FLOPs predict {found.whole.by_flops:.2f}x.", *_against_flops(found.parts)]
        sentences.append(f"With data and optimizer a step is {_times(found.whole.step)} as fast.")
    sentences += [f"{line.what.capitalize()}: {line.ratio:.2f}x." for line in found.ladder.lines]
    return " ".join(sentences)


def _against_flops(parts: Iterable[Part]) -> list[str]:
    """Say of each part whether it is as FLOPs say, by verdicts."""
    causes: dict[Prediction, list[str]] = {verdict: [] for verdict in get_args(Prediction)}
    for part in parts:
        if part.verdict is not None and part.off_flops is not None:
            causes[part.verdict].append(f"{part.cause} ({off_in_words(part.off_flops)})")
    told = [f"{verdict}: {', '.join(listed)}" for verdict, listed in causes.items() if listed]
    scale = f"in brackets the logarithm of measured over predicted, up to {AS_FLOPS_SAY:.2f} is as FLOPs say"
    return [f"Cause by cause, {'; '.join(told)} ({scale})."] if told else []


def off_in_words(off: LogRatio) -> str:
    """Write a logarithm with half of its interval."""
    return f"{off.mean:+.2f}" if off.margin is None else f"{off.mean:+.2f} ± {off.margin:.2f}"


VERDICTS: dict[Agreement, str] = {
    "agree": "parts and whole ",
    "disagree": "something acts that is none of the parts, they and the whole ",
    "inconclusive": "too few rounds or too restless a machine to say whether the parts make the whole: ",
}


@dataclass(frozen=True, slots=True)
class _Figures:
    """Logarithms of cells' images a second, round by round, and of what the FLOPs of an image make of them."""

    apart: Logarithms  # forward and backward
    step: Logarithms
    flops: Mapping[Coordinates, float]

    def rounds(self, kept: Callable[[int], bool]) -> "_Figures":
        """Return what rounds of some numbers have."""

        def of(logarithms: Logarithms) -> Logarithms:
            return {at: {r: value for r, value in rounds.items() if kept(r)} for at, rounds in logarithms.items()}

        return _Figures(of(self.apart), of(self.step), self.flops)

    def complete(self, cells: Iterable[Coordinates]) -> "_Figures":
        """Return the rounds that have all of the cells."""
        common = set.intersection(*({*self.apart.get(at, {})} for at in cells))
        return self.rounds(common.__contains__)

    def part(
        self,
        cause: str,
        one: Coordinates,
        other: Coordinates,
        change: str = "",
        averaged: Mapping[Coordinates, float] | None = None,
    ) -> Part:
        """Return what lies between two cells, and a value averaged over orders where its weights are given."""
        weights = between(one, other)
        return Part(
            cause=cause,
            change=change,
            chain=contrast(self.apart, weights),
            shapley=None if averaged is None else contrast(self.apart, averaged),
            step=contrast(self.step, weights),
            by_flops=self._counted(weights),
            shapley_by_flops=None if averaged is None else self._counted(averaged),
        )

    def _counted(self, weights: Mapping[Coordinates, float]) -> float | None:
        """Return the weighted product of what FLOPs make of cells; None where one of them was not measured."""
        weighed = {at: weight for at, weight in weights.items() if weight}
        if not all(at in self.flops for at in weighed):
            return None
        return math.exp(sum(weight * self.flops[at] for at, weight in weighed.items()))


def _figures(ladder: Ladder, records: Iterable[Record]) -> _Figures:
    where = {cell.experiment: cell.coordinates for cell in ladder.cells}
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
    return _Figures(apart, step, flops)


def _residue(whole: LogRatio | None, product: LogRatio | None) -> LogRatio | None:
    return None if whole is None or product is None else without(whole, product)


def _change(ladder: Ladder, cause: str) -> str:
    told = {factor.name: (factor.before, factor.after.partition("=")[2]) for factor in ladder.factors}
    return " -> ".join(told[cause]) if cause in told else ""


def _times(ratio: LogRatio | None) -> str:
    return "?" if ratio is None else f"{ratio.value:.2f}x"


def _span(ratio: LogRatio) -> str:
    return "no interval" if ratio.low is None or ratio.high is None else f"{ratio.low:.2f} to {ratio.high:.2f}"


def short_name(experiment: str) -> str:
    """Return a name without its settings, which all cells share or which are causes."""
    return experiment.partition("[")[0]
