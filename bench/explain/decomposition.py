"""Decomposition of a throughput ratio from the records of a ladder: factors, their product, the whole and a summary."""

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
Weights = Mapping[Coordinates, float]
Ends = tuple[Coordinates, Coordinates]


@dataclass(frozen=True, slots=True)
class Part:
    """The throughput ratio of one factor; None if it was not measured."""

    cause: str
    change: str  # settings before and after
    chain: LogRatio | None  # forward and backward, in the ladder's order
    shapley: LogRatio | None  # forward and backward, mean over all orders, if all combinations were measured
    step: LogRatio | None  # whole step, in the ladder's order
    by_flops: float | None  # prediction by the matrix products of forward and backward, in the ladder's order
    shapley_by_flops: float | None = None  # the same prediction, mean over all orders

    @property
    def best(self) -> LogRatio | None:
        """The Shapley value if there is one, else the value in the ladder's order."""
        return self.shapley or self.chain

    @property
    def best_by_flops(self) -> float | None:
        """The FLOP-predicted value of `best`."""
        return self.shapley_by_flops if self.shapley else self.by_flops

    @property
    def off_flops(self) -> LogRatio | None:
        """The ratio of `best` to its FLOP-predicted value."""
        return None if self.best is None or self.best_by_flops is None else self.best.over(self.best_by_flops)

    @property
    def verdict(self) -> Prediction | None:
        """Whether `best` is consistent with FLOPs."""
        return None if self.off_flops is None else prediction(self.off_flops.mean, self.off_flops.margin)


@dataclass(frozen=True, slots=True)
class Explained:
    """The decomposition of a ratio, of forward and backward and of the whole step."""

    ladder: Ladder
    against: str
    first: str
    parts: tuple[Part, ...]
    objective: Part | None  # all rungs together, with factors as at the end; None if there are no factors
    product: Part  # of all parts
    whole: Part  # from rounds of the two ends
    residue: LogRatio | None  # whole over product, of forward and backward
    step_residue: LogRatio | None
    verdict: Agreement

    @property
    def rounds(self) -> tuple[int, int]:
        """The numbers of rounds for the parts and for the whole."""
        parts, whole = (0 if one.chain is None else round(one.chain.freedom) + 1 for one in (self.product, self.whole))
        return parts, whole

    @property
    def judged(self) -> str:
        """The verdict; agreement with the far end of the residue's interval in percent, rounded up."""
        if self.verdict != "agree":
            return self.verdict
        assert self.residue is not None
        assert self.residue.margin is not None
        percent = 100 * at_most(self.residue.mean, self.residue.margin)
        return f"agree within {math.ceil(10 * percent) / 10:.1f} %"


def explained(records: Iterable[Record]) -> Explained | None:
    """Decompose the ratio of the ladder in the records; None if there is no ladder."""
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
    changes = {factor.name: f"{factor.before} -> {factor.after.partition('=')[2]}" for factor in ladder.factors}
    parts = [
        of_parts.part(cause, ends, changes.get(cause, ""), values[at] if values else None)
        for at, (cause, ends) in enumerate(zip(ladder.steps, pairwise(chain), strict=True))
    ]
    has_objective = before not in (begin, end)
    product = of_parts.complete(chain).part("product of the parts", (begin, end))
    whole = of_whole.part("whole, measured apart", (begin, end))
    residue, step_residue = (
        None if one is None or other is None else without(one, other)
        for one, other in ((whole.chain, product.chain), (whole.step, product.step))
    )
    return Explained(
        ladder=ladder,
        against=ladder.cells[0].experiment,
        first=ladder.cells[len(chain) - 1].experiment,
        parts=tuple(parts),
        objective=of_parts.part("objective, all else equal", (before, end)) if has_objective else None,
        product=product,
        whole=whole,
        residue=residue,
        step_residue=step_residue,
        verdict="inconclusive" if residue is None else agreement(residue.mean, residue.margin),
    )


