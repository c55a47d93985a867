"""A claim and records -> a card: predicted and measured ratios, the ladder to the published ratio, the verdict."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.claims.claims import PaperClaim, PredictedRatios, read_predictions
from bench.ladder import HEAD, PADDING, TEXT_TOWER
from bench.record import Record
from bench.statistics import (
    CLAIM_ACCURACY_TOLERANCE,
    CLAIM_TOLERANCE,
    ClaimJudgement,
    Estimate,
    Interval,
    PublishedFigure,
    judge_claim,
)
from reports.claims.evidence import PERCENT, PairEvidence, find_pair

Basis = Literal["measured", "predicted", "unexplained"]
REST = "not explained by anything measured here"
METHOD, OTHER_SETTINGS = "the method, all else equal", "the recipes' other settings"
METHOD_CAUSES = (PADDING, TEXT_TOWER, HEAD, METHOD)  # factors that are the method itself
SMALLEST_FACTOR = 0.001  # of a logarithm; a predicted factor below it is left out


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
class ClaimCard:
    """A claim with all that is known of it."""

    claim: PaperClaim
    prediction: PredictedRatios
    controlled_evidence: PairEvidence | None  # None: not measured, or the claim has one pair
    published_evidence: PairEvidence | None
    factors: Sequence[RatioFactor]  # the last is the rest; empty for a claim that is no ratio of speeds
    counted: float | None  # of a claim on FLOPs, in its unit
    judgement: ClaimJudgement

    @property
    def measured(self) -> list[tuple[str, tuple[str, str], PairEvidence]]:
        """The measured pairs: name, experiments and evidence."""
        pairs = (
            ("controlled", self.claim.controlled, self.controlled_evidence),
            ("published", self.claim.experiments, self.published_evidence),
        )
        return [(name, pair, found) for name, pair, found in pairs if pair is not None and found is not None]

    def in_unit(self, found: Interval) -> Estimate:
        """Return an evidence as the card shows it: a ratio, or points of accuracy; without ends where it has none."""
        shown = (lambda one: one) if self.claim.metric == "accuracy" else math.exp
        low, high = (shown(one) if math.isfinite(one) else None for one in (found.low, found.high))
        return Estimate(shown(found.value), low, high, "")


def make_card(claim: PaperClaim, records: Iterable[Record]) -> ClaimCard:
    """Return the card of a claim from records."""
    rows, prediction = list(records), read_predictions()[claim.name]
    published = find_pair(claim, claim.experiments, rows)
    controlled = find_pair(claim, claim.controlled, rows) if claim.controlled is not None else None
    counted = PERCENT * (1 / prediction.equal_sizes - 1) if claim.metric == "FLOPs" else None
    return ClaimCard(
        claim=claim,
        prediction=prediction,
        controlled_evidence=controlled,
        published_evidence=published,
        factors=[] if claim.speed_ratio is None else build_factors(claim, prediction, controlled, published),
        counted=counted,
        judgement=_judge(claim, prediction, controlled, published, counted),
    )


def build_factors(
    claim: PaperClaim, prediction: PredictedRatios, controlled: PairEvidence | None, published: PairEvidence | None
) -> list[RatioFactor]:
    """Return the factors of the published ratio: measured ones, then predicted where not measured, then the rest.

    Their product is the published ratio.
    """
    assert claim.speed_ratio is not None
    factors = [*_measured_factors(claim, controlled, published)]
    predicted = []
    if not factors:
        source = "counted FLOPs as released, at one image size"
        predicted.append(("FLOPs of the methods", prediction.equal_sizes, source))
    if published is None or not published.has_own_sizes:
        sizes = prediction.released_sizes / prediction.equal_sizes
        predicted.append(("image sizes of the recipes", sizes, "counted FLOPs as released"))
    if prediction.communication_factor is not None and (published is None or published.processes == 1):
        source = f"model of communication, {' and '.join(map(str, claim.gpus or ()))} {(claim.gpu or '').upper()}"
        predicted.append(("network", prediction.communication_factor, source))
    factors += [
        RatioFactor(cause, ratio, None, None, "predicted", source)
        for cause, ratio, source in predicted
        if abs(math.log(ratio)) >= SMALLEST_FACTOR
    ]
    rest = claim.speed_ratio / math.prod(one.value for one in factors)
    return [*factors, RatioFactor(REST, rest, None, None, "unexplained", "published over the product of the others")]


def _measured_factors(
    claim: PaperClaim, controlled: PairEvidence | None, published: PairEvidence | None
) -> Iterator[RatioFactor]:
    if published is not None and published.ladder_parts:
        for cause, found in published.ladder_parts:
            yield _measured_factor(cause, found, published)
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


def _quotient(one: Interval, other: Interval) -> Interval:
    """Return the logarithm of the quotient of two ratios from different runs, whose errors are independent."""
    value = one.value - other.value
    margin = math.hypot(one.high - one.value, other.high - other.value)
    return Interval(value, value - margin, value + margin)


def _judge(
    claim: PaperClaim,
    prediction: PredictedRatios,
    controlled: PairEvidence | None,
    published: PairEvidence | None,
    counted: float | None,
) -> ClaimJudgement:
    if claim.metric == "zero-shot accuracy":
        return _untestable("no tower is scored without training on the task: a classifier has no text tower")
    tolerance = CLAIM_ACCURACY_TOLERANCE if claim.metric == "accuracy" else CLAIM_TOLERANCE
    figure = PublishedFigure(claim.quantity, tolerance, claim.is_lower_bound)
    if counted is not None:
        exact = Interval(*[math.log(counted)] * 3)
        return judge_claim(figure, exact, exact, {})
    measured = [one for one in (published, controlled) if one is not None]
    obstacles = [_obstacle(claim, one) for one in measured]
    if measured and all(obstacles):
        return _untestable(obstacles[0] or "")
    published, controlled = (
        one if one is not None and _obstacle(claim, one) is None else None for one in (published, controlled)
    )
    as_published = None if published is None else published.effect
    by_method = as_published if claim.controlled is None else None if controlled is None else controlled.effect
    if by_method is None and published is not None:
        by_method = published.objective_effect
    parts = published.ladder_parts if published is not None else ()
    causes = {cause: found.value for cause, found in parts if cause not in METHOD_CAUSES}
    is_one_process = published is not None and published.processes == 1
    factor = prediction.communication_factor if is_one_process else None
    return judge_claim(figure, by_method, as_published, causes, math.log(factor) if factor else 0.0)


def _obstacle(claim: PaperClaim, found: PairEvidence) -> str | None:
    """Return why the records of a pair cannot decide a claim; None if they can."""
    if claim.metric != "accuracy" and not found.is_gpu:
        return "the records are of a CPU, and the claim is on accelerators"
    if found.is_disturbed:
        return "other work on the machine disturbed the runs"
    return f"the runs differ from the recipe in {found.changed_settings}" if found.changed_settings else None


def _untestable(reason: str) -> ClaimJudgement:
    return ClaimJudgement("not testable here because", reason)
