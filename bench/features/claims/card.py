"""A claim and records -> a card: counted and measured ratios, the ladder to the published ratio, the verdict.

Only evidence that meets the conditions of the claim enters the ladder and the verdict.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.experiment.experiments import HEADLINE
from bench.features.claims.claims import Pair, PaperClaim, PredictedRatios, read_predictions
from bench.features.claims.evidence import PERCENT, PairEvidence, find_evidence
from bench.features.claims.judgement import (
    CLAIM_ACCURACY_TOLERANCE,
    CLAIM_TOLERANCE,
    ClaimJudgement,
    PublishedFigure,
    judge_claim,
)
from bench.records.record import KINDS, Record
from bench.statistics.accuracies import Estimate
from bench.statistics.intervals import Interval

PairName = Literal["published", "controlled"]
Basis = Literal["measured", "counted", "unexplained"]
REST = "not explained"
METHOD, OTHER_SETTINGS = "method, no padding", "the recipes' other settings"
PADDING, SIZES = "captions' padding", "image sizes of the recipes"
SMALLEST_FACTOR = 0.001  # of a logarithm; a counted factor below it is left out


@dataclass(frozen=True, slots=True)
class RatioFactor:
    """A factor of the published ratio, with its 95 % interval if it was measured."""

    cause: str
    value: float  # a ratio
    low: float | None
    high: float | None
    basis: Basis
    source: str  # what it was counted or measured on


@dataclass(frozen=True, slots=True)
class NamedEvidence:
    """Evidence with the pair of experiments that it is on."""

    name: PairName
    pair: Pair
    evidence: PairEvidence


@dataclass(frozen=True, slots=True)
class ClaimCard:
    """A claim with all that is known of it."""

    claim: PaperClaim
    prediction: PredictedRatios
    deciding: Sequence[NamedEvidence]  # the strongest evidence on each pair that meets the conditions
    others: Sequence[NamedEvidence]  # evidence that misses conditions
    factors: Sequence[RatioFactor]  # the last is the rest; empty for a claim that is no ratio of speeds
    counted: float | None  # of a claim on FLOPs, in its unit
    judgement: ClaimJudgement
    clip_costs: Sequence[str]  # sentences on the cheapest code of CLIP; empty for other claims

    def to_display_scale(self, found: Interval) -> Estimate:
        """Return an evidence as the card shows it: a ratio, or points of accuracy; without ends where it has none."""
        shown = (lambda one: one) if self.claim.metric == "accuracy" else math.exp
        low, high = (shown(one) if math.isfinite(one) else None for one in (found.low, found.high))
        return Estimate(shown(found.value), low, high, "")


def make_card(claim: PaperClaim, records: Iterable[Record]) -> ClaimCard:
    """Return the card of a claim from records."""
    rows, prediction = list(records), read_predictions()[claim.name]
    pairs: dict[PairName, Pair | None] = {"published": claim.experiments, "controlled": claim.controlled}
    found = [
        NamedEvidence(name, pair, one)
        for name, pair in pairs.items()
        if pair is not None
        for one in find_evidence(claim, pair, rows)
    ]
    meeting = {one.name: one for one in reversed(found) if not one.evidence.missed}
    published, controlled = (
        None if (one := meeting.get(name)) is None else one.evidence for name in ("published", "controlled")
    )
    others = [one for one in found if one.evidence.missed]
    is_on_clip = claim.metric == "cost" and claim.experiments_of(claim.experiments)[0].method == HEADLINE[0]
    counted = PERCENT * (1 / prediction.equal_sizes - 1) if claim.metric == "FLOPs" else None
    return ClaimCard(
        claim=claim,
        prediction=prediction,
        deciding=[*meeting.values()],
        others=others,
        factors=[] if claim.speed_ratio is None else build_factors(claim, prediction, controlled, published),
        counted=counted,
        judgement=_judge(claim, prediction, controlled, published, counted, others),
        clip_costs=[text for kind in KINDS.values() for text in kind.describe_cheapest_code(rows)]
        if is_on_clip
        else [],
    )


def build_factors(
    claim: PaperClaim, prediction: PredictedRatios, controlled: PairEvidence | None, published: PairEvidence | None
) -> list[RatioFactor]:
    """Return the factors of the published ratio: measured ones, then counted where not measured, then the rest.

    Their product is the published ratio. Evidence meets the conditions of the claim.
    """
    assert claim.speed_ratio is not None
    factors = [*_measured_factors(claim, controlled, published)]
    if published is None:
        counted = {} if factors else {METHOD: prediction.unpadded_equal_sizes}
        counted[PADDING] = prediction.equal_sizes / prediction.unpadded_equal_sizes
        counted[SIZES] = prediction.released_sizes / prediction.equal_sizes
        source = "counted FLOPs as released"
        factors += [
            RatioFactor(cause, value, None, None, "counted", source)
            for cause, value in counted.items()
            if abs(math.log(value)) >= SMALLEST_FACTOR
        ]
    rest = claim.speed_ratio / math.prod(one.value for one in factors)
    return [*factors, RatioFactor(REST, rest, None, None, "unexplained", "published over the product of the others")]


def _measured_factors(
    claim: PaperClaim, controlled: PairEvidence | None, published: PairEvidence | None
) -> Iterator[RatioFactor]:
    if published is not None and published.code:
        yield _measured_factor(f"the code of {published.code}", published.effect, published)
    elif published is not None and published.parts:
        for part in published.parts:
            yield _measured_factor(part.cause, part.log_ratio, published)
    elif published is not None and controlled is not None and published.fingerprint == controlled.fingerprint:
        yield _measured_factor(METHOD, controlled.effect, controlled)
        yield _measured_factor(OTHER_SETTINGS, _quotient(published.effect, controlled.effect), published)
    elif published is not None:
        yield _measured_factor("the pair as published" if claim.controlled else METHOD, published.effect, published)
    elif controlled is not None:
        yield _measured_factor(METHOD, controlled.effect, controlled)


def _measured_factor(cause: str, found: Interval, evidence: PairEvidence) -> RatioFactor:
    low, high = (math.exp(one) if math.isfinite(one) else None for one in (found.low, found.high))
    source = f"{evidence.comparison}, records {evidence.digest}"
    return RatioFactor(cause, math.exp(found.value), low, high, "measured", source)


def _quotient(numerator: Interval, denominator: Interval) -> Interval:
    """Return the logarithm of the quotient of two ratios from different runs, whose errors are independent."""
    value = numerator.value - denominator.value
    margin = math.hypot(numerator.high - numerator.value, denominator.high - denominator.value)
    return Interval(value, value - margin, value + margin)


def _judge(
    claim: PaperClaim,
    prediction: PredictedRatios,
    controlled: PairEvidence | None,
    published: PairEvidence | None,
    counted: float | None,
    others: Sequence[NamedEvidence],
) -> ClaimJudgement:
    """Judge by evidence that meets the conditions; without any, name a condition that the strongest other misses."""
    if claim.metric == "zero-shot accuracy":
        return _untestable("no tower is scored without training on the task: a classifier has no text tower")
    tolerance = CLAIM_ACCURACY_TOLERANCE if claim.metric == "accuracy" else CLAIM_TOLERANCE
    figure = PublishedFigure(claim.quantity, tolerance, claim.is_lower_bound)
    if counted is not None:
        exact = Interval(*[math.log(counted)] * 3)
        return judge_claim(figure, exact, exact, {})
    if others and published is None and controlled is None:
        first, *more = others[0].evidence.missed
        text = f"{first}; and {len(more)} more" if more else first
        return _untestable(f"no record meets the claim's conditions ({text})")
    as_published = None if published is None else published.effect
    by_method = as_published if claim.controlled is None else None if controlled is None else controlled.effect
    if by_method is None and published is not None:
        by_method = published.method_effect
    parts = published.parts if published is not None else ()
    causes = {part.cause: part.log_ratio.value for part in parts if not part.of_method}
    is_one_process = published is not None and max(published.processes) == 1
    least, largest = (prediction.communication if is_one_process else None) or (1.0, 1.0)
    found = judge_claim(figure, by_method, as_published, causes, (math.log(least), math.log(largest)))
    code = claim.conditions.code if claim.conditions is not None else ""
    if found.verdict == "not reproduced" and code and not (published is not None and published.code):
        return _untestable(f"only runs of the authors' code ({code}) reject it, and this project's code was timed")
    return found


def _untestable(reason: str) -> ClaimJudgement:
    return ClaimJudgement("not testable here because", reason)