def in_words(found: Explained) -> str:
    """Summarise a decomposition in a few sentences."""
    whole, rest, parts = found.whole.chain, found.residue, [(part.cause, part.best) for part in found.parts]
    if whole is None or rest is None or any(best is None for _, best in parts):
        return "Some configurations were not measured, so the ratio cannot be decomposed."
    first, against = short_name(found.first), short_name(found.against)
    order = "over all orders" if found.parts[0].shapley is not None else "in this order"
    listed = ", ".join(f"{_times(best)} for {cause}" for cause, best in parts)
    ends, verdict = f"the end of the ladder ({first}) as at its beginning ({against})", VERDICTS[found.verdict]
    sentences = [
        f"Forward and backward are {_times(whole)} ({_span(whole)}) as fast at {ends}.",
        f"The factors, {order}, are {listed}; {_times(rest)} ({_span(rest)}) is unexplained: {verdict}{found.judged}.",
    ]
    if found.objective is not None and (alone := found.objective.chain) is not None:
        sentences.append(f"The objective alone, at the end of the ladder, is {_times(alone)} ({_span(alone)}).")
    if found.whole.by_flops is not None and found.whole.step is not None:
        sentences += [f"FLOPs predict {found.whole.by_flops:.2f}x.", *_against_flops(found.parts)]
        sentences.append(f"With data and optimizer a step is {_times(found.whole.step)} as fast.")
    sentences += [f"{line.what.capitalize()}: {line.ratio:.2f}x." for line in found.ladder.lines]
    return " ".join(sentences)


def _against_flops(parts: Iterable[Part]) -> list[str]:
    """List the factors by their verdict against FLOPs."""
    causes: dict[Prediction, list[str]] = {verdict: [] for verdict in get_args(Prediction)}
    for part in parts:
        if part.verdict is not None and part.off_flops is not None:
            causes[part.verdict].append(f"{part.cause} ({off_in_words(part.off_flops)})")
    listed = "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in causes.items() if names)
    scale = f"log of measured over predicted ratio; up to {AS_FLOPS_SAY:.2f} is consistent with FLOPs"
    return [f"By factor, {listed} ({scale})."] if listed else []


def off_in_words(off: LogRatio) -> str:
    """Format a logarithm with half of its interval."""
    return f"{off.mean:+.2f}" if off.margin is None else f"{off.mean:+.2f} ± {off.margin:.2f}"


VERDICTS: dict[Agreement, str] = {
    "agree": "product and whole ratio ",
    "disagree": "an unknown factor acts, product and whole ratio ",
    "inconclusive": "more rounds or a calmer machine are needed to test the product: ",
}


@dataclass(frozen=True, slots=True)
class _Figures:
    """Log throughputs of configurations by round, and their FLOP-predicted log throughputs."""

    apart: Logarithms  # forward and backward
    step: Logarithms
    flops: Mapping[Coordinates, float]

    def rounds(self, kept: Callable[[int], bool]) -> "_Figures":
        """Select rounds by their number."""
        apart, step = (
            {at: {number: value for number, value in rounds.items() if kept(number)} for at, rounds in logs.items()}
            for logs in (self.apart, self.step)
        )
        return _Figures(apart, step, self.flops)

    def complete(self, cells: Iterable[Coordinates]) -> "_Figures":
        """Select the rounds that have all of the configurations."""
        common = set.intersection(*({*self.apart.get(at, {})} for at in cells))
        return self.rounds(common.__contains__)

    def part(self, cause: str, ends: Ends, change: str = "", averaged: Weights | None = None) -> Part:
        """Return the ratio of two configurations, and its Shapley value if weights are given."""
        weights = between(*ends)
        return Part(
            cause=cause,
            change=change,
            chain=contrast(self.apart, weights),
            shapley=None if averaged is None else contrast(self.apart, averaged),
            step=contrast(self.step, weights),
            by_flops=self._counted(weights),
            shapley_by_flops=None if averaged is None else self._counted(averaged),
        )

    def _counted(self, weights: Weights) -> float | None:
        """Return the FLOP-predicted ratio; None if a configuration was not measured."""
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


def _times(ratio: LogRatio | None) -> str:
    return "?" if ratio is None else f"{ratio.value:.2f}x"


def _span(ratio: LogRatio) -> str:
    return "no interval" if ratio.low is None or ratio.high is None else f"{ratio.low:.2f} to {ratio.high:.2f}"


def short_name(experiment: str) -> str:
    """Return an experiment's name without its settings."""
    return experiment.partition("[")[0]
